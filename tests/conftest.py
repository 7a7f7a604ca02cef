"""Settings of all tests."""

import os
import signal
import sys

from hypothesis import settings

# Tests start processes that import torch: without bytecode on disk each of them compiles it anew, for ten seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What a script starts in its background ignores Ctrl-C, and so would all that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The kernels for GPUs are interpreted on the CPU; Triton reads this when it is imported.
os.environ["TRITON_INTERPRET"] = "1"

# Machines differ; no test is about time.
settings.register_profile("trine", deadline=None, print_blob=True)
settings.load_profile("trine")
