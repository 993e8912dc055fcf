"""`python -m raymlops` is the command line."""

from raymlops.cli import main

main()
