"""The rooms of the built-in meeting: members, and the messages between them.

Rooms live in the memory of one process and are not stored: a room exists as long as it has members. Audio and
video go from browser to browser; only small, validated messages pass through here (see
`api.meeting.messages`). A member that sends too much or reads too slowly is disconnected.

A member whose connection breaks stays in the room for a grace period, because its audio and video may still
flow. When it reconnects in time, it keeps its id, and the others keep their connections to it.
"""

import asyncio
import json
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from recording_farm.api.http_errors import MeetingRefusedError
from recording_farm.api.meeting.ice import IceServers
from recording_farm.api.meeting.messages import (
    Beat,
    Clear,
    End,
    Media,
    OpenPlugin,
    RoomMessage,
    Signal,
    State,
    Stroke,
)

MAX_PEOPLE: Final = 8
"""In one room. Everybody sends to everybody else, so eight people are already 56 streams."""

MAX_RECORDERS: Final = 4
MAX_ROOMS: Final = 1000
MAX_FROM_ONE_ADDRESS: Final = 100
"""Members from one client address, in all rooms together; a school may share one address."""

MAX_BOARD_CHARACTERS: Final = 256 * 1024
"""Size of a room's drawing; beyond it, the oldest strokes are dropped."""

MAX_UNREAD_CHARACTERS: Final = 1024 * 1024
"""Size of one member's outbox, including the drawing; a member with more unread is disconnected."""

AWAY_SECONDS: Final = 30.0
"""Grace period in which a member may reconnect after its connection broke."""

_BURST_MESSAGES: Final = 300.0
_MESSAGES_A_SECOND: Final = 60.0
_BURST_CHARACTERS: Final = 1024 * 1024.0
_CHARACTERS_A_SECOND: Final = 128 * 1024.0


class Outbox:
    """Messages waiting to be sent to one member. It ends when the member must disconnect."""

    def __init__(self) -> None:
        """Start empty."""
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._news = asyncio.Event()
        self._ended = False

    def put(self, message: dict[str, Any]) -> None:
        """Add a message; an outbox over its limit ends instead."""
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
        self._characters += len(text)
        if self._characters > MAX_UNREAD_CHARACTERS:
            self._waiting.clear()
            self._ended = True
        if not self._ended:
            self._waiting.append(text)
        self._news.set()

    def end(self) -> None:
        """Accept no more messages; those waiting are still sent."""
        self._ended = True
        self._news.set()

    @property
    def ended(self) -> bool:
        """Whether the member must disconnect."""
        return self._ended

    async def get(self) -> str | None:
        """Wait for the next message; None when the outbox has ended."""
        while not self._waiting:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        text = self._waiting.popleft()
        self._characters -= len(text)
        return text


class Allowance:
    """Rate limit of one member: a burst, then a fixed amount per second."""

    def __init__(self, burst: float, a_second: float) -> None:
        """Start with the whole burst."""
        self._burst = burst
        self._a_second = a_second
        self._left = burst
        self._since = time.monotonic()

    def take(self, amount: float) -> bool:
        """Take `amount`; False when that exceeds the limit."""
        present = time.monotonic()
        self._left = min(self._burst, self._left + (present - self._since) * self._a_second) - amount
        self._since = present
        return self._left >= 0


@dataclass(eq=False)
class Member:
    """A member of a room: a person, who may be host, or a recorder, which is in no list of people."""

    id: str
    address: str
    name: str = ""
    host: bool = False
    recording: tuple[str, UUID] | None = None
    """The organization and id of the recording that a recorder makes; None for people."""
    paused: bool = False
    """Whether that recording is paused."""
    media: Media = field(default_factory=Media)
    away_since: float | None = None
    """The `time.monotonic` at which its connection broke; None while it is connected."""
    outbox: Outbox = field(default_factory=Outbox)
    messages: Allowance = field(default_factory=lambda: Allowance(_BURST_MESSAGES, _MESSAGES_A_SECOND))
    characters: Allowance = field(default_factory=lambda: Allowance(_BURST_CHARACTERS, _CHARACTERS_A_SECOND))

    @property
    def recorder(self) -> bool:
        """Whether this is a recorder."""
        return self.recording is not None

    def check_amount(self, text: str) -> None:
        """Count a received message. Raises MeetingRefusedError when the member sends too much."""
        if not (self.messages.take(1) and self.characters.take(len(text))):
            raise MeetingRefusedError("your browser sent too many messages to the meeting")

    def shown(self) -> dict[str, Any]:
        """Return what the others see of a person."""
        return {"id": self.id, "name": self.name, "media": self.media.model_dump()}


