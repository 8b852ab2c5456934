"""The table of what the victim felt, attack by attack."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hostile.victim import Victim
from hostile.watch import Felt


@dataclass(frozen=True)
class Result:
    """One attack: what became of it and what the victim and the machine felt.

    `faults` are sentences; without one the attack was held.
    """

    name: str
    seen: str
    faults: Sequence[str]
    victim: Victim
    felt: Felt

    @property
    def is_good(self) -> bool:
        """Whether nothing broke a bound."""
        return not self.all_faults

    @property
    def all_faults(self) -> list[str]:
        """Those of the attack and of the victim."""
        mine = [] if self.victim.was_kept else [f"the victim is {_end(self.victim)}"]
        return [*mine, *self.faults]


def table(results: Sequence[Result]) -> Iterator[str]:
    """A line for each attack, then the count. Bytes are in MB (10^6)."""
    yield (
        f"{'attack':<12} {'victim':<9} {'lost':>4} {'A/V ms':>7} {'API ms':>7} {'memory':>7} {'disk':>6} "
        f"{'processes':>9}  what became of it"
    )
    for result in results:
        yield _line(result)
    held = sum(result.is_good for result in results)
    yield f"{held} of {len(results)} attacks were held"


def _line(result: Result) -> str:
    victim, felt = result.victim, result.felt
    fidelity = victim.fidelity
    offset = "" if fidelity is None or not fidelity.offsets else f"{1e3 * fidelity.mean_offset:+.1f}"
    lost = "" if victim.frames_lost is None else str(victim.frames_lost)
    words = "; ".join([result.seen, *(f"NOT HELD: {fault}" for fault in result.all_faults)])
    return (
        f"{result.name:<12} {victim.recording['status']:<9} {lost:>4} {offset:>7} {felt.answer_ms:>7.0f} "
        f"{felt.memory / 1e6:>7.0f} {felt.disk / 1e6:>6.0f} {felt.processes:>9}  {words}"
    )


def _end(victim: Victim) -> str:
    recording = victim.recording
    error = (recording.get("error") or {}).get("code", "")
    takes = (recording.get("quality") or {}).get("takes", 0)
    return " ".join(filter(None, (recording["status"], error, f"in {takes} takes" if takes > 1 else "")))
