"""Pages of the recording SDK through the service."""

import time
from pathlib import Path

import av
import pytest
from PIL import Image

from tests.browser_bot.test_recording_sdk import SDK_PAGE
from tests.end_to_end.conftest import running_farm
from tests.pages import serve_pages

pytestmark = pytest.mark.long

SECRET = "a secret of the pages' own, long enough"
# Green if it was opened with all that the contract promises.
SHOWN = """<body style="margin:0;background:#0000ff"><script>
const parameters = new URLSearchParams(location.search);
const { watermark } = JSON.parse(atob(parameters.get("config")));
const claims = JSON.parse(atob(parameters.get("authToken").split(".")[1]));
if (watermark.url.endsWith("/mark.png") && claims.meetingId === "room" && claims.recorder === true) {
  document.body.style.background = "#00ff00";
}
</script>"""


def test_page_made_for_the_sdk_should_run_unchanged_and_draw_its_watermark_itself(tmp_path: Path) -> None:
    (tmp_path / "sdk.html").write_text(SDK_PAGE + SHOWN)
    Image.new("RGB", (100, 50), "red").save(tmp_path / "mark.png")
    with (
        serve_pages(tmp_path) as pages,
        running_farm(tmp_path / "data", FARM_PAGE_SECRET=SECRET) as farm,
    ):
        mark = {"url": f"{pages}/mark.png", "position": "right top"}
        started = farm.start(
            url=f"{pages}/sdk.html?name=Dyte", meeting_id="room", video_config={"watermark": mark}
        )
        farm.wait_for(started["id"], "RECORDING")
        time.sleep(2)
        farm.order(started["id"], "stop")
        recording = farm.wait_for(started["id"], "UPLOADED")
        with av.open(recording["download_url"]) as file:
            pixels = next(file.decode(video=0)).to_ndarray(format="rgb24")
        # Of the watermark the page draws nothing here, and the encoder must not either.
        for x, y in ((1270, 10), (10, 10)):
            red, green, blue = pixels[y, x].tolist()
            assert (red < 60, green > 200, blue < 60) == (True, True, True)
