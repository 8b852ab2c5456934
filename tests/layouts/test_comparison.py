import pytest
from PIL import Image, ImageChops, ImageDraw
from PIL.Image import Image as Picture

from recording_farm.layouts.comparison import compare, compare_recorded
from recording_farm.layouts.pictures import MASK_COLOR, Box, paint
from recording_farm.layouts.suite import State, Tolerance
from testkit.layouts.rooms import draw_room

NONE = Tolerance()
DEFAULT = State(name="a", url="a").threshold


def test_same_picture_should_have_no_difference() -> None:
    result = compare(draw_room(), draw_room(), 0.1, NONE)

    assert result.same
    assert (result.pixels, result.regions) == (0, ())


def test_plate_that_is_2_px_away_should_be_found_where_it_is() -> None:
    result = compare(draw_room(), draw_room(shift=2), 0.1, NONE)

    assert not result.same
    assert result.pixels >= 80
    (region,) = result.regions
    assert 19 <= region.x <= 22
    assert 60 <= region.width <= 64
    assert 140 <= region.y <= 142


def test_missing_tile_should_be_found() -> None:
    result = compare(draw_room(), draw_room(tiles=1), 0.1, NONE)

    assert not result.same
    assert result.regions[0].x == 165


def test_other_color_of_a_tile_should_be_found() -> None:
    result = compare(draw_room(), draw_room(color="#5b3bd1"), 0.02, NONE)

    assert not result.same
    assert result.regions[0].x == 165


def test_a_small_spot_should_be_found_and_boxed_exactly() -> None:
    clean = Image.new("RGB", (100, 60), "#222222")
    for x, y in [(0, 0), (97, 57), (15, 15), (31, 47)]:
        spotted = clean.copy()
        paint(spotted, (Box(x, y, 3, 3),))
        result = compare(clean, spotted, 0.1, NONE)

        assert result.regions == (Box(x, y, 3, 3),)
        assert result.pixels == 9


def test_what_is_apart_should_be_regions_of_their_own() -> None:
    clean = Image.new("RGB", (300, 200), "black")
    spotted = clean.copy()
    paint(spotted, (Box(10, 10, 20, 5), Box(200, 150, 8, 30)))

    assert compare(clean, spotted, 0.1, NONE).regions == (Box(10, 10, 20, 5), Box(200, 150, 8, 30))


def test_many_spots_should_not_make_endless_regions() -> None:
    clean = Image.new("RGB", (1600, 1600), "black")
    spotted = clean.copy()
    paint(spotted, tuple(Box(x, y, 4, 4) for x in range(0, 1600, 64) for y in range(0, 1600, 64)))

    assert len(compare(clean, spotted, 0.1, NONE).regions) == 20


def test_tolerance_should_allow_a_number_or_a_share() -> None:
    pixels = compare(draw_room(), draw_room(shift=2), 0.1, NONE).pixels

    assert compare(draw_room(), draw_room(shift=2), 0.1, Tolerance(pixels)).same
    assert not compare(draw_room(), draw_room(shift=2), 0.1, Tolerance(pixels - 1)).same
    assert compare(draw_room(), draw_room(shift=2), 0.1, Tolerance(share=0.01)).same
    assert not compare(draw_room(), draw_room(shift=2), 0.1, Tolerance(share=0.0001)).same


def test_another_size_should_never_be_the_same() -> None:
    wider = Image.new("RGB", (322, 180))

    for result in (
        compare(draw_room(), wider, 1.0, Tolerance(share=1.0)),
        compare_recorded(draw_room(), wider, 1.0, Tolerance(share=1.0)),
    ):
        assert not result.same
        assert result.regions == (Box(0, 0, 322, 180),)


def test_noise_below_the_threshold_should_not_count() -> None:
    room = draw_room()
    noisy = ImageChops.add(room, Image.effect_noise(room.size, 6).convert("RGB"), offset=-128)

    assert room.tobytes() != noisy.tobytes()
    assert compare(room, noisy, 0.1, NONE).same
    assert not compare(room, noisy, 0.0, NONE).same


def plain(page: str, box: str) -> Picture:
    picture = Image.new("RGB", (160, 90), page)
    picture.paste(box, (20, 20, 100, 60))
    return picture


@pytest.mark.parametrize(
    ("page", "box"),
    [
        *((page, "#2f54d6") for page in ("#eeeeee", "#e6e6e6", "#f0fff0", "#fdfdfd")),
        *(("#ffffff", box) for box in ("#4a6ee0", "#4f54d6", "#2f54f0", "#3155d8")),
    ],
)
def test_color_that_people_see_should_be_a_difference_by_default(page: str, box: str) -> None:
    assert not compare(plain("#ffffff", "#2f54d6"), plain(page, box), DEFAULT, NONE).same


def test_one_step_of_rounding_should_not_be_a_difference_but_counted() -> None:
    result = compare(plain("#ffffff", "#2f54d6"), plain("#fefefe", "#2f54d6"), DEFAULT, NONE)

    assert result.same
    assert (result.pixels, result.not_counted) == (0, 160 * 90 - 80 * 40)


def test_picture_of_the_difference_should_have_it_in_red() -> None:
    shown = compare(draw_room(), draw_room(tiles=1), 0.1, NONE).picture

    assert shown.getpixel((240, 60)) == (224, 32, 48)
    red, green, blue = shown.split()
    outside = (0, 0, 150, 180)
    assert red.crop(outside).tobytes() == green.crop(outside).tobytes() == blue.crop(outside).tobytes()


def test_recorded_frame_may_differ_where_the_baseline_is_masked() -> None:
    baseline, frame = draw_room(), draw_room()
    paint(baseline, (Box(30, 30, 60, 60),))
    ImageDraw.Draw(frame).ellipse((29, 29, 90, 90), fill="white")

    assert baseline.getpixel((30, 30)) == MASK_COLOR
    assert compare_recorded(baseline, frame, 0.1, NONE).same
    assert not compare(baseline, frame, 0.1, NONE).same
    assert not compare_recorded(baseline, draw_room(tiles=1), 0.1, NONE).same
