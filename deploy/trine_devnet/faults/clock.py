"""Runs a module under a clock that is wrong: `python -m trine_devnet.faults.clock 180 trine node serve …`.

What asks Python for the time of day is told so many seconds more, or fewer; how long a second is, stays right. What
libraries in C ask the system is not reached.
"""

from __future__ import annotations

import runpy
import sys
import time


def shift(seconds: int) -> None:
    """For this process, from now on."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + seconds * 10**9


def main() -> None:
    seconds, module, *arguments = sys.argv[1:]
    shift(int(seconds))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
