"""`python -m hostile [ATTACK …]`: attacks a farm while a victim records; ends with 1 if one was not held."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from hostile.attacks import ATTACKS, Attack, chosen
from hostile.report import Result, table
from hostile.scene import Scene, open_scene
from hostile.victim import recorded_victim
from hostile.watch import watched
from testkit.machine.processes import end_on_sigterm


def main() -> int:
    """Carry out attacks one after the other, each beside a victim of its own, and print the table."""
    parser = argparse.ArgumentParser(prog="hostile", description=__doc__)
    parser.add_argument(
        "attacks", nargs="*", choices=[[], *ATTACKS], metavar="ATTACK", help=", ".join(ATTACKS)
    )
    attacks = chosen(parser.parse_args().attacks)
    end_on_sigterm()
    directory = Path(tempfile.mkdtemp(prefix="farm-hostile-"))
    with open_scene(directory) as scene:
        results = [attack_once(name, attack, scene, directory) for name, attack in attacks.items()]
    print(*table(results), sep="\n")
    if not all(result.is_good for result in results):
        print(f"the farm's log and data are kept in {directory}")
        return 1
    shutil.rmtree(directory)
    return 0


def attack_once(name: str, attack: Attack, scene: Scene, directory: Path) -> Result:
    """One attack beside one victim."""
    print(f"{name} …", file=sys.stderr, flush=True)
    with watched(scene.farm) as felt, recorded_victim(scene.farm, scene.victim_pages, directory) as victim:
        outcome = attack.carry_out(scene)
    scene.end_all()
    return Result(name, outcome.seen, [*outcome.faults, *attack.judge(felt)], victim, felt)


if __name__ == "__main__":
    sys.exit(main())
