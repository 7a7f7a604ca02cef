"""Settings of all tests."""

import os

from hypothesis import settings

# The kernels for GPUs are interpreted on the CPU; Triton reads this when it is imported.
os.environ["TRITON_INTERPRET"] = "1"

# Machines differ; no test is about time.
settings.register_profile("trine", deadline=None, print_blob=True)
settings.load_profile("trine")
