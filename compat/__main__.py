"""Try all, or what is named on the command line, and print a table in Markdown; exit code 1 if any fails."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from compat import janus, players
from compat.tried import Tried
from tests.processes import end_on_sigterm

TRIALS: dict[str, Callable[[Path], Iterator[Tried]]] = {
    "janus": janus.run,
    "players": players.run,
}


def main() -> int:
    """Print a row for each thing that was tried."""
    parser = argparse.ArgumentParser(prog="compat", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of: {' '.join(TRIALS)}")
    options = parser.parse_args()
    if unknown := set(options.names) - TRIALS.keys():
        parser.error(f"nothing is called {', '.join(sorted(unknown))}; there are {', '.join(TRIALS)}")
    end_on_sigterm()
    print("| what | version | result | seen |\n|---|---|---|---|", flush=True)
    works = True
    for name in options.names or TRIALS:
        with tempfile.TemporaryDirectory(prefix="farm-compat-", dir="/tmp") as directory:
            for tried in TRIALS[name](Path(directory)):
                print(tried.row(), flush=True)
                works = works and tried.works
    return 0 if works else 1


if __name__ == "__main__":
    sys.exit(main())
