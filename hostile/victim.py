"""The recording of another organization that goes on while something attacks the farm."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testkit.fidelity.measure import Fidelity, measure
from testkit.running_farm import RunningFarm, takes_of


@dataclass
class Victim:
    """A recording of the fidelity page; `recording` and `fidelity` are known once it is over."""

    recording: dict[str, Any]
    fidelity: Fidelity | None = None

    @property
    def was_kept(self) -> bool:
        """Whether it was uploaded and plays, in one take, or in more because the encoder was too slow."""
        return (
            self.recording["status"] == "UPLOADED"
            and takes_of(self.recording) == 1
            and self.fidelity is not None
        )

    @property
    def frames_lost(self) -> int | None:
        """Frames of the page that are not in the file; the first second does not count."""
        return None if self.fidelity is None else self.fidelity.after(1).missing


@contextmanager
def recorded_victim(farm: RunningFarm, pages: str, directory: Path) -> Iterator[Victim]:
    """Record for as long as the body takes; then stop, fetch the file and read it."""
    started = farm.start(url=f"{pages}/page.html", meeting_id="victim", video_config={"codec": "H264"})
    farm.wait_for(started["id"], "RECORDING", timeout=180)
    victim = Victim(started)
    yield victim
    answer = farm.client.put(f"/v2/recordings/{started['id']}", json={"action": "stop"})
    victim.recording = farm.answer(farm.client.get(f"/v2/recordings/{started['id']}"))
    if answer.is_success:
        victim.recording = farm.wait_for(started["id"], "UPLOADED", "ERRORED")
    if victim.recording["status"] == "UPLOADED":
        file = farm.download(victim.recording, directory / "victim.mp4")
        victim.fidelity = measure(file)
        file.unlink()
