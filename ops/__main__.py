"""`python -m callboard.ops` is the command `callboard`."""

from callboard.ops.start import main

main()
