"""The program that streams a running recording to one RTMP or SRT receiver.

It reads its spec as a line of JSON, then its input until the recording ends. It reports progress and errors
as lines of JSON. It starts at the newest key frame, so a receiver that reconnects gets the live position, not
what it missed.

Packets go through a pipe to an ffmpeg that speaks the protocol: a receiver that hangs blocks only that pipe
and this program. If the server asks for a login, that ffmpeg only muxes, and this program connects.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

import av
from av.stream import Stream

from recording_farm.browser_bot.redaction import redact
from recording_farm.browser_bot.stage.programs import DIES_WITH_PARENT, child_environment
from recording_farm.encoder.formats import AudioExport, Format
from recording_farm.encoder.live.follow import FollowedPacket, follow
from recording_farm.encoder.media.packets import MICROSECOND
from recording_farm.farm.errors import FarmError
from recording_farm.farm.live.rtmp_connection import ConnectionFailedError, RtmpConnection
from recording_farm.farm.recording.outputs import HIDDEN

SAY_SECONDS: Final = 0.5
LATE_US: Final = 10_000_000
"""A receiver that lags this far behind is restarted at the live position."""

STALL_SECONDS: Final = 10.0
"""Time without progress after which a receiver is considered dead."""

CLOSE_SECONDS: Final = 3.0

_MAX_ERROR: Final = 300
_PIECE: Final = 1 << 16


class ReceiverError(FarmError):
    """A receiver rejected the stream; the message is one line without secrets."""


@dataclass(frozen=True)
class Receiver:
    """ffmpeg's URL, muxer and options for an output. The options have the stream's key and passphrase.

    `login` is the user and password of an RTMP server, with a colon between them.
    """

    url: str
    muxer: str
    options: dict[str, str]
    login: str = ""

    @property
    def url_with_login(self) -> str:
        """The URL with the login: not for a command line."""
        return self.url.replace("://", f"://{self.login}@", 1)


@dataclass(frozen=True)
class StreamSpec:
    """The takes to send, and the receiver.

    `secrets` must not appear in messages.
    """

    spool: str
    fps: int
    audio_only: bool
    receiver: Receiver
    secrets: list[str]

    @property
    def format(self) -> Format:
        """The format, as far as `follow` needs it."""
        return Format(fps=self.fps, audio_only=AudioExport() if self.audio_only else None)


def main() -> None:
    """Send until the recording ends; exit with 1 when the receiver rejects it."""
    told = json.loads(sys.stdin.readline())
    spec = StreamSpec(**{**told, "receiver": Receiver(**told["receiver"])})
    over = input_ended(sys.stdin)
    try:
        _send(spec, over)
    except ReceiverError as error:
        say(error=str(error))
        sys.exit(1)


def say(**what: Any) -> None:
    """Report to the recorder, as a line of JSON."""
    # One write, because several threads report.
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def input_ended(source: TextIO) -> threading.Event:
    """An event that is set at the end of the input: the parent closed it, or died."""
    over = threading.Event()

    def wait() -> None:
        for _ in source:
            pass
        over.set()

    threading.Thread(target=wait, daemon=True).start()
    return over


def _send(spec: StreamSpec, over: threading.Event) -> None:
    sender: _Sender | None = None
    try:
        for streams, packets in follow(Path(spec.spool), spec.format, over.is_set, live=True):
            for each in packets:
                if sender is None:
                    sender = _Sender(spec, streams)
                if each.age_us is not None and each.age_us > LATE_US:
                    raise ReceiverError("the receiver is too slow")
                sender.send(each)
        if sender is not None:
            sender.close()
    finally:
        if sender is not None:
            sender.kill()


class _Sender:
    """An ffmpeg that gets packets in NUT, which preserves timestamps."""

    def __init__(self, spec: StreamSpec, streams: Sequence[Stream]) -> None:
        self._spec = spec
        receiver = spec.receiver
        forwarded, muxed = os.pipe() if receiver.login else (None, None)
        url, options = (receiver.url, receiver.options) if muxed is None else (f"pipe:{muxed}", {})
        try:
            with _preset(options) as preset:
                self._process = subprocess.Popen(
                    [*DIES_WITH_PARENT, *_ffmpeg(receiver.muxer, url, preset)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=(preset,) if muxed is None else (preset, muxed),
                    env=child_environment(),
                )
        finally:
            if muxed is not None:
                os.close(muxed)
        self._said: list[str] = []
        self._is_connected = self._is_forwarded = forwarded is None
        self._giving_since: float | None = None
        self._over = threading.Event()
        work: list[Callable[[], None]] = [self._tell_progress, self._hear, self._give_up_stalled]
        if forwarded is not None:
            work.append(partial(self._forward, forwarded))
        self._beside = [threading.Thread(target=each, daemon=True) for each in work]
        for thread in self._beside:
            thread.start()
        assert self._process.stdin is not None
        try:
            self._output = av.open(self._process.stdin, "w", format="nut")
            self._streams = {}
            for stream in streams:
                added = self._output.add_stream_from_template(stream)
                added.time_base = MICROSECOND
                self._streams[stream.type] = added
        except (OSError, av.FFmpegError):
            raise self._refusal() from None

    def send(self, followed: FollowedPacket) -> None:
        packet = followed.packet
        packet.stream = self._streams[followed.kind]
        packet.time_base = MICROSECOND
        packet.pts = packet.dts = followed.time_us
        packet.duration = None
        self._giving_since = time.monotonic()
        try:
            self._output.mux(packet)
        except (OSError, av.FFmpegError):
            raise self._refusal() from None
        finally:
            self._giving_since = None

    def close(self) -> None:
        try:
            self._output.close()
            assert self._process.stdin is not None
            self._process.stdin.close()
            code = self._process.wait(CLOSE_SECONDS)
        except (OSError, av.FFmpegError, subprocess.TimeoutExpired):
            raise self._refusal() from None
        self._over.set()
        for thread in self._beside:
            thread.join(CLOSE_SECONDS)
        if code or not self._is_forwarded:
            raise self._refusal()

    def kill(self) -> None:
        self._over.set()
        self._process.kill()
        self._process.wait()
        for thread in self._beside:
            thread.join(CLOSE_SECONDS)

    def _refusal(self) -> ReceiverError:
        self.kill()
        words = why_ended(self._said)
        return ReceiverError(redact(words, self._spec.secrets, HIDDEN)[:_MAX_ERROR])

    def _forward(self, source: int) -> None:
        """Send to the receiver what ffmpeg has muxed. On an error, say it and kill ffmpeg."""
        with open(source, "rb", buffering=0) as muxed:
            try:
                receiver = self._spec.receiver
                with RtmpConnection(receiver.url_with_login, receiver.options) as connection:
                    self._is_connected = True
                    while data := muxed.read(_PIECE):
                        connection.write(data)
                self._is_forwarded = True
            except ConnectionFailedError as error:
                self._said.append(str(error))
                self._process.kill()

    def _tell_progress(self) -> None:
        assert self._process.stdout is not None
        for sent in _sent(line.decode(errors="replace") for line in self._process.stdout):
            if self._is_connected:
                say(sent_us=sent)

    def _give_up_stalled(self) -> None:
        """Kill ffmpeg if the receiver stalls: nothing else unblocks the pipe."""
        while not self._over.wait(1.0):
            since = self._giving_since
            if since is not None and time.monotonic() - since > STALL_SECONDS:
                self._said.append(f"the receiver has taken nothing for {STALL_SECONDS:.0f} s")
                self._process.kill()
                return

    def _hear(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said = [*self._said[-20:], line.decode(errors="replace").strip()]


def why_ended(said: Sequence[str]) -> str:
    """Why ffmpeg exited, from its log; a certificate error is not in the last line."""
    if any("certificate failed verification" in line for line in said):
        return "the receiver's certificate is not valid: too old, for another name, or not trusted here"
    return next((line for line in reversed(said) if line), "the connection was closed")


def _sent(progress: Iterable[str]) -> Iterator[int]:
    """ffmpeg's output position in µs, each time that it increases."""
    last = 0
    for line in progress:
        name, _, value = line.strip().partition("=")
        if name == "out_time_us" and value.isdigit() and int(value) > last:
            last = int(value)
            yield last


@contextmanager
def _preset(options: Mapping[str, str]) -> Iterator[int]:
    """A descriptor of a preset file in memory with these options.

    On ffmpeg's command line every user of the machine could read them.
    """
    lines = "".join(f"{name}={value}\n" for name, value in options.items() if value)
    descriptor = os.memfd_create("preset")
    try:
        os.write(descriptor, lines.encode())
        yield descriptor
    finally:
        os.close(descriptor)


def _ffmpeg(muxer: str, url: str, preset: int) -> list[str]:
    return [
        *("ffmpeg", "-hide_banner", "-nostats", "-loglevel", "error"),
        *("-progress", "pipe:1", "-stats_period", str(SAY_SECONDS)),
        # The header of the stream is complete, so no probing is needed.
        *("-f", "nut", "-probesize", "32768", "-analyzeduration", "0", "-i", "pipe:0"),
        *("-map", "0", "-c", "copy", "-flush_packets", "1"),
        # Of FLV only; ffmpeg ignores it for other muxers.
        *("-flvflags", "no_duration_filesize"),
        *("-fpre", f"/proc/self/fd/{preset}", "-f", muxer, url),
    ]


if __name__ == "__main__":
    main()
