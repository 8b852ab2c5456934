"""A room that has everything in it that moves, and pictures of one without a browser."""

from pathlib import Path

from PIL import Image, ImageDraw
from PIL.Image import Image as Picture

ROOM = Path(__file__).parent / "room.html"


def draw_room(*, shift: int = 0, tiles: int = 2, color: str = "#4b3bd1") -> Picture:
    """Draw two tiles with name plates; keyword arguments change one."""
    picture = Image.new("RGB", (320, 180), "#0e1117")
    pen = ImageDraw.Draw(picture)
    for tile in range(tiles):
        left = 10 + 155 * tile
        pen.rounded_rectangle((left, 10, left + 144, 169), 14, fill=color if tile else "#0b7f7a")
        plate = left + 10 + (0 if tile else shift)
        pen.rounded_rectangle((plate, 140, plate + 60, 160), 9, fill="#0a0d14")
        pen.text((plate + 10, 144), "Ada", fill="#eef1f8")
    return picture
