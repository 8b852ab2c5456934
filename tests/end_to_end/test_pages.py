"""Pages of the recording SDK through the service."""

import base64
import json
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import av
from PIL import Image

from tests.browser_bot.test_recording_sdk import SDK_PAGE
from tests.end_to_end.conftest import running_farm
from tests.pages import serve_pages

SECRET = "a secret of the pages' own, long enough"
SHOWN = "<body style='margin:0;background:#0000ff'><script>console.log(location.search)</script>"


def test_page_made_for_the_sdk_should_run_unchanged_and_draw_its_watermark_itself(tmp_path: Path) -> None:
    (tmp_path / "sdk.html").write_text(SDK_PAGE + SHOWN)
    Image.new("RGB", (100, 50), "red").save(tmp_path / "mark.png")
    with (
        serve_pages(tmp_path) as pages,
        running_farm(tmp_path / "data", FARM_SLOTS="1", FARM_PAGE_SECRET=SECRET) as farm,
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
        # The page draws nothing here, and the encoder must not either.
        assert pixels[10, 1270].tolist()[0] < 30
        assert pixels[10, 1270].tolist()[2] > 220
        (log,) = (tmp_path / "data" / "evidence" / started["id"]).glob("*.log")
        (search,) = {
            line.split("'")[1]
            for line in log.read_text().splitlines()
            if "?name=Dyte" in line and "page log" in line
        }
        parameters = {name: values[0] for name, values in parse_qs(urlsplit(search).query).items()}
        assert json.loads(base64.b64decode(parameters["config"]))["watermark"]["url"] == mark["url"]
        # The token itself is in no log.
        assert parameters["authToken"] == "…"
