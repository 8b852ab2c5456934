"""A small web site of the tests' own: what it answers, and what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

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
