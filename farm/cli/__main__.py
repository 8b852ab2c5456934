"""`python -m farm.cli` is the command `farm`."""

from farm.cli.main import main

main()
