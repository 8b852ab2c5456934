"""Watermarks: good ones are drawn to the pixel, and bad ones are refused in words."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from recording_farm.browser_bot.network.addresses import parse_address_rule
from recording_farm.farm.errors import AddressRefusedError, FarmError, InvalidRequestError
from recording_farm.farm.pages.draw_watermark import UnusableError, harmless_svg
from recording_farm.farm.pages.watermark import MAX_FILE, corner_of, draw, fetch
from recording_farm.farm.recording.model import Corner, Watermark
from testkit.pages import serve_pages

LOOPBACK = parse_address_rule("127.0.0.0/8")
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10">{}</svg>'
RED = '<rect width="20" height="10" fill="#ff0000"/>'


def encoded(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


async def drawn(
    content: bytes, width: int = 40, height: int | None = None, position: str = "left top"
) -> Image.Image:
    mark = Watermark(url="http://a.example", width=width, height=height, position=Corner(position))
    return Image.open(io.BytesIO(await draw(content, mark, 1280, 720)))


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.new("RGB", (20, 10), "red"), "PNG"),
        encoded(Image.new("P", (20, 10), 0).convert("RGB").point(lambda _: 255), "PNG"),
        encoded(Image.new("RGB", (20, 10), "red"), "JPEG"),
        SVG.format(RED).encode(),
        SVG.format("<!-- a --><style><![CDATA[rect{}]]></style>" + RED).encode(),
    ],
    ids=["png", "palette", "jpeg", "svg", "svg with a style"],
)
async def test_picture_should_be_drawn_in_its_shape_or_as_wanted(content: bytes) -> None:
    picture = await drawn(content)
    assert (picture.size, picture.mode) == ((40, 20), "RGBA")
    assert (await drawn(content, 40, 50)).size == (40, 50)
    red, *_, opaque = picture.getpixel((20, 10))  # type: ignore[misc]
    assert red > 250
    assert opaque == 255


async def test_transparency_should_stay() -> None:
    picture = Image.new("RGBA", (20, 10), (0, 255, 0, 128))
    assert (await drawn(encoded(picture, "PNG"))).getpixel((20, 10)) == (0, 255, 0, 128)


@pytest.mark.parametrize(
    ("position", "empty", "corner"),
    [
        ("left top", (7, 3), (0, 0)),
        ("right top", (0, 3), (1272, 0)),
        ("left bottom", (7, 0), (0, 716)),
        ("right bottom", (0, 0), (1272, 716)),
    ],
)
async def test_odd_sizes_should_touch_their_corner_all_the_same(
    position: str, empty: tuple[int, int], corner: tuple[int, int]
) -> None:
    content = encoded(Image.new("RGB", (7, 3), "red"), "PNG")
    mark = Watermark(url="http://a.example", width=7, position=Corner(position))
    png = await draw(content, mark, 1280, 720)
    picture = Image.open(io.BytesIO(png))
    assert picture.size == (8, 4)
    assert picture.getpixel(empty) == (0, 0, 0, 0)
    assert picture.getpixel((4, 2)) == (255, 0, 0, 255)
    assert corner_of(png, mark.position, 1280, 720) == corner


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a PNG, JPEG or SVG"),
        (b"<html></html>", "not a PNG, JPEG or SVG"),
        (b"\xff\xfe\x00", "not a PNG, JPEG or SVG"),
        (encoded(Image.new("RGB", (20, 10)), "GIF"), "not a PNG, JPEG or SVG"),
        (encoded(Image.effect_noise((200, 100), 90), "PNG")[:5000], "damaged"),
        (SVG.format('<image href="/etc/hostname"/>').encode(), "refer to other files"),
        (SVG.format('<image href="file:///etc/hostname"/>').encode(), "refer to other files"),
        (SVG.format('<image href=" data:image/svg+xml;base64,AA"/>').encode(), "refer to other files"),
        (b'<!DOCTYPE svg [<!ENTITY a "b">]>' + SVG.format("&a;").encode(), "not have a document type"),
        (SVG.format("<path d=").encode(), "not a PNG, JPEG or SVG"),
        # As high as its shape makes it, that is some billions of pixels.
        (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 99999999"/>', "not usable"),
    ],
)
async def test_bad_picture_should_be_refused_in_words(content: bytes, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        await drawn(content)


@pytest.mark.parametrize(
    "reference",
    [
        *(
            f"data:{kind};base64,PHN2Zz4="
            for kind in (
                *("image/png x", "image/png(", "image/png/svg", "image/png;x=1", "image/pngx", "image/png "),
                *("IMAGE/PNG", " image/png", "image/x-png", "image/svg+xml", "text/plain", "", "image/"),
            )
        ),
        "data:image/png;base64 ,PHN2Zz4=",
        "data:image/png",
        "da&#9;ta:image/svg+xml,x",
        "x#y",
        "",
    ],
)
def test_svg_should_refer_to_pictures_of_exact_types_only(reference: str) -> None:
    # resvg guesses the type of anything else, and draws an SVG inside the SVG.
    with pytest.raises(UnusableError, match="refer to other files"):
        harmless_svg(SVG.format(f'<image href="{reference}"/>').encode())


@pytest.mark.parametrize(
    "reference", ["#a", "data:image/png;base64,AA", " data:image/jpeg;base64,AA", "data:image/webp,x"]
)
def test_svg_should_refer_to_its_own_pictures(reference: str) -> None:
    text = SVG.format(f'<image href="{reference}"/>')
    assert harmless_svg(text.encode()) == text


async def test_picture_of_too_many_pixels_should_be_refused() -> None:
    with pytest.raises(InvalidRequestError, match="is too large"):
        await drawn(encoded(Image.new("1", (20_000, 20_000)), "PNG"))


async def test_watermark_larger_than_the_picture_should_be_refused() -> None:
    with pytest.raises(InvalidRequestError, match="1282x641 is larger than the picture, 1280x720"):
        await drawn(SVG.format(RED).encode(), 1282)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "good.svg").write_text(SVG.format(RED))
    (tmp_path / "large.png").write_bytes(bytes(MAX_FILE + 1))
    with serve_pages(tmp_path) as url:
        yield url


async def test_file_should_be_fetched_as_it_is(served: str) -> None:
    assert await fetch(f"{served}/good.svg", LOOPBACK) == SVG.format(RED).encode()


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        ("{served}/missing.png", InvalidRequestError, "answered 404"),
        ("{served}/large.png", InvalidRequestError, "larger than 5 MiB"),
        ("http://127.0.0.1:1/a.png", InvalidRequestError, "cannot be fetched"),
        ("file:///etc/hostname", AddressRefusedError, "http"),
        ("http://10.0.0.1/a.png", AddressRefusedError, "private address"),
    ],
)
async def test_file_that_cannot_be_had_should_be_refused_in_words(
    served: str, url: str, kind: type[FarmError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await fetch(url.format(served=served), LOOPBACK)


async def test_redirects_should_meet_the_address_rule_and_end() -> None:
    answers = {b"/in": "http://10.0.0.1/secret", b"/round": "/round"}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {answers[head.split()[1]]}\r\n\r\n".encode())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(AddressRefusedError, match=r"10\.0\.0\.1"):
            await fetch(f"{base}/in", LOOPBACK)
        with pytest.raises(InvalidRequestError, match="more than 5 redirects"):
            await fetch(f"{base}/round", LOOPBACK)


async def test_slow_server_should_not_be_waited_for() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        except OSError:
            pass  # the client has had enough
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with pytest.raises(InvalidRequestError, match=r"did not load within 0\.5 s"):
            await fetch(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", LOOPBACK, 0.5)
