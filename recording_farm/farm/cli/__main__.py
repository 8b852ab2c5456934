"""`python -m recording_farm.farm.cli` is the command `farm`."""

from recording_farm.farm.cli.main import main

main()
