"""Run all benchmarks, or those named on the command line, and print their figures as Markdown."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import (
    api,
    fidelity,
    finish,
    load,
    peer,
    profiles,
    service,
    soak,
    storage,
    uploading,
    webhooks,
)
from testkit.machine.processes import end_on_sigterm

Benchmark = Callable[[Path], Iterator[str]]

BENCHMARKS: dict[str, Benchmark] = {
    "fidelity": fidelity.run,
    "pause": fidelity.run_pause,
    "uploading": uploading.run,
    "service": service.run,
    "finish": finish.run,
    "webhooks": webhooks.run,
    "api": api.run,
    "storage": storage.run,
    "load": load.run,
    "two": load.run_two,
    "profiles": profiles.run,
    "peer": peer.run,
}


def main() -> int:
    """Run the benchmarks that are named, all but the soak if none is."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of: {' '.join(BENCHMARKS)} soak")
    parser.add_argument("--hours", type=float, default=soak.HOURS, help="how long the soak records")
    options = parser.parse_args()
    known: dict[str, Benchmark] = BENCHMARKS | {"soak": partial(soak.run, hours=options.hours)}
    if unknown := set(options.names) - known.keys():
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    end_on_sigterm()
    for name in options.names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix="farm-bench-") as directory:
            print(f"\n### {name}\n", flush=True)
            for line in known[name](Path(directory)):
                print(f"- {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