class Room:
    """One running meeting."""

    def __init__(self, ice_servers: IceServers) -> None:
        """`ice_servers` are the STUN and TURN servers that browsers use."""
        self.members: dict[str, Member] = {}
        self.ended = False
        self._ice_servers = ice_servers
        self._board: deque[str] = deque()
        self._board_characters = 0
        self._plugin: dict[str, Any] = {"kind": None, "url": None}
        self._recording = self._recording_state()

    @property
    def people(self) -> list[Member]:
        """The members that see each other."""
        return [member for member in self.members.values() if not member.recorder]

    @property
    def recorders(self) -> list[Member]:
        """The members that nobody sees."""
        return [member for member in self.members.values() if member.recorder]

    def enter(self, member: Member, resume: str) -> None:
        """Add a member, or reconnect one with the same id, and tell the others.

        `resume` is the token with which it may reconnect. Raises MeetingRefusedError when the room is full.
        """
        self._check_capacity(member)
        self._replace_old(member)
        self.members[member.id] = member
        member.outbox.put(self._welcome(member, resume))
        if member.recorder:
            self._tell({"type": "listener", "id": member.id}, but=member)
        else:
            self._tell({"type": "joined", "member": member.shown()}, but=member)
        self._tell_recording(but=member)

    def leave(self, member: Member) -> None:
        """Remove a member, and tell the others. Does nothing when its place was taken by a reconnect."""
        if self.members.get(member.id) is not member:
            return
        del self.members[member.id]
        self._tell({"type": "left", "id": member.id})
        self._tell_recording()

    def lose(self, member: Member, present: float) -> None:
        """Note that a member's connection broke at `present`: it may reconnect in the grace period."""
        if self.members.get(member.id) is member and member.away_since is None:
            member.away_since = present
            member.outbox.end()
            self._tell({"type": "away", "id": member.id})

    def expire(self, present: float) -> None:
        """Remove the members whose grace period is over."""
        for member in list(self.members.values()):
            if member.away_since is not None and present - member.away_since >= AWAY_SECONDS:
                self.leave(member)

    def pause(self, recorder: Member, paused: bool) -> None:
        """Note whether a recorder's recording is paused, and tell people when that changes the badge."""
        recorder.paused = paused
        self._tell_recording()

    def hear(self, member: Member, message: RoomMessage) -> None:
        """Do what a member's message says. The sender is known from its connection, not from the message."""
        match message:
            case State():
                member.media = message.media
                if not member.recorder:
                    self._tell({"type": "state", "member": member.shown()}, but=member)
            case Signal():
                self._pass_on(member, message)
            case Stroke() if not member.recorder:
                stroke = message.model_dump(include={"color", "points"})
                self._draw(stroke)
                self._tell({"type": "stroke", "stroke": stroke}, but=member)
            case Clear() if not member.recorder:
                self._board.clear()
                self._board_characters = 0
                self._tell({"type": "clear"}, but=member)
            case OpenPlugin() if not member.recorder:
                self._plugin = {"kind": message.kind, "url": message.url if message.kind == "page" else None}
                self._tell({"type": "plugin", **self._plugin})
            case End() if member.host:
                self.end()
            case Beat() | _:
                pass

    def end(self) -> None:
        """End the meeting for everyone."""
        self.ended = True
        for member in self.members.values():
            if member.away_since is None:
                _end_for(member)

    def _check_capacity(self, member: Member) -> None:
        others = [
            other for other in self.members.values() if other.id != member.id and other.away_since is None
        ]
        recorders = sum(other.recorder for other in others)
        if member.recorder and recorders >= MAX_RECORDERS:
            raise MeetingRefusedError(f"this meeting already has {MAX_RECORDERS} recordings at the same time")
        if not member.recorder and len(others) - recorders >= MAX_PEOPLE:
            raise MeetingRefusedError(f"this meeting is full: {MAX_PEOPLE} people are in it")

    def _replace_old(self, member: Member) -> None:
        """Disconnect the old connection of a member that reconnects, or of the same recording's old page."""
        old = self.members.get(member.id)
        if old is not None:
            old.outbox.end()
        for other in self.recorders:
            if other.recording == member.recording and other.id != member.id:
                other.outbox.end()
                self.leave(other)

    def _welcome(self, member: Member, resume: str) -> dict[str, Any]:
        others = [other for other in self.members.values() if other is not member]
        return {
            "type": "welcome",
            "id": member.id,
            "resume": resume,
            "host": member.host,
            "members": [other.shown() for other in others if not other.recorder],
            "listeners": [] if member.recorder else [other.id for other in others if other.recorder],
            "recording": self._recording_state(),
            "ice_servers": self._ice_servers.for_member(member.id, time.time()),
            "strokes": [json.loads(stroke) for stroke in self._board],
            "plugin": self._plugin,
        }

    def _recording_state(self) -> dict[str, bool]:
        recorders = self.recorders
        return {"on": bool(recorders), "paused": bool(recorders) and all(each.paused for each in recorders)}

    def _tell_recording(self, but: Member | None = None) -> None:
        state = self._recording_state()
        if state != self._recording:
            self._recording = state
            self._tell({"type": "recording", **state}, but=but)

    def _pass_on(self, member: Member, signal: Signal) -> None:
        other = self.members.get(signal.to)
        # Two recorders never connect to each other.
        if other is None or (other.recorder and member.recorder):
            return
        content = signal.model_dump(include={"description", "candidate"}, exclude_none=True)
        other.outbox.put({"type": "signal", "from": member.id, **content})

    def _draw(self, stroke: dict[str, Any]) -> None:
        rounded = [[round(x, 4), round(y, 4)] for x, y in stroke["points"]]
        text = json.dumps(stroke | {"points": rounded}, separators=(",", ":"))
        self._board.append(text)
        self._board_characters += len(text)
        while self._board_characters > MAX_BOARD_CHARACTERS:
            self._board_characters -= len(self._board.popleft())

    def _tell(self, message: dict[str, Any], but: Member | None = None) -> None:
        for member in self.members.values():
            if member is not but:
                member.outbox.put(message)


