from fractions import Fraction
from pathlib import Path

import av
import pytest
from PIL import Image

from recording_farm.layouts.errors import NoSuchFrameError
from recording_farm.layouts.frame import frame_at

FPS = 10
FRAMES = 45


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4.5 s in which each frame's gray tells its number, with key frames 2 s apart, that begins at 0.7 s."""
    file = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(file), "w") as target:
        stream = target.add_stream("libx264", rate=FPS, options={"g": "20", "bf": "0", "crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            gray = 20 + 4 * number
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), (gray, gray, gray)))  # type: ignore[no-untyped-call]
            frame.pts = number + 7
            frame.time_base = Fraction(1, FPS)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return file


def number_at(film: Path, at: str) -> int:
    level = frame_at(film, Fraction(at)).getpixel((30, 20))
    assert isinstance(level, tuple)
    return round((level[0] - 20) / 4)


@pytest.mark.parametrize(
    ("at", "number"),
    [("0", 0), ("0.099", 0), ("0.1", 1), ("1.25", 12), ("1.999", 19), ("2", 20), ("3.3", 33), ("4.499", 44)],
)
def test_frame_should_be_the_one_shown_at_the_time(film: Path, at: str, number: int) -> None:
    assert number_at(film, at) == number


def test_time_after_the_end_should_be_reported(film: Path) -> None:
    with pytest.raises(NoSuchFrameError, match=r"ends after 4\.500 s, before 4\.5 s"):
        frame_at(film, Fraction("4.5"))
    with pytest.raises(NoSuchFrameError, match="ends after"):
        frame_at(film, Fraction(10_000))


def test_what_has_no_picture_should_be_reported(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFrameError, match="cannot be read"):
        frame_at(tmp_path / "nothing.mp4", Fraction(1))
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(NoSuchFrameError, match="cannot be read"):
        frame_at(tmp_path / "text.mp4", Fraction(1))
    with av.open(str(tmp_path / "sound.m4a"), "w") as target:
        stream = target.add_stream("aac", rate=48_000)
        target.mux(stream.encode(None))
    with pytest.raises(NoSuchFrameError):
        frame_at(tmp_path / "sound.m4a", Fraction(0))
