"""A picture of the stage's display once it no longer changes."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from PIL import Image
from PIL.Image import Image as Picture

from recording_farm.browser_bot.stage.display import Display
from recording_farm.browser_bot.stage.programs import DIES_WITH_PARENT, program_path
from recording_farm.layouts.errors import RenderingFailedError
from recording_farm.layouts.pictures import Box, changed, paint
from recording_farm.layouts.suite import Viewport

GRABS_A_SECOND = 10
STILL = 3
"""So many equal pictures in a row show that nothing changes any more: Chromium displays a change within three
frames, and two pictures are a tenth of a second apart."""
STILL_TIMEOUT = 10.0


async def still_picture(
    display: Display, viewport: Viewport, masks: tuple[Box, ...], drawn: Callable[[], Awaitable[object]]
) -> Picture:
    """The picture that the upper left corner of `display` shows, masks painted, once it no longer changes.

    `drawn` waits until the browser has drawn anew: one that gets no processor stands still as well. Raises
    RenderingFailedError when the picture still changes after 10 s, and tells where.
    """
    before: Picture | None = None
    moved: Box | None = None
    equal = 0
    drawing = asyncio.ensure_future(drawn())
    try:
        async with asyncio.timeout(STILL_TIMEOUT), _grabs(display, viewport) as grabs:
            async for picture in grabs:
                paint(picture, masks)
                change = changed(before, picture) if before is not None else None
                before = picture
                if change is not None:
                    moved, equal = change, 0
                    drawing.cancel()
                    drawing = asyncio.ensure_future(drawn())
                elif drawing.done():
                    drawing.result()
                    equal += 1
                if equal == STILL:
                    return picture
    except TimeoutError:
        where = f"what moves is {moved}; mask it or stop it" if moved else "the browser does not draw"
        raise RenderingFailedError(f"it did not stand still for {STILL_TIMEOUT:.0f} s: {where}") from None
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)
    raise RenderingFailedError("the display gives no pictures any more")


@asynccontextmanager
async def _grabs(display: Display, viewport: Viewport) -> AsyncIterator[AsyncIterator[Picture]]:
    """Pictures of the display, ten a second, from the same grabber as in recordings."""
    size = viewport.width * viewport.height * 3
    process = await asyncio.create_subprocess_exec(
        *(*DIES_WITH_PARENT, program_path("ffmpeg", "ffmpeg"), "-nostdin", "-loglevel", "quiet"),
        *("-f", "x11grab", "-draw_mouse", "0", "-framerate", str(GRABS_A_SECOND)),
        *("-probesize", "32", "-analyzeduration", "0"),
        *("-video_size", str(viewport), "-i", display.name),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
        env={"PATH": os.environ.get("PATH", os.defpath), **display.variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=size,
    )
    assert process.stdout is not None
    try:
        yield _pictures(process.stdout, viewport, size)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _pictures(source: asyncio.StreamReader, viewport: Viewport, size: int) -> AsyncIterator[Picture]:
    try:
        while True:
            pixels = await source.readexactly(size)
            yield Image.frombytes("RGB", (viewport.width, viewport.height), pixels)
    except asyncio.IncompleteReadError:
        return
