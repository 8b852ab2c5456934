"""What tests of the stage and the bot share: looking at processes, pictures, sound, and a small web site."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from playwright.async_api import Error as PlaywrightError

from browser_bot.stage.display import Display
from browser_bot.stage.sound import Sound
from browser_bot.stage.stage import Stage

# Of the stage that a module's tests share.
WIDTH, HEIGHT = 320, 180

Colour = tuple[int, int, int]


async def until(holds: Callable[[], bool], timeout: float, what: str) -> None:
    """Wait until something in another process holds, or fail saying `what` did not happen."""
    try:
        async with asyncio.timeout(timeout):
            while not holds():  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {timeout:.0f} s: {what}") from None


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; one that has ended and waits for its parent counts as ended."""
    left = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
        except psutil.NoSuchProcess:
            pass
    return left


def programs_of(directory: Path) -> list[psutil.Process]:
    """All programs that were started for the stage in `directory`."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(directory) in word for word in [*process.cmdline(), *process.environ().values()]):
                found.append(process)
        except psutil.Error:
            pass
    return alive(found)


# Programs of other tests' fixtures, which run for the whole session.
CHILDREN_BEFORE: set[psutil.Process] = set()


def our_children() -> list[psutil.Process]:
    """All children of this process that the running test has started, with theirs, zombies too."""
    children = [child for child in psutil.Process().children() if child not in CHILDREN_BEFORE]
    return [*children, *(grandchild for child in children for grandchild in child.children(recursive=True))]


async def run(*argv: str, env: Mapping[str, str], timeout: float = 20) -> tuple[int, bytes, str]:
    """Run a program; its code, its output and what it complained about."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        env={"PATH": os.environ["PATH"], **env},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout):
            output, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, output, complaints.decode(errors="replace")


@dataclass(frozen=True)
class Picture:
    """A grabbed region of a display."""

    width: int
    height: int
    pixels: bytes

    def at(self, x: int, y: int) -> Colour:
        start = (y * self.width + x) * 3
        red, green, blue = self.pixels[start : start + 3]
        return red, green, blue

    def colours(self) -> set[Colour]:
        red, green, blue = np.frombuffer(self.pixels, np.uint8).astype(np.uint32).reshape(-1, 3).T
        packed = np.unique(red << 16 | green << 8 | blue)
        return {(int(each) >> 16, int(each) >> 8 & 255, int(each) & 255) for each in packed}


async def grab(display: Display, width: int, height: int) -> Picture:
    """What the display shows in its upper left corner, as ffmpeg grabs it for a recording."""
    code, pixels, complaints = await run(
        *("ffmpeg", "-loglevel", "error", "-f", "x11grab", "-draw_mouse", "0"),
        *("-probesize", "32", "-analyzeduration", "0"),
        *("-video_size", f"{width}x{height}", "-i", display.name),
        *("-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
        env=display.environment,
    )
    assert code == 0, complaints
    return Picture(width, height, pixels)


async def listen(sound: Sound, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What a sound device plays, one channel at 48 kHz, full scale 1."""
    code, samples, complaints = await run(
        *("ffmpeg", "-loglevel", "error", "-f", "pulse", "-fragment_size", "3840"),
        *("-probesize", "32", "-analyzeduration", "0"),
        *("-server", sound.server, "-i", sound.source),
        *("-t", str(seconds), "-ac", "1", "-ar", "48000", "-f", "s16le", "-"),
        env={},
    )
    assert code == 0, complaints
    return np.frombuffer(samples, np.int16).astype(np.float64) / 32768


def loudest_frequency(samples: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """The loudest frequency in Hz of samples at 48 kHz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * 48000 / len(samples)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(
    body: str | bytes = b"",
    *,
    status: str = "200 OK",
    kind: str = "text/html",
    after: float = 0,
    more: str = "",
) -> Answer:
    """An answer of a site; `after` seconds, with the header lines of `more`."""
    content = body.encode() if isinstance(body, str) else body

    async def give(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(after)
        lines = [
            f"HTTP/1.1 {status}",
            f"content-type: {kind}",
            f"content-length: {len(content)}",
            "access-control-allow-origin: *",
            "connection: close",
            *more.splitlines(),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)

    return give


def redirect(url: str) -> Answer:
    return answer(status="302 Found", more=f"location: {url}")


async def blank(stage: Stage) -> Stage:
    """A stage whose page shows nothing, also not the browser's own words about the last one."""
    async with asyncio.timeout(10):
        while True:
            try:
                await stage.browser.page.goto("about:blank")
                return stage
            except PlaywrightError:  # Chromium's page about what went wrong comes in between
                await asyncio.sleep(0.1)


async def hang(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    """Accept, and never say a word."""
    await asyncio.Event().wait()


@dataclass
class Site:
    """A web server of the tests' own: what it answers to which path, and what it was asked."""

    port: int = 0
    pages: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    connections: int = 0

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def add(self, path: str, *answers: Answer | str) -> str:
        """Answer `path`, the first time with the first of `answers`, and so on; the last is for good."""
        left = [answer(each) if isinstance(each, str) else each for each in answers]

        async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await (left.pop(0) if len(left) > 1 else left[0])(reader, writer)

        self.pages[path] = give
        return self.url(path)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            header = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = header.split(" ", 2)[1]
            self.asked.append(path)
            self.headers.append(header)
            await self.pages.get(path, answer("not here", status="404 Not Found"))(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def open_site() -> AsyncIterator[Site]:
    """A site on the loopback."""
    site = Site()
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(site.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)
        task.add_done_callback(lambda _: writer.close())

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
