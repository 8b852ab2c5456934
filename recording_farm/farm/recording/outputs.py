"""Live outputs: where a recording is sent while it is made, besides the file; and how URLs are read.

Encoded once: an output gets the very packets of the takes. A receiver that refuses, hangs or dies is tried
again, and never disturbs the file.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import SplitResult, unquote, unquote_plus, urlencode, urlsplit, urlunsplit
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field

from recording_farm.browser_bot.network.host_names import in_url, normalize_host, with_host_in_ascii
from recording_farm.browser_bot.redaction import secret_forms

MAX_OUTPUTS: Final = 10
"""So many a recording may have at once; each costs a program and the upstream."""

HIDDEN: Final = "***"

_PORTS: Final = {"rtmp": 1935, "rtmps": 443}
_SRT_OPTIONS: Final = frozenset({"streamid", "passphrase", "pbkeylen", "latency", "pkt_size"})
"""What SRT's URLs may set; others could change how much is kept in memory."""

_SRT_NAMES: Final = {"srt_streamid": "streamid", "payload_size": "pkt_size", "payloadsize": "pkt_size"}
"""Other names of the same, of ffmpeg and of libsrt's own programs."""
_SRT_FIXED: Final = {"mode": ("caller", "client"), "transtype": ("live",)}
"""What many URLs say besides, and is so in any case."""
_MAX_LOGIN: Final = 49
"""Bytes of a user name or a password that ffmpeg takes (RTMPContext in its libavformat/rtmpproto.c)."""
_MAX_PART: Final = 600
"""Bytes of an application or a stream key; ffmpeg reads lines of 1000 bytes from a preset file."""
_MAX_LATENCY_MS: Final = 60_000
"""A number above is one of microseconds, as ffmpeg and OBS count."""
_SRT_SECRETS: Final = frozenset({"streamid", "passphrase"})
_MIN_PART: Final = 4
"""A shorter part of a key is none that anybody would have to guess, and stands in every second word."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_UNREADABLE: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\]")


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

    RTMP: `app`, with its query if it has one, `key`, the last part of the path with its query, and the
    `login` of a server that asks for one. SRT: `options`.
    """

    scheme: str
    host: str
    port: int
    app: str = ""
    key: str = ""
    options: tuple[tuple[str, str], ...] = ()
    login: tuple[str, str] | None = None
    """User name and password."""

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
        app, has_query, _ = self.app.partition("?")
        login = f"{HIDDEN}@" if self.login else ""
        return f"{self.scheme}://{login}{host}/{app}{f'?{HIDDEN}' if has_query else ''}/{HIDDEN}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of it nobody may see, in each form in which it may be said, the longest first."""
        name, _, query = self.key.partition("?")
        app_query = self.app.partition("?")[2]
        raw = [part.partition("=")[2] for part in f"{query}&{app_query}".split("&")]
        parts = [name, *raw, *(unquote(value) for value in raw), *(self.login or ())]
        whole = [self.key, *(value for option, value in self.options if option in _SRT_SECRETS)]
        whole += self.login[1:] if self.login else ()
        return secret_forms([*whole, *(part for part in parts if len(part) >= _MIN_PART)])


def read_stream_url(url: str) -> StreamUrl:
    """The parts of an RTMP, RTMPS or SRT URL. Raises ValueError, in words for the client."""
    if _UNREADABLE.search(url):
        raise ValueError("must not contain spaces, control characters or backslashes")
    if not url.isascii() and urlsplit(url).hostname:
        url = with_host_in_ascii(url)
    if not url.isascii():
        raise ValueError("must be ASCII, except for the host")
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme not in {"rtmp", "rtmps", "srt"}:
        raise ValueError("must begin with rtmp://, rtmps:// or srt://")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("has an invalid port") from None
    if not parts.hostname or port == 0:
        raise ValueError("must have a host, and a port other than 0")
    host = normalize_host(f"[{parts.hostname}]" if "[" in parts.netloc else parts.hostname)
    # Neither protocol knows fragments: stream keys and stream ids may have a # in them.
    rest = url[len(scheme) + len("://") + len(parts.netloc) :]
    if scheme == "srt":
        if "@" in parts.netloc:
            raise ValueError("must not have a user; SRT uses streamid")
        return _srt(host, port, rest)
    app, key = _app_and_key(rest)
    login = _login(parts) if "@" in parts.netloc else None
    return StreamUrl(scheme, host, port or _PORTS[scheme], app, key, login=login)


