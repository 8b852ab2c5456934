"""What rows of the display's pixels say."""

import pytest

from recording_farm.browser_bot.stage.pixels import is_black, is_blank

WHITE, NAVY, BLACK = (bytes(pixel) for pixel in ([255, 255, 255, 0], [80, 0, 0, 0], [3, 2, 1, 0]))


@pytest.mark.parametrize(
    ("rows", "black", "blank"),
    [
        (WHITE * 100, False, True),
        (NAVY * 100, False, True),
        (BLACK * 100, True, False),
        (WHITE * 99 + NAVY, False, False),
        (NAVY + WHITE * 99, False, False),
        (BLACK * 99 + NAVY, False, False),
    ],
)
def test_one_color_should_be_blank_unless_it_is_black(rows: bytes, black: bool, blank: bool) -> None:
    assert (is_black(rows), is_blank(rows)) == (black, blank)
