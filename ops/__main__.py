"""`python -m callboard.ops` is the command `callboard`."""

from callboard.ops.cli import main

main()
