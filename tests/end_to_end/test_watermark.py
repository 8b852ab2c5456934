"""The watermark in the recorded picture."""

import time
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from testkit.pages import serve_pages
from testkit.running_farm import RunningFarm

pytestmark = pytest.mark.long


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_watermark_should_stand_in_its_corner_to_the_pixel(
    shared_farm: RunningFarm, tmp_path: Path, codec: str
) -> None:
    (tmp_path / "blue.html").write_text("<!doctype html><body style='margin:0;background:#0000ff'>")
    mark = Image.new("RGBA", (100, 50), (255, 0, 0, 255))
    mark.paste((255, 0, 0, 128), (0, 0, 50, 50))
    mark.save(tmp_path / "mark.png")
    with serve_pages(tmp_path) as pages:
        started = shared_farm.start(
            url=f"{pages}/blue.html",
            meeting_id=f"mark-{codec}",
            video_config={
                "codec": codec,
                "watermark": {
                    "url": f"{pages}/mark.png",
                    "size": {"width": 201},
                    "position": "right bottom",
                },
            },
        )
        assert started["video_config"]["watermark"]["size"] == {"width": 201, "height": None}
        shared_farm.wait_for(started["id"], "RECORDING")
        time.sleep(2)
        shared_farm.order(started["id"], "stop")
        recording = shared_farm.wait_for(started["id"], "UPLOADED")
    with av.open(recording["download_url"]) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    top, left, middle = 720 - 101, 1280 - 201, 1280 - 100
    for frame in (frames[0], frames[-1]):
        assert np.abs(frame[: top - 2].astype(int) - (0, 0, 255)).max() < 24
        assert np.abs(frame[:, : left - 2].astype(int) - (0, 0, 255)).max() < 24
        assert np.abs(frame[top + 2 :, middle + 4 :].astype(int) - (255, 0, 0)).max() < 24
        assert np.abs(frame[top + 2 :, left + 4 : middle - 4].astype(int) - (128, 0, 127)).max() < 24
