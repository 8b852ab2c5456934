"""Messages that participants of the built-in meeting send, validated field by field.

A hostile client may send anything: every string and every list has a maximum length.
"""

import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter
from pydantic_core import PydanticCustomError

MAX_MESSAGE: Final = 64 * 1024
"""Characters. A session description with eight tracks has about 20 000 (measured with Chromium)."""


def _printable(name: str) -> str:
    # The page shows a name as text only, but invisible characters could still mislead.
    if not name.isprintable():
        raise PydanticCustomError("printable", "must be printable characters")
    return name


def _page(url: str) -> str:
    # Every browser opens it in a sandbox. In the recorder's browser the farm's address rule applies too.
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise PydanticCustomError("url", "must be an http or https URL without a user name")
    if not re.fullmatch(r"[!-~\u00a1-\uffff]+", url):
        raise PydanticCustomError("url", "must not hold spaces or control characters")
    return url


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=40, strip_whitespace=True),
    AfterValidator(_printable),
]
MemberId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,32}$")]
ResumeToken = Annotated[str, StringConstraints(max_length=256)]
StreamId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9{}_-]{1,64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
"""A position on the whiteboard, as a fraction of its width or height."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Media(_Message):
    """The media of a member: whether audio and video are on, and the stream ids of camera and screen."""

    audio: bool = False
    video: bool = False
    camera: StreamId | None = None
    screen: StreamId | None = None


class Join(_Message):
    """The first message of a member. `token` makes them host; `resume` restores who they were."""

    type: Literal["join"]
    name: Name
    media: Media = Media()
    token: Annotated[str, StringConstraints(max_length=1024)] | None = None
    resume: ResumeToken | None = None


class RecorderJoin(_Message):
    """The body with which a recorder opens its event stream; `resume` restores its member id."""

    resume: ResumeToken | None = None


class State(_Message):
    """The new state of a member's media."""

    type: Literal["state"]
    media: Media


class Description(_Message):
    """A session description (RTCSessionDescriptionInit)."""

    type: Literal["offer", "answer"]
    sdp: Annotated[str, StringConstraints(max_length=60_000)]


class Candidate(_Message):
    """An ICE candidate (RTCIceCandidateInit)."""

    candidate: Annotated[str, StringConstraints(max_length=1024)]
    sdpMid: Annotated[str, StringConstraints(max_length=64)] | None = None  # noqa: N815 - WebRTC's names
    sdpMLineIndex: Annotated[int, Field(ge=0, le=255)] | None = None  # noqa: N815
    usernameFragment: Annotated[str, StringConstraints(max_length=256)] | None = None  # noqa: N815


class Signal(_Message):
    """A message for the peer connection with one other member."""

    type: Literal["signal"]
    to: MemberId
    description: Description | None = None
    candidate: Candidate | None = None


class Stroke(_Message):
    """A part of a line on the whiteboard. A long line arrives in several parts while it is drawn."""

    type: Literal["stroke"]
    color: Literal["ink", "blue", "red", "green"]
    points: Annotated[list[tuple[Share, Share]], Field(min_length=1, max_length=64)]


class Clear(_Message):
    """Clear the whiteboard."""

    type: Literal["clear"]


class OpenPlugin(_Message):
    """Show the whiteboard or a page to everyone, or close it."""

    type: Literal["plugin"]
    kind: Literal["whiteboard", "page"] | None
    url: Annotated[str, StringConstraints(max_length=2048), AfterValidator(_page)] | None = None


class End(_Message):
    """End the meeting for everyone; only a host may."""

    type: Literal["end"]


class Beat(_Message):
    """A heartbeat, the answer to the server's."""

    type: Literal["beat"]


RoomMessage = Annotated[
    State | Signal | Stroke | Clear | OpenPlugin | End | Beat, Field(discriminator="type")
]

_ROOM_MESSAGE: Final[TypeAdapter[Any]] = TypeAdapter(RoomMessage)


def parse_message(text: str) -> RoomMessage:
    """Parse a message of a member. Raises pydantic.ValidationError."""
    message: RoomMessage = _ROOM_MESSAGE.validate_json(text)
    return message