def _end_for(member: Member) -> None:
    member.outbox.put({"type": "ended"})
    member.outbox.end()


@dataclass
class Recorder:
    """A recorder's connection: its room, and the time of its last message (of `time.monotonic`)."""

    room: Room
    member: Member
    heard: float = field(default_factory=time.monotonic)


class Rooms:
    """All rooms of this process, by meeting id."""

    def __init__(self, ice_servers: IceServers) -> None:
        """`ice_servers` are the STUN and TURN servers that browsers use."""
        self.recorders: dict[str, Recorder] = {}
        """By the secrets with which they send."""
        self._rooms: dict[str, Room] = {}
        self._ice_servers = ice_servers

    @property
    def connections(self) -> list[tuple[str, Room, Member]]:
        """All members with their meeting ids and rooms."""
        return [
            (meeting_id, room, member)
            for meeting_id, room in self._rooms.items()
            for member in room.members.values()
        ]

    def enter(self, meeting_id: str, member: Member, resume: str) -> Room:
        """Put a member into its meeting's room, see `Room.enter`. Raises MeetingRefusedError."""
        room = self._rooms.get(meeting_id)
        if room is not None and room.ended:
            if member.id in room.members:
                _end_for(member)
                return room
            room = None
        if room is None and meeting_id not in self._rooms and len(self._rooms) >= MAX_ROOMS:
            raise MeetingRefusedError(f"this server has reached its limit of {MAX_ROOMS} meetings")
        from_address = sum(
            other.address == member.address and other.id != member.id for _, _, other in self.connections
        )
        if from_address >= MAX_FROM_ONE_ADDRESS:
            raise MeetingRefusedError("too many people have joined from your network address")
        room = room or Room(self._ice_servers)
        room.enter(member, resume)
        self._rooms[meeting_id] = room
        return room

    def people_in(self, meeting_id: str) -> int:
        """How many people are in a meeting; recorders do not count."""
        room = self._rooms.get(meeting_id)
        return len(room.people) if room else 0

    def leave(self, meeting_id: str, member: Member) -> None:
        """Remove a member from its room; an empty room is deleted."""
        self._change(meeting_id, lambda room: room.leave(member))

    def lose(self, meeting_id: str, member: Member, present: float) -> None:
        """Note that a member's connection broke, see `Room.lose`."""
        self._change(meeting_id, lambda room: room.lose(member, present))

    def expire(self, present: float) -> None:
        """Remove all members whose grace period is over."""
        for meeting_id in list(self._rooms):
            self._change(meeting_id, lambda room: room.expire(present))

    def _change(self, meeting_id: str, change: Callable[[Room], None]) -> None:
        room = self._rooms.get(meeting_id)
        if room is None:
            return
        change(room)
        if not room.members:
            del self._rooms[meeting_id]


def new_member_id() -> str:
    """Return a random member id."""
    return secrets.token_hex(8)
