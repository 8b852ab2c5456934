"""Run all benchmarks, or those named on the command line, and print their figures as Markdown."""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import api, fidelity, load, peer, service, storage, webhooks

BENCHMARKS: dict[str, Callable[[Path], Iterator[str]]] = {
    "fidelity": fidelity.run,
    "pause": fidelity.run_pause,
    "service": service.run,
    "webhooks": webhooks.run,
    "api": api.run,
    "storage": storage.run,
    "load": load.run,
    "two": load.run_two,
    "peer": peer.run,
}


def main(names: list[str]) -> int:
    """Run the benchmarks called `names`, all if there are none."""
    unknown = set(names) - BENCHMARKS.keys()
    if unknown:
        print(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
        return 2
    for name in names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="farm-bench-") as directory:
            print(f"\n### {name}\n", flush=True)
            for line in BENCHMARKS[name](Path(directory)):
                print(f"- {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
