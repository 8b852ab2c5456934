"""Whether two pictures are the same, and where they are not.

The library is blazediff, a native implementation of what most tools of this kind do (pixelmatch: the
distance of colors in YIQ, anti-aliased edges left out). pixelmatch itself, in Python, takes up to 55 s for
a picture of 1280x720, blazediff 0.08 s (measured with noise, the worst there is).
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import blazediff
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps
from PIL.Image import Image as Picture

from recording_farm.layouts.pictures import MASK_COLOR, Box, box_of
from recording_farm.layouts.suite import Tolerance

CELL = 16
_NEAR = range(-2, 3)
"""Cells (squares of 16 pixels) with no more than one between them are one region."""
MAX_REGIONS = 20
BLEED = 5
"""The square around each masked pixel that is masked too: H.264 keeps colors for two pixels at a time, and
rounds them. An odd number, in pixels."""
RECORDED_THRESHOLD = 0.2
RECORDED_SHARE = 0.00005
"""What a frame in H.264 may differ at least. Measured with the built-in meeting: at 0.1 a half-transparent
name plate over a bright picture differs from the same over a mask, at 0.2 a pixel here and there does."""
DIFFERENT = (224, 32, 48)
FADE = 0.75
FRAME = 6
"""How far the frame is from what it is around, in pixels."""


@dataclass(frozen=True)
class Comparison:
    """How many pixels differ, how many of them may, where they are, and a picture that shows them."""

    pixels: int
    allowed: int
    regions: tuple[Box, ...]
    picture: Picture
    not_counted: int = 0
    """Pixels that are not identical, but differ within the threshold or in the anti-aliasing of an edge."""

    @property
    def same(self) -> bool:
        """Whether no more pixels differ than may."""
        return self.pixels <= self.allowed


def compare(baseline: Picture, actual: Picture, threshold: float, tolerance: Tolerance) -> Comparison:
    """Compare two pictures; `threshold` is how far colors may be apart. In another size all differ."""
    if baseline.size != actual.size:
        whole = Box(0, 0, *actual.size)
        return Comparison(actual.width * actual.height, 0, (whole,), actual)
    mask = _differing(baseline, actual, threshold)
    pixels = mask.histogram()[255]
    allowed = tolerance.of(actual.width * actual.height)
    regions = tuple(_regions(mask))
    distance = _any_channel(ImageChops.difference(baseline, actual))
    identical = distance.histogram()[0]
    not_counted = max(actual.width * actual.height - identical - pixels, 0)
    return Comparison(pixels, allowed, regions, _shown(actual, mask, regions), not_counted)


def compare_recorded(baseline: Picture, frame: Picture, threshold: float, tolerance: Tolerance) -> Comparison:
    """Compare a recording's frame: what the baseline masks is seen in it, and it is encoded with losses."""
    if baseline.size == frame.size:
        baseline, frame = _both_masked(baseline, frame)
    lossy = Tolerance(tolerance.pixels, max(tolerance.share, RECORDED_SHARE))
    return compare(baseline, frame, max(threshold, RECORDED_THRESHOLD), lossy)


def _both_masked(baseline: Picture, frame: Picture) -> tuple[Picture, Picture]:
    """Both pictures with what is masked in the baseline masked in both, and a little around it."""
    distance = ImageChops.difference(baseline, Image.new("RGB", baseline.size, MASK_COLOR))
    masked = _any_channel(distance).point(lambda value: 0 if value else 255)
    masked = masked.filter(ImageFilter.MaxFilter(BLEED))
    pictures = baseline.copy(), frame.copy()
    for picture in pictures:
        picture.paste(MASK_COLOR, mask=masked)
    return pictures


def _any_channel(picture: Picture) -> Picture:
    red, green, blue = picture.split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


def _differing(baseline: Picture, actual: Picture, threshold: float) -> Picture:
    """255 where the pictures differ, else 0."""
    with tempfile.TemporaryDirectory(prefix="farm-layouts-") as name:
        one, other, mask = (Path(name, file) for file in ("baseline.png", "actual.png", "mask.png"))
        baseline.save(one, compress_level=1)
        actual.save(other, compress_level=1)
        result = blazediff.compare(
            str(one), str(other), str(mask), threshold=threshold, antialiasing=True, diff_mask=True
        )
        if result.match_result:
            return Image.new("L", actual.size)
        with Image.open(mask) as differing:
            return differing.convert("RGBA").getchannel("A").point(lambda value: 255 if value else 0)


def _regions(mask: Picture) -> Iterator[Box]:
    """The boxes of what belongs together in a mask, at most 20."""
    cells = mask.reduce(CELL).point(lambda value: 255 if value else 0)
    left = {
        (index % cells.width, index // cells.width) for index, value in enumerate(cells.tobytes()) if value
    }
    for _ in range(MAX_REGIONS):
        if not left:
            return
        group = _connected(left)
        columns, rows = [x for x, _ in group], [y for _, y in group]
        corner = min(columns) * CELL, min(rows) * CELL
        part = mask.crop((*corner, (max(columns) + 1) * CELL, (max(rows) + 1) * CELL))
        if corners := part.getbbox():
            box = box_of(corners)
            yield Box(corner[0] + box.x, corner[1] + box.y, box.width, box.height)


def _connected(left: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Take one group of neighboring cells out of `left`."""
    group = waiting = [min(left, key=lambda cell: (cell[1], cell[0]))]
    left.discard(group[0])
    for x, y in waiting:
        around = {(x + dx, y + dy) for dx in _NEAR for dy in _NEAR} & left
        left -= around
        waiting.extend(sorted(around))
    return group


def _shown(actual: Picture, mask: Picture, regions: tuple[Box, ...]) -> Picture:
    """The picture, pale and without colors, with what differs in red and framed."""
    gray = ImageOps.grayscale(actual).convert("RGB")
    shown = Image.blend(gray, Image.new("RGB", actual.size, "white"), FADE)
    shown.paste(DIFFERENT, mask=mask)
    pen = ImageDraw.Draw(shown)
    for box in regions:
        right, lower = box.x + box.width - 1, box.y + box.height - 1
        corners = (box.x - FRAME, box.y - FRAME, right + FRAME, lower + FRAME)
        pen.rectangle(corners, outline=DIFFERENT, width=2)
    return shown
