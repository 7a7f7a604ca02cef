"""Settings of all tests."""

from hypothesis import settings

# Machines differ; no test is about time.
settings.register_profile("trine", deadline=None, print_blob=True)
settings.load_profile("trine")
