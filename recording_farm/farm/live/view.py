"""The live view of a running recording: the current frame, and an HLS preview.

Both are made on demand. A frame is grabbed from the display; the preview is made from the takes by a program
that stops after some idle time.
"""

import asyncio
import io
import re
import shutil
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from PIL import Image

from recording_farm.browser_bot.stage.display import Display
from recording_farm.browser_bot.stage.pixels import grab_picture
from recording_farm.encoder.live.hls import PLAYLIST_SUFFIX, segments_in
from recording_farm.encoder.takes.command import Watermark
from recording_farm.farm.errors import NotFoundError, NothingLiveError
from recording_farm.farm.live.hls import HlsSpec
from recording_farm.farm.live.program import OutputProgram

FRAME: Final = "frame"
OUTPUTS: Final = "outputs"
"""Request: the live outputs have changed."""

PREVIEW: Final = "preview/"
"""Prefix of requests for files of the preview."""

PREVIEW_NAME: Final = "index"
PREVIEW_SECONDS: Final = 2
PREVIEW_WINDOW: Final = 6

_FRESH_SECONDS: Final = 0.5
"""How long a frame is cached."""

_GRAB_SECONDS: Final = 3.0
_QUALITY: Final = 80
_IDLE_SECONDS: Final = 20.0
_FIRST_SEGMENT_SECONDS: Final = 8.0
_END_SECONDS: Final = 2.0
_FILE: Final = re.compile(rf"{PREVIEW_NAME}(\.m3u8|-\d{{5,9}}\.ts)", re.ASCII)

_OVER: Final = "#EXT-X-ENDLIST"

Keep = Callable[[dict[str, bytes]], Awaitable[None]]
"""Saves files by name for some more seconds."""

Shown = Callable[[], tuple[Display, int, int, Watermark | None] | None]
"""The display, its recorded size, and the watermark; None while nothing is recorded."""


class LiveView:
    """The live view of one recording. Call `run` once."""

    def __init__(
        self, shown: Shown, directory: Path, spec: Callable[[Path], HlsSpec] | None, keep: Keep
    ) -> None:
        """`directory` is for the preview; `spec` is None if the codec allows no preview.

        `keep` gets the last files of the preview.
        """
        self._shown = shown
        self._keep = keep
        self._ending = asyncio.Event()
        self._directory = directory
        self._spec = spec
        self._lock = asyncio.Lock()
        self._frame = b""
        self._frame_ns = 0
        self._wanted = asyncio.Event()
        self._has_segment = asyncio.Event()

    async def answer(self, what: str) -> bytes:
        """A frame as JPEG, or a file of the preview. Raises NotFoundError, NothingLiveError."""
        if what == FRAME:
            return await self._newest_frame()
        return await self._preview_file(what.removeprefix(PREVIEW))

    def end(self) -> None:
        """The recording has ended: finish the preview."""
        self._ending.set()
        self._wanted.set()

    async def run(self) -> None:
        """Make the preview while it is requested, until `end`."""
        try:
            while not self._ending.is_set():
                await self._wanted.wait()
                if not self._ending.is_set():
                    await self._make_preview()
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def _newest_frame(self) -> bytes:
        async with self._lock:
            if time.monotonic_ns() - self._frame_ns > _FRESH_SECONDS * 1e9:
                shown = self._shown()
                if shown is None:
                    raise NothingLiveError("nothing is recorded at this moment")
                display, width, height, mark = shown
                try:
                    async with asyncio.timeout(_GRAB_SECONDS):
                        pixels = await grab_picture(display, width, height)
                except (OSError, TimeoutError):
                    raise NothingLiveError("the display does not answer") from None
                grabbed = time.monotonic_ns()
                self._frame = await asyncio.to_thread(_jpeg, pixels, width, height, mark)
                self._frame_ns = grabbed
            return self._frame

    async def _preview_file(self, name: str) -> bytes:
        if self._spec is None:
            raise NothingLiveError("there is no preview of what is recorded as VP8; live.jpg shows it")
        if not _FILE.fullmatch(name):
            raise NotFoundError(f"the preview has no file {name}")
        if name.endswith(".m3u8") and not self._ending.is_set():
            self._wanted.set()
            try:
                async with asyncio.timeout(_FIRST_SEGMENT_SECONDS):
                    await self._has_segment.wait()
            except TimeoutError:
                raise NothingLiveError("the preview has not begun yet; ask again") from None
        try:
            return await asyncio.to_thread((self._directory / name).read_bytes)
        except FileNotFoundError:
            if self._ending.is_set():
                raise NothingLiveError("the recording is over, and so is its preview") from None
            raise NotFoundError(f"the preview has no file {name}; it has only the newest") from None

    async def _make_preview(self) -> None:
        assert self._spec is not None
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True, mode=0o700)
        program = OutputProgram(
            "recording_farm.farm.live.hls", self._spec(self._directory), self._directory / "log", self._heard
        )
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(program.run(_END_SECONDS))
            idle = tasks.create_task(self._until_idle())
            await asyncio.wait((running, idle), return_when=asyncio.FIRST_COMPLETED)
            self._has_segment.clear()
            program.end()
            idle.cancel()
        if self._ending.is_set() and (files := await asyncio.to_thread(self._last_files)):
            await self._keep(files)

    async def _until_idle(self) -> None:
        """Return when the preview is idle for a while, or the recording has ended."""
        with suppress(TimeoutError):
            while not self._ending.is_set():
                self._wanted.clear()
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self._wanted.wait()

    def _last_files(self) -> dict[str, bytes]:
        """The playlist of an ended preview and its segments; empty if there are none."""
        name = f"{PREVIEW_NAME}{PLAYLIST_SUFFIX}"
        try:
            playlist = (self._directory / name).read_text()
            files = {segment: (self._directory / segment).read_bytes() for segment in segments_in(playlist)}
        except FileNotFoundError:
            return {}
        if _OVER not in playlist:  # the program was killed before it finished
            playlist = f"{playlist}{_OVER}\n"
        return files | {name: playlist.encode()} if files else {}

    def _heard(self, _: Any) -> None:
        self._has_segment.set()


def _jpeg(pixels: bytes, width: int, height: int, mark: Watermark | None) -> bytes:
    picture = Image.frombuffer("RGB", (width, height), pixels, "raw", "BGRX", 0, 1)
    if mark is not None:
        picture = picture.copy()
        with Image.open(mark.file) as drawn:
            rgba = drawn.convert("RGBA")
        picture.paste(rgba, (mark.left, mark.top), rgba)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
