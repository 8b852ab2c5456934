from pathlib import Path

import pytest
from PIL import Image

from recording_farm.layouts.errors import LayoutError
from recording_farm.layouts.pictures import MADE_BY, Box, changed, paint, read_png, write_png
from testkit.layouts.rooms import draw_room


def test_png_should_come_back_as_it_was_with_its_maker(tmp_path: Path) -> None:
    room = draw_room()
    room.info[MADE_BY] = "Chrome/1.2.3"

    write_png(room, tmp_path / "new" / "room.png")
    back = read_png(tmp_path / "new" / "room.png")

    assert back is not None
    assert changed(room, back) is None
    assert back.info == {MADE_BY: "Chrome/1.2.3"}
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["room.png"]
    assert (tmp_path / "new" / "room.png").stat().st_mode & 0o777 == 0o644


def test_write_that_fails_should_leave_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "room.png"
    write_png(draw_room(), file)
    before = file.read_bytes()

    with pytest.raises(OSError, match="cannot write mode"):
        write_png(Image.new("F", (10, 10)), file)

    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_file_that_is_no_png_should_be_reported(tmp_path: Path) -> None:
    file = tmp_path / "room.png"
    write_png(draw_room(), file)
    whole = file.read_bytes()
    for broken in (b"", b"GIF89a", whole[:50], whole[:-200]):
        file.write_bytes(broken)
        with pytest.raises(LayoutError, match=r"room\.png is no picture that can be read"):
            read_png(file)


def test_no_file_should_be_no_picture(tmp_path: Path) -> None:
    assert read_png(tmp_path / "room.png") is None


def test_changed_should_be_the_exact_box() -> None:
    before = Image.new("RGB", (50, 50))
    after = before.copy()
    paint(after, (Box(3, 4, 5, 6),))

    assert changed(before, after) == Box(3, 4, 5, 6)
