"""`python -m trine`: the same as the `trine` command."""

from trine.cli import main

main()
