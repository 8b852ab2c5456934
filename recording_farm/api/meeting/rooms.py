"""The rooms of the built-in meeting: who is where, and who is told what.

Rooms are in the memory of one process, and nothing of them is kept: a room is there as long as somebody is in
it. Sound and picture go from browser to browser; what passes here are small messages, checked before they
come (see `api.meeting.messages`). Who sends too much or reads too slowly is put out.
"""

import asyncio
import json
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from recording_farm.api.http_errors import MeetingRefusedError
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
"""In one room: each sends to each other, so eight are 56 streams already."""

MAX_RECORDERS: Final = 4
MAX_ROOMS: Final = 1000
MAX_FROM_ONE_ADDRESS: Final = 100
"""Members from one client address, in all rooms together; a school may have one address for all."""

MAX_BOARD_CHARACTERS: Final = 256 * 1024
"""Of a room's drawing; then the oldest strokes go."""

MAX_UNREAD_CHARACTERS: Final = 1024 * 1024
"""Of what waits to be sent to one member, with the drawing; whoever has more waiting is not reading."""

_BURST_MESSAGES: Final = 300.0
_MESSAGES_A_SECOND: Final = 60.0
_BURST_CHARACTERS: Final = 1024 * 1024.0
_CHARACTERS_A_SECOND: Final = 128 * 1024.0


class Outbox:
    """What waits to be sent to one member. It ends when the member is put out, or the meeting is over."""

    def __init__(self) -> None:
        """Empty."""
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._news = asyncio.Event()
        self._ended = False

    def put(self, message: dict[str, Any]) -> None:
        """Add a message; an outbox that is too full ends instead."""
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
        self._characters += len(text)
        if self._characters > MAX_UNREAD_CHARACTERS:
            self._waiting.clear()
            self._ended = True
        if not self._ended:
            self._waiting.append(text)
        self._news.set()

    def end(self) -> None:
        """Nothing is added any more; what waits is still sent."""
        self._ended = True
        self._news.set()

    async def get(self) -> str | None:
        """The next message, or None when the outbox has ended."""
        while not self._waiting:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        text = self._waiting.popleft()
        self._characters -= len(text)
        return text


class Allowance:
    """How much one member may send: a burst, and so much a second afterwards."""

    def __init__(self, burst: float, a_second: float) -> None:
        """The whole burst is there at the beginning."""
        self._burst = burst
        self._a_second = a_second
        self._left = burst
        self._since = time.monotonic()

    def take(self, amount: float) -> bool:
        """Whether `amount` is allowed now."""
        present = time.monotonic()
        self._left = min(self._burst, self._left + (present - self._since) * self._a_second) - amount
        self._since = present
        return self._left >= 0


@dataclass(eq=False)
class Member:
    """Somebody in a room. A `recorder` is in no list; a `host` may end the meeting."""

    id: str
    address: str
    name: str = ""
    recorder: bool = False
    host: bool = False
    media: Media = field(default_factory=Media)
    outbox: Outbox = field(default_factory=Outbox)
    messages: Allowance = field(default_factory=lambda: Allowance(_BURST_MESSAGES, _MESSAGES_A_SECOND))
    characters: Allowance = field(default_factory=lambda: Allowance(_BURST_CHARACTERS, _CHARACTERS_A_SECOND))

    def check_amount(self, text: str) -> None:
        """Count a message that came. Raises MeetingRefusedError when it is too much."""
        if not (self.messages.take(1) and self.characters.take(len(text))):
            raise MeetingRefusedError("your browser has sent too much to the meeting")

    def shown(self) -> dict[str, Any]:
        """What the others know of a person."""
        return {"id": self.id, "name": self.name, "media": self.media.model_dump()}


