"""What an attack has to work with: a running farm, an attacker's key, pages, inside hosts."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from testkit.network.resolvers import cannot_have_a_resolver, silent_resolver
from testkit.pages import FIDELITY_PAGE, serve_pages
from testkit.running_farm import RunningFarm, running_farm

PAGES = Path(__file__).parent / "pages"

PUBLIC = "127.0.0.2"
"""Where strangers' servers are; recorded pages may reach it. Everything else of the loopback is inside."""

SLOTS = 2
STAGE_MEMORY = 1500 << 20


@dataclass(frozen=True)
class Scene:
    """A farm of two organizations. `umbra` is the attacker's client; `farm` has the victim's.

    `pages` are the attacker's pages, `victim_pages` has the one that the victim records. With `dead_names` no
    resolver answers. `seconds` is how long an attack lasts: 15 would fill the disk and the memory of a
    machine. `starts` is how often the attack that starts and stops does so.
    """

    farm: RunningFarm
    umbra: httpx.Client
    pages: str
    victim_pages: str
    dead_names: bool
    seconds: float
    starts: int

    def record(self, page: str, **wanted: Any) -> dict[str, Any]:
        """Start the attacker's recording of one of its pages."""
        body = {"url": f"{self.pages}/{page}", "meeting_id": page, **wanted}
        return self.farm.answer(self.umbra.post("/v2/recordings", json=body))

    def look_at(self, recording_id: str) -> dict[str, Any]:
        """The attacker's recording as the API shows it."""
        return self.farm.answer(self.umbra.get(f"/v2/recordings/{recording_id}"))

    def stages(self) -> list[str]:
        """The names of the directories that the farm's stages have."""
        return sorted(path.name for path in (self.farm.data_dir.parent / "t").glob("farm-stage-*"))

    def end_all(self) -> None:
        """Stop all that the attacker has started."""
        unfinished = "/v2/recordings?status=INVOKED,RECORDING,PAUSED&per_page=100"
        while running := self.umbra.get(unfinished).json()["data"]:
            for recording in running:
                self.umbra.put(f"/v2/recordings/{recording['id']}", json={"action": "stop"})


@contextmanager
def open_scene(directory: Path, *, seconds: float = 15.0, starts: int = 100) -> Iterator[Scene]:
    """Start the farm; as root with a resolver that never answers. For the numbers see `Scene`."""
    settings = {
        "FARM_API_KEYS": "acme:key,umbra:other",
        "FARM_ALLOW_PRIVATE_ADDRESSES": PUBLIC,
        "FARM_SLOTS": str(SLOTS),
        "FARM_STAGE_MEMORY": str(STAGE_MEMORY),
        "FARM_RATE_LIMIT": "0",
        "FARM_LOG_LEVEL": "info",
    }
    # Short: the paths of sockets are below it, and have 107 bytes at most.
    (directory / "t").mkdir()
    settings["TMPDIR"] = str(directory / "t")
    dead_names = cannot_have_a_resolver() is None
    with ExitStack() as stack:
        pages = stack.enter_context(serve_pages(PAGES, PUBLIC))
        victim_pages = stack.enter_context(serve_pages(FIDELITY_PAGE.parent, PUBLIC))
        words: Sequence[str] = ()
        if dead_names:
            # A machine knows its own name without asking.
            known = {"localhost": "127.0.0.1", socket.gethostname(): "127.0.0.1"}
            words = stack.enter_context(silent_resolver(directory, known))
        farm = stack.enter_context(running_farm(directory / "data", words, **settings))
        umbra = stack.enter_context(httpx.Client(base_url=farm.address, auth=("umbra", "other"), timeout=60))
        yield Scene(farm, umbra, pages, victim_pages, dead_names, seconds, starts)
