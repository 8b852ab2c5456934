"""`python -m chaos`: ends with 1 unless every recording is uploaded and plays, and nothing is left over."""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from random import SystemRandom

from chaos.faults import FAULTS
from chaos.plan import Choices, Plan, draw_plan
from chaos.report import table
from chaos.run import Run
from chaos.storages import CUSTOMERS, STORES
from testkit.machine.processes import end_on_sigterm


def main() -> int:
    """Draw a plan, show it, run it, and tell what came of it."""
    options = _options()
    end_on_sigterm()
    seed = SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    # At least one for `farm up`, and one for the other node.
    slots = max(2, os.cpu_count() or 1)
    choices = Choices(tuple(FAULTS), tuple(STORES), tuple(CUSTOMERS))
    plan = draw_plan(seed, options.recordings, options.seconds, slots, choices)
    _show(plan, slots)
    data_dir = Path(tempfile.mkdtemp(prefix="farm-chaos-"))
    run = Run(plan, data_dir, slots)
    results = asyncio.run(run.results())
    print()
    print(*table(results, run.struck, run.unfinished), sep="\n")
    if run.unfinished or not all(result.is_good for result in results):
        print(f"what there is to look at is kept in {data_dir}")
        return 1
    shutil.rmtree(data_dir)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--recordings", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=600, help="how long things break")
    parser.add_argument("--seed", type=int, help="that of a run before, for the same plan")
    return parser.parse_args()


def _show(plan: Plan, slots: int) -> None:
    print(
        f"seed {plan.seed}: {len(plan.recordings)} recordings on {slots} slots, {len(plan.faults)} faults, "
        f"store {plan.store}"
    )
    for recording in plan.recordings:
        pause = f", paused after {recording.pause_after:.0f} s" if recording.pause_after is not None else ""
        end = "ended by a command" if recording.by_order else "ends by itself"
        place = f", to {recording.customer} too" if recording.customer is not None else ""
        print(f"  {recording.meeting}: {recording.seconds} s{pause}, {end}{place}")
    for fault in plan.faults:
        print(f"  at {fault.at:.0f} s: {fault.name}")
    print(flush=True)


if __name__ == "__main__":
    sys.exit(main())
