"""Live outputs: where a recording is sent while it is made, besides the file; and how URLs are read.

Encoded once: an output gets the very packets of the takes. A receiver that refuses, hangs or dies is tried
again, and never disturbs the file.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field

from browser_bot.redaction import forms_of

MOST_OUTPUTS: Final = 10
"""So many a recording may have at once; each costs a program and the upstream."""

HIDDEN: Final = "***"

_PORTS: Final = {"rtmp": 1935, "rtmps": 443}
# What SRT's URLs may set; others could have it listen, or change how much is kept in memory.
_SRT_OPTIONS: Final = frozenset({"streamid", "passphrase", "pbkeylen", "latency"})
_SRT_SECRETS: Final = frozenset({"streamid", "passphrase"})
_SHORTEST_PART: Final = 4
"""A shorter part of a key is none that anybody would have to guess, and stands in every second word."""

_UNREADABLE: Final = re.compile(r"[\x00-\x20\x7f-\uffff\\]")


class OutputKind(StrEnum):
    """How an output is sent."""

    RTMP = "RTMP"
    """Also RTMP over TLS."""
    SRT = "SRT"
    HLS = "HLS"
    """Segments and a playlist in the store and the customer's storage."""


class OutputState(StrEnum):
    """How far an output is."""

    WAITING = "WAITING"
    """For the recording to begin, or for the receiver to accept it."""
    LIVE = "LIVE"
    RETRYING = "RETRYING"
    """The receiver refused, went away or stalled; it is tried again."""
    ENDED = "ENDED"
    """With the recording."""
    REMOVED = "REMOVED"
    """By an API call."""
    FAILED = "FAILED"
    """The recording ended and not all of it arrived."""


OVER: Final = frozenset({OutputState.ENDED, OutputState.REMOVED, OutputState.FAILED})
"""The states that never change again."""


class Output(BaseModel):
    """One live output; a value. `url` shows no secret, see `hidden`."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    kind: OutputKind
    url: str | None = None
    state: OutputState = OutputState.WAITING
    retries: int = 0
    error: str | None = None
    segments: Annotated[int, Field(description="of HLS: how many there are in the store")] = 0


@dataclass(frozen=True)
class StreamUrl:
    """An RTMP or SRT URL in its parts.

    RTMP: `app` and `key`, the last part of the path with its query. SRT: `options`.
    """

    scheme: str
    host: str
    port: int
    app: str = ""
    key: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> OutputKind:
        """How it is sent."""
        return OutputKind.SRT if self.scheme == "srt" else OutputKind.RTMP

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"{in_url(self.host)}:{self.port}"

    @property
    def hidden(self) -> str:
        """The URL for clients and logs: without the stream's key, passphrase and the like."""
        host = in_url(self.host) if self.port == _PORTS.get(self.scheme) else self.authority
        if self.scheme == "srt":
            shown = [(name, HIDDEN if name in _SRT_SECRETS else value) for name, value in self.options]
            return urlunsplit(("srt", host, "", urlencode(shown, safe="*"), ""))
        return f"{self.scheme}://{host}/{self.app}/{HIDDEN}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of it nobody may see, in each form in which it may be said, the longest first."""
        name, _, query = self.key.partition("?")
        raw = [part.partition("=")[2] for part in query.split("&")]
        parts = [name, *raw, *(value for _, value in parse_qsl(query))]
        whole = [self.key, *(value for option, value in self.options if option in _SRT_SECRETS)]
        return forms_of([*whole, *(part for part in parts if len(part) >= _SHORTEST_PART)])


def read_stream_url(url: str) -> StreamUrl:
    """The parts of an RTMP, RTMPS or SRT URL. Raises ValueError, in words for the client."""
    if _UNREADABLE.search(url):
        raise ValueError("must be printable ASCII without spaces and backslashes")
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in {"rtmp", "rtmps", "srt"}:
        raise ValueError("must begin with rtmp://, rtmps:// or srt://")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has a port that is none") from None
    if not parts.hostname or "@" in parts.netloc or port == 0 or parts.fragment:
        raise ValueError("must name a host, and no user, port 0 or fragment")
    if scheme == "srt":
        return _srt(parts.hostname, port, parts.path, parts.query)
    app, _, key = parts.path.strip("/").rpartition("/")
    if not app or not key:
        raise ValueError("must end with an application and a stream's key, such as /live2/KEY")
    key = f"{key}?{parts.query}" if parts.query else key
    return StreamUrl(scheme, parts.hostname, port or _PORTS[scheme], app, key)


def _srt(host: str, port: int | None, path: str, query: str) -> StreamUrl:
    options = tuple(parse_qsl(query, keep_blank_values=True))
    if port is None or path.strip("/"):
        raise ValueError("must be srt://host:port, with options behind a question mark")
    unknown = {name for name, _ in options} - _SRT_OPTIONS
    if unknown:
        raise ValueError(f"may have the options {', '.join(sorted(_SRT_OPTIONS))} and no others")
    given = dict(options)
    if len(given) < len(options):
        raise ValueError("must have each option once")
    if not re.fullmatch(r"\d{1,9}", given.get("latency", "0"), re.ASCII):
        raise ValueError("has a latency that is no whole number")
    if given.get("pbkeylen", "16") not in {"16", "24", "32"}:
        raise ValueError("has a pbkeylen that is none of 16, 24 and 32")
    if not 10 <= len(given.get("passphrase", "at least 10").encode()) <= 79:
        raise ValueError("has a passphrase that must have 10 to 79 characters")
    if len(given.get("streamid", "").encode()) > 512:
        raise ValueError("has a streamid that must have 512 characters at most")
    if any("\0" in value for value in given.values()):
        raise ValueError("must hold no zero bytes")
    return StreamUrl("srt", host, port, options=options)


def stream_output(url: str) -> Output:
    """A new output to a URL that can be read."""
    stream = read_stream_url(url)
    return Output(id=uuid4(), kind=stream.kind, url=stream.hidden)


def in_url(host: str) -> str:
    """A host, or an address, as a URL has it."""
    return f"[{host}]" if ":" in host else host