class Room:
    """One meeting that is going on."""

    def __init__(self, ice_servers: tuple[str, ...] = ()) -> None:
        """`ice_servers` are the URLs of STUN servers that browsers are told."""
        self.members: dict[str, Member] = {}
        self._ice_servers = ice_servers
        self._board: deque[str] = deque()
        self._board_characters = 0
        self._plugin: dict[str, Any] = {"kind": None, "url": None}

    @property
    def people(self) -> list[Member]:
        """Those who see each other."""
        return [member for member in self.members.values() if not member.recorder]

    @property
    def recorders(self) -> list[Member]:
        """Those whom nobody sees."""
        return [member for member in self.members.values() if member.recorder]

    def enter(self, member: Member) -> None:
        """Welcome somebody, and tell the others. Raises MeetingRefusedError when the room is full."""
        if member.recorder:
            if len(self.recorders) >= MAX_RECORDERS:
                raise MeetingRefusedError("this meeting is recorded by as many as can be")
        elif len(self.people) >= MAX_PEOPLE:
            raise MeetingRefusedError(f"this meeting is full: {MAX_PEOPLE} people are in it")
        member.outbox.put(self._welcome(member))
        self.members[member.id] = member
        if member.recorder:
            self._tell({"type": "listener", "id": member.id}, but=member)
            self._tell({"type": "recording", "on": True}, but=member)
        else:
            self._tell({"type": "joined", "member": member.shown()}, but=member)

    def leave(self, member: Member) -> None:
        """Forget somebody, and tell the others."""
        if self.members.pop(member.id, None) is None:
            return
        self._tell({"type": "left", "id": member.id})
        if member.recorder and not self.recorders:
            self._tell({"type": "recording", "on": False})

    def hear(self, member: Member, message: RoomMessage) -> None:
        """Do what a member says. Who it is from is known here, and not what the message says."""
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
        """The meeting is over for all."""
        self._tell({"type": "ended"})
        for member in self.members.values():
            member.outbox.end()

    def _welcome(self, member: Member) -> dict[str, Any]:
        return {
            "type": "welcome",
            "id": member.id,
            "host": member.host,
            "members": [other.shown() for other in self.people],
            "listeners": [] if member.recorder else [other.id for other in self.recorders],
            "recording": bool(self.recorders),
            "ice_servers": [{"urls": url} for url in self._ice_servers],
            "strokes": [json.loads(stroke) for stroke in self._board],
            "plugin": self._plugin,
        }

    def _pass_on(self, member: Member, signal: Signal) -> None:
        other = self.members.get(signal.to)
        # Recorders have nothing to say to each other.
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


@dataclass
class Recorder:
    """A recorder's browser: where it is, and when it last gave a sign of life (of `time.monotonic`)."""

    room: Room
    member: Member
    heard: float = field(default_factory=time.monotonic)


class Rooms:
    """All rooms of this process, by the meeting's id."""

    def __init__(self, ice_servers: tuple[str, ...] = ()) -> None:
        """`ice_servers` are the URLs of STUN servers that browsers are told."""
        self.recorders: dict[str, Recorder] = {}
        """By the secrets with which they send."""
        self._rooms: dict[str, Room] = {}
        self._ice_servers = ice_servers

    def enter(self, meeting_id: str, member: Member) -> Room:
        """The room that a member is in from now on. Raises MeetingRefusedError."""
        room = self._rooms.get(meeting_id) or Room(self._ice_servers)
        if meeting_id not in self._rooms and len(self._rooms) >= MAX_ROOMS:
            raise MeetingRefusedError("there are as many meetings here as there can be")
        present = (other for each in self._rooms.values() for other in each.members.values())
        if sum(other.address == member.address for other in present) >= MAX_FROM_ONE_ADDRESS:
            raise MeetingRefusedError("there are too many people from your address here")
        room.enter(member)
        self._rooms[meeting_id] = room
        return room

    def people_in(self, meeting_id: str) -> int:
        """How many people are in a meeting; recorders do not count."""
        room = self._rooms.get(meeting_id)
        return len(room.people) if room else 0

    def leave(self, meeting_id: str, member: Member) -> None:
        """Take a member out of its room; the last one takes the room along."""
        room = self._rooms.get(meeting_id)
        if room is None:
            return
        room.leave(member)
        if not room.members:
            del self._rooms[meeting_id]


def new_member_id() -> str:
    """An id that nobody had before."""
    return secrets.token_hex(8)
