"""Pictures as this package has them: RGB images of Pillow, boxes in them, and PNG files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from PIL import Image, ImageChops, ImageDraw, UnidentifiedImageError
from PIL.Image import Image as Picture
from PIL.PngImagePlugin import PngInfo
from pydantic import Field

from recording_farm.encoder.atomic_file import atomic_file
from recording_farm.layouts.errors import LayoutError

MASK_COLOR = (121, 121, 121)
"""What stands where a mask is: a gray, so that what lies over it half-transparent looks much as usual."""
MADE_BY = "Software"
"""The PNG keyword of the program that made a picture (PNG specification, 11.3.3.2)."""
IDLE_MASKS = "idle masks"
"""Of a picture that was just made: the selectors of its masks that match nothing."""
WARNINGS = "warnings"
"""Of a picture that was just made: parts of its page that did not load, in words."""


@dataclass(frozen=True)
class Box:
    """A part of a picture, in pixels from its upper left corner."""

    x: Annotated[int, Field(ge=0, strict=True)]
    y: Annotated[int, Field(ge=0, strict=True)]
    width: Annotated[int, Field(ge=1, strict=True)]
    height: Annotated[int, Field(ge=1, strict=True)]

    def __str__(self) -> str:
        """`30x12 at 100,200`."""
        return f"{self.width}x{self.height} at {self.x},{self.y}"


def box_of(corners: tuple[int, int, int, int]) -> Box:
    """The box of Pillow's left, upper, right and lower."""
    left, upper, right, lower = corners
    return Box(left, upper, right - left, lower - upper)


def paint(picture: Picture, boxes: tuple[Box, ...]) -> None:
    """Put the mask's color over `boxes`."""
    draw = ImageDraw.Draw(picture)
    for box in boxes:
        draw.rectangle((box.x, box.y, box.x + box.width - 1, box.y + box.height - 1), fill=MASK_COLOR)


def changed(before: Picture, after: Picture) -> Box | None:
    """The box of all pixels that are not exactly the same in two pictures of one size."""
    corners = ImageChops.difference(before, after).getbbox()
    return box_of(corners) if corners else None


def read_png(file: Path) -> Picture | None:
    """The picture in a PNG file; None if there is no file. Raises LayoutError when it is no PNG."""
    try:
        with Image.open(file, formats=["PNG"]) as source:
            picture = source.convert("RGB")
            picture.info = {MADE_BY: str(source.info.get(MADE_BY, ""))}
            return picture
    except FileNotFoundError:
        return None
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise LayoutError(f"{file} is no picture that can be read: {error}") from error


def write_png(picture: Picture, file: Path) -> None:
    """Write a PNG that appears only when it is complete."""
    file.parent.mkdir(parents=True, exist_ok=True)
    info = PngInfo()
    info.add_text(MADE_BY, picture.info.get(MADE_BY, ""))
    with atomic_file(file) as draft:
        picture.save(draft, "PNG", optimize=True, pnginfo=info)
