"""Waiting for what processes bring about."""

import time


def eventually(done, what, timeout=120.0):
    """What `done` says, as soon as it says something; it is asked until then."""
    deadline = time.monotonic() + timeout
    while not (found := done()):
        assert time.monotonic() < deadline, f"waited {timeout:.0f} s for {what}"
        time.sleep(0.1)
    return found
