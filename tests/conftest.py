"""Settings of all tests."""

import os
import sys

from hypothesis import settings

# Tests start processes that import torch: without bytecode on disk each of them compiles it anew, for ten seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The kernels for GPUs are interpreted on the CPU; Triton reads this when it is imported.
os.environ["TRITON_INTERPRET"] = "1"

# Machines differ; no test is about time.
settings.register_profile("trine", deadline=None, print_blob=True)
settings.load_profile("trine")
