"""The program that draws a watermark: `WIDTH HEIGHT PICTURE_WIDTH PICTURE_HEIGHT CORNER`, file in, PNG out.

It is a program of its own because the file is a stranger's: a file that crashes a decoder, or keeps it busy
for ever, harms nothing else. It prints what is wrong with a file on stderr and exits with 2.
"""

import io
import re
import resource
import sys
import xml.etree.ElementTree as ElementTree
from typing import Final

import resvg_py
from PIL import Image, ImageOps, UnidentifiedImageError

from recording_farm.farm.errors import FarmError

_MEMORY: Final = 2 << 30
_PROCESSOR_SECONDS: Final = 8
_MAX_PIXELS: Final = 4096 * 4096

_OWN: Final = re.compile(
    r"\s*(?:#.*|data:image/(?:png|jpeg|gif|webp)(?:;base64)?,[^<]*)", re.DOTALL | re.ASCII
)
"""Allowed references in an SVG: its own elements, and pictures of these exact media types.

resvg guesses the type of anything else, and an SVG inside an SVG could refer to files again."""


class UnusableError(FarmError):
    """The file cannot be drawn; the message is for people."""


def main() -> None:
    """Draw, with limits on memory and CPU time."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_SECONDS, _PROCESSOR_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Image.MAX_IMAGE_PIXELS = None  # _MAX_PIXELS is the limit, with a better message
    *sizes, corner = sys.argv[1:]
    width, height, picture_width, picture_height = map(int, sizes)
    try:
        drawn = scaled(sys.stdin.buffer.read(), width, height)
        if drawn.width > picture_width or drawn.height > picture_height:
            raise UnusableError(
                f"{drawn.width}x{drawn.height} is larger than the picture, {picture_width}x{picture_height}"
            )
    except UnusableError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    even(drawn, corner).save(sys.stdout.buffer, "PNG")


def scaled(content: bytes, width: int, height: int) -> Image.Image:
    """The image at `width` x `height`; a height of 0 keeps the aspect ratio. Raises UnusableError."""
    try:
        picture = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
    except UnidentifiedImageError:
        return _scaled_svg(content, width, height)
    if picture.width * picture.height > _MAX_PIXELS:
        raise UnusableError(f"{picture.width}x{picture.height} is too large")
    try:
        upright = ImageOps.exif_transpose(picture).convert("RGBA")
    except (OSError, ValueError, SyntaxError) as error:
        raise UnusableError(f"the picture is damaged: {error}") from error
    return upright.resize((width, height or _proportional(upright, width)), Image.Resampling.LANCZOS)


def _proportional(picture: Image.Image, width: int) -> int:
    return max(1, round(picture.height * width / picture.width))


def _scaled_svg(content: bytes, width: int, height: int) -> Image.Image:
    text = harmless_svg(content)
    try:
        drawn = Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=text, width=width)))
    except ValueError as error:
        raise UnusableError(f"the SVG cannot be drawn: {error}") from error
    if height and drawn.size != (width, height):
        return drawn.convert("RGBA").resize((width, height), Image.Resampling.LANCZOS)
    return drawn.convert("RGBA")


def harmless_svg(content: bytes) -> str:
    """The SVG, if it refers to nothing outside itself: it could name files of this machine."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableError("it is not a PNG, JPEG or SVG") from None
    if re.search(r"<!(?!--|\[CDATA\[)", text):
        raise UnusableError("an SVG must not have a document type")
    try:
        # It has no entities that could expand.
        root = ElementTree.fromstring(text)  # noqa: S314
    except ElementTree.ParseError:
        raise UnusableError("it is not a PNG, JPEG or SVG") from None
    if root.tag != "{http://www.w3.org/2000/svg}svg":
        raise UnusableError("it is not a PNG, JPEG or SVG")
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.endswith("href") and not _OWN.fullmatch(value):
                raise UnusableError("an SVG must not refer to other files")
    return text


def even(picture: Image.Image, corner: str) -> Image.Image:
    """The image with even sides: a transparent line is added opposite to its corner."""
    width, height = picture.width + picture.width % 2, picture.height + picture.height % 2
    if (width, height) == picture.size:
        return picture
    whole = Image.new("RGBA", (width, height))
    whole.paste(
        picture,
        (
            width - picture.width if "right" in corner else 0,
            height - picture.height if "bottom" in corner else 0,
        ),
    )
    return whole


if __name__ == "__main__":
    main()
