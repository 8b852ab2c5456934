"""The events of a recorder: takes that start and end, findings, and how the recording ended."""

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
    """Everybody had left the meeting."""
    FAULT = "FAULT"


@dataclass(frozen=True)
class Outcome:
    """How a recording ended: why, the sentence of the failure if any, and if this node recorded anything."""

    reason: EndReason
    fault: str | None
    started: bool


class Listener:
    """Receives the events of a recording as they happen. A subclass overrides those that it needs."""

    async def recording(self, take: Journal) -> None:
        """A take has started."""

    async def take_ended(self, take: Journal) -> None:
        """A take has ended, by a command, by a failure or with the recording."""

    async def paused(self) -> None:
        """The last take has ended and the next one waits for a resume."""

    async def broken(self, fault: str) -> None:
        """Something failed; the recording continues with a new take."""

    async def finding_began(self, finding: Finding) -> None:
        """A finding of the monitor has started."""

    async def finding_ended(self, finding: Finding, seconds: float) -> None:
        """A finding has ended, after so many seconds."""

    async def page_event(self, event: PageEvent) -> None:
        """The page navigated, reloaded or was joined again."""

    async def participant_joined(self) -> None:
        """Somebody is in the meeting; called once."""

    async def ended(self, outcome: Outcome) -> None:
        """The last take is closed; the stage is still open."""
