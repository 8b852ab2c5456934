"""What a recorder tells: that a take began or ended, and how the recording has ended."""

from dataclasses import dataclass
from enum import StrEnum

from recording_farm.browser_bot.page.rejoining import PageEvent
from recording_farm.encoder.journal import Journal
from recording_farm.farm.recording.findings import Finding


class EndReason(StrEnum):
    """Why a recording ended."""

    STOPPED = "STOPPED"
    MAX_DURATION = "MAX_DURATION"
    PAGE_ENDED = "PAGE_ENDED"
    SHUTDOWN = "SHUTDOWN"
    """The node was shut down."""
    DISK_FULL = "DISK_FULL"
    """The node's disk is nearly full."""
    ALL_PEERS_LEFT = "ALL_PEERS_LEFT"
    """Nobody was in the meeting any more."""
    FAULT = "FAULT"


@dataclass(frozen=True)
class Outcome:
    """How a recording ended: why, the fault in words if it was one, and if this node recorded anything."""

    reason: EndReason
    fault: str | None
    started: bool


class Listener:
    """Hears what happens to a recording, as it happens. A subclass defines what it wants to hear."""

    async def recording(self, take: Journal) -> None:
        """A take has begun."""

    async def take_ended(self, take: Journal) -> None:
        """A take has ended, by an order, by its death or with the recording."""

    async def paused(self) -> None:
        """The last take has ended and the next one waits for a resume."""

    async def broken(self, fault: str) -> None:
        """Something broke; the recording goes on with a new take."""

    async def finding_began(self, finding: Finding) -> None:
        """The monitor has found something."""

    async def finding_ended(self, finding: Finding, seconds: float) -> None:
        """What it had found is over, after so many seconds."""

    async def page_event(self, event: PageEvent) -> None:
        """The page did something, or something was done with it, that explains what is seen."""

    async def company_came(self) -> None:
        """Somebody is in the meeting; it is told once."""

    async def ended(self, outcome: Outcome) -> None:
        """The last take is closed; the stage still stands."""
