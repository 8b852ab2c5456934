"""A watermark: fetched once, at the start request, and drawn in its final size."""

import asyncio
import struct
import sys
from typing import Final
from urllib.parse import urljoin

import httpx

from recording_farm.browser_bot.network.addresses import (
    AddressError,
    AddressRule,
    UnresolvedNameError,
    check_url,
)
from recording_farm.browser_bot.stage.programs import child_environment
from recording_farm.farm.errors import AddressRefusedError, InvalidRequestError, NameNotResolvedError
from recording_farm.farm.recording.model import Corner, Watermark
from recording_farm.farm.safe_http import CheckedHttp

MAX_FILE: Final = 5 << 20
"""Bytes."""

FETCH_SECONDS: Final = 10.0
DRAW_SECONDS: Final = 10.0
MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


async def fetch(
    url: str, rule: AddressRule, seconds: float = FETCH_SECONDS, requester: object = None
) -> bytes:
    """Fetch the file at `url`. Raises AddressRefusedError, InvalidRequestError or NameNotResolvedError."""
    try:
        async with asyncio.timeout(seconds), CheckedHttp(rule, seconds) as http:
            return await _fetch(http, url, rule, requester)
    except TimeoutError:
        raise InvalidRequestError(f"the watermark did not load within {seconds:g} s") from None
    except UnresolvedNameError as error:
        raise NameNotResolvedError(f"the watermark cannot be fetched: {error}") from None
    except AddressError as error:
        raise AddressRefusedError(f"the watermark cannot be fetched: {error}") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise InvalidRequestError(
            f"the watermark cannot be fetched: {error or type(error).__name__}"
        ) from None


async def _fetch(http: CheckedHttp, url: str, rule: AddressRule, requester: object) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        await check_url(url, rule, requester=requester)
        async with http.answer("GET", url, {"User-Agent": "Recording-Farm"}, requester=requester) as answer:
            if answer.status_code in _REDIRECTS and "location" in answer.headers:
                url = urljoin(url, answer.headers["location"])
                continue
            if answer.status_code != 200:
                raise InvalidRequestError(
                    f"the watermark cannot be fetched: its server answered {answer.status_code}"
                )
            content = bytearray()
            async for chunk in answer.aiter_raw():
                content += chunk
                if len(content) > MAX_FILE:
                    raise InvalidRequestError(f"the watermark is larger than {MAX_FILE >> 20} MiB")
            return bytes(content)
    raise InvalidRequestError(f"the watermark cannot be fetched: more than {MAX_REDIRECTS} redirects")


async def draw(content: bytes, watermark: Watermark, width: int, height: int) -> bytes:
    """Draw the watermark as a PNG for video of `width` x `height`; its sides are even.

    A hostile file meets a separate process with little time and memory. Raises InvalidRequestError, with a
    message for people, if it cannot be drawn.
    """
    wanted = (watermark.width, watermark.height or 0, width, height, watermark.position)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "recording_farm.farm.pages.draw_watermark", *map(str, wanted)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment(),
    )
    try:
        async with asyncio.timeout(DRAW_SECONDS):
            picture, words = await process.communicate(content)
    except TimeoutError:
        raise InvalidRequestError("the watermark took too long to draw") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        return picture
    reason = words.decode(errors="replace").strip() if process.returncode == 2 else "it cannot be drawn"
    raise InvalidRequestError(f"the watermark is not usable: {reason}")


def corner_of(png: bytes, position: Corner, width: int, height: int) -> tuple[int, int]:
    """The position of a drawn watermark's upper left corner in video of `width` x `height`."""
    # The PNG's header: signature, length and name of IHDR, then width and height (RFC 2083, 11.2.2).
    across, down = struct.unpack(">II", png[16:24])
    right = position in {Corner.RIGHT_TOP, Corner.RIGHT_BOTTOM}
    bottom = position in {Corner.LEFT_BOTTOM, Corner.RIGHT_BOTTOM}
    return (width - across if right else 0, height - down if bottom else 0)
