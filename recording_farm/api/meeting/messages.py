"""What participants of the built-in meeting send to it, checked field by field.

A hostile client may send anything: every text has a greatest length, every list a greatest number.
"""

import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter
from pydantic_core import PydanticCustomError

MAX_MESSAGE: Final = 64 * 1024
"""Characters; a session description of eight tracks has about 20 000 (measured with Chromium)."""


def _printable(name: str) -> str:
    # In the page a name is text and nothing else; what cannot be seen would still be there to mislead.
    if not name.isprintable():
        raise PydanticCustomError("printable", "must be printable characters")
    return name


def _page(url: str) -> str:
    # Everybody's browser opens it in a sandbox, the recorder's behind the farm's address rule besides.
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
StreamId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9{}_-]{1,64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
"""A place on the whiteboard, as a share of its width or height."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Media(_Message):
    """What somebody sends: whether sound and picture are on, and which streams camera and screen are."""

    audio: bool = False
    video: bool = False
    camera: StreamId | None = None
    screen: StreamId | None = None


class Join(_Message):
    """The first message of everybody; `token` makes its bearer the host."""

    type: Literal["join"]
    name: Name
    media: Media = Media()
    token: Annotated[str, StringConstraints(max_length=1024)] | None = None


class State(_Message):
    """What somebody sends from now on."""

    type: Literal["state"]
    media: Media


class Description(_Message):
    """A session description (RTCSessionDescriptionInit)."""

    type: Literal["offer", "answer"]
    sdp: Annotated[str, StringConstraints(max_length=60_000)]


class Candidate(_Message):
    """A candidate (RTCIceCandidateInit)."""

    candidate: Annotated[str, StringConstraints(max_length=1024)]
    sdpMid: Annotated[str, StringConstraints(max_length=64)] | None = None  # noqa: N815 - WebRTC's names
    sdpMLineIndex: Annotated[int, Field(ge=0, le=255)] | None = None  # noqa: N815
    usernameFragment: Annotated[str, StringConstraints(max_length=256)] | None = None  # noqa: N815


class Signal(_Message):
    """Something for the peer connection of one other member."""

    type: Literal["signal"]
    to: MemberId
    description: Description | None = None
    candidate: Candidate | None = None


class Stroke(_Message):
    """A piece of a line on the whiteboard; a long line comes in several, while it is drawn."""

    type: Literal["stroke"]
    color: Literal["ink", "blue", "red", "green"]
    points: Annotated[list[tuple[Share, Share]], Field(min_length=1, max_length=64)]


class Clear(_Message):
    """An empty whiteboard."""

    type: Literal["clear"]


class OpenPlugin(_Message):
    """Show the whiteboard or a page to all, or neither."""

    type: Literal["plugin"]
    kind: Literal["whiteboard", "page"] | None
    url: Annotated[str, StringConstraints(max_length=2048), AfterValidator(_page)] | None = None


class End(_Message):
    """The meeting is over for all; only a host may say so."""

    type: Literal["end"]


class Beat(_Message):
    """A sign of life, the answer to the server's."""

    type: Literal["beat"]


RoomMessage = Annotated[
    State | Signal | Stroke | Clear | OpenPlugin | End | Beat, Field(discriminator="type")
]

_ROOM_MESSAGE: Final[TypeAdapter[Any]] = TypeAdapter(RoomMessage)


def parse_message(text: str) -> RoomMessage:
    """A member's message. Raises pydantic.ValidationError."""
    message: RoomMessage = _ROOM_MESSAGE.validate_json(text)
    return message