def _app_and_key(rest: str) -> tuple[str, str]:
    """What an RTMP URL has behind the host, as its server's part and the stream's key.

    Providers hand out the two apart, and programs join them by a slash. Either may have a query: the server's
    comes before the slash (`live2?backup=1/KEY`), the key's behind it (`app/KEY?auth=1`).
    """
    path, has_query, query = rest.lstrip("/").partition("?")
    if "/" in path:
        app, _, key = (path if has_query else path.rstrip("/")).rpartition("/")
        key = f"{key}?{query}" if has_query else key
    else:
        before, _, key = query.partition("/")
        app = f"{path}?{before}"
    app = app.rstrip("/")
    if not path.strip("/") or not app or not key:
        raise ValueError("must end with an application and a stream key, such as /live2/KEY")
    if len(app) > _MAX_PART or len(key) > _MAX_PART:
        raise ValueError(f"must have an application and a stream key of at most {_MAX_PART} characters each")
    return app, key


def _login(parts: SplitResult) -> tuple[str, str]:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not user or not password:
        raise ValueError("must have a password with the user, such as user:password@host")
    if any(len(each.encode()) > _MAX_LOGIN for each in (user, password)):
        raise ValueError(f"must have a user and password of at most {_MAX_LOGIN} characters")
    if re.search(r"[\x00-\x20\x7f/?#]", user + password) or ":" in user or "@" in user + password:
        raise ValueError("has a user or password with a character that RTMP cannot send")
    return user, password


def _srt(host: str, port: int | None, rest: str) -> StreamUrl:
    path, _, query = rest.partition("?")
    if port is None or path.strip("/"):
        raise ValueError("must be srt://host:port, with options after a question mark")
    pairs = [part.partition("=") for part in query.split("&") if part]
    names = [name.lower() for name, _, _ in pairs]
    # As ffmpeg reads them, and so OBS: a + is a space.
    values = [unquote_plus(value) for _, _, value in pairs]
    options = tuple(zip((_SRT_NAMES.get(name, name) for name in names), values, strict=True))
    given = dict(options)
    if given.get("mode", "caller").lower() in {"listener", "server", "rendezvous"}:
        raise ValueError("must have mode=caller: the farm connects to the receiver")
    unknown = given.keys() - _SRT_OPTIONS - _SRT_FIXED.keys()
    if unknown:
        known = ", ".join(sorted(_SRT_OPTIONS | _SRT_FIXED.keys()))
        raise ValueError(f"has an unknown option, known ones: {known}")
    if len(given) < len(options):
        raise ValueError("must not repeat an option")
    for name, only in _SRT_FIXED.items():
        if given.get(name, only[0]).lower() not in only:
            raise ValueError(f"must have {name}={only[0]}")
    if not re.fullmatch(r"\d{1,9}", given.get("latency", "0"), re.ASCII):
        raise ValueError("must have a latency that is a whole number")
    if not re.fullmatch(r"\d{1,4}", given.get("pkt_size", "1316"), re.ASCII) or not (
        188 <= int(given.get("pkt_size", "1316")) <= 1456
    ):
        raise ValueError("must have a pkt_size of 188 to 1456")
    if given.get("pbkeylen", "16") not in {"0", "16", "24", "32"}:
        raise ValueError("must have a pbkeylen of 0, 16, 24 or 32")
    if not 10 <= len(given.get("passphrase", "at least 10").encode()) <= 79:
        raise ValueError("must have a passphrase of 10 to 79 characters")
    if len(given.get("streamid", "").encode()) > 512:
        raise ValueError("must have a streamid of at most 512 characters")
    if any(_CONTROL.search(value) for value in given.values()):
        raise ValueError("must not contain control characters")
    if int(given.get("latency", "0")) > _MAX_LATENCY_MS:
        given["latency"] = str(int(given["latency"]) // 1000)
    sent = tuple((name, value) for name, value in given.items() if name in _SRT_OPTIONS)
    return StreamUrl("srt", host, port, options=sent)


def stream_output(url: str) -> Output:
    """A new output to a URL that can be read."""
    stream = read_stream_url(url)
    return Output(id=uuid4(), kind=stream.kind, url=stream.hidden)
