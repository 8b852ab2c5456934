"""Pages of others through the service: made for the recording SDK, in need of hints, or over already."""

import time
from pathlib import Path

import av
import pytest
from PIL import Image

from testkit.browser_bot.sdk_page import SDK_PAGE
from testkit.pages import serve_pages
from testkit.running_farm import RunningFarm, running_farm

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


# Red until somebody has joined, then blue; it loads itself anew once, 4 s later.
LOBBY = """<body style="margin:0;background:red"><input id=name><button id=join onclick="
  document.body.innerHTML = ''; document.body.style.background = 'blue';
  if (!sessionStorage.been) setTimeout(() => { sessionStorage.been = 1; location.reload(); }, 4000);
">Join</button>"""


def test_page_that_reloads_itself_should_be_joined_again_and_one_that_is_over_should_say_so(
    tmp_path: Path,
) -> None:
    (tmp_path / "lobby.html").write_text(LOBBY)
    (tmp_path / "over.html").write_text("<script>console.log('END_RECORDING')</script>")
    with serve_pages(tmp_path) as pages, running_farm(tmp_path / "data") as farm:
        steps = [{"fill": "#name", "text": "Recorder"}, {"click": "#join"}]
        started = farm.start(url=f"{pages}/lobby.html", page_hints={"join": steps})
        deadline = time.monotonic() + 60
        while not (again := told_of(farm, started["id"], "rejoined")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(2)
        farm.order(started["id"], "stop")
        recording = farm.wait_for(started["id"], "UPLOADED")
        assert again == ["the page reloaded itself, and was joined again by its hints"]
        assert recording["quality"]["takes"] == 1
        with av.open(recording["download_url"]) as file:
            *_, last = file.decode(video=0)
            red, _, blue = last.to_ndarray(format="rgb24")[90, 160].tolist()
        assert (red < 60, blue > 200) == (True, True)

        over = farm.start(url=f"{pages}/over.html", page_contract="console")
        deadline = time.monotonic() + 30  # and not 120, in which a page may begin
        while (ended := farm.answer(farm.client.get(f"/v2/recordings/{over['id']}")))["status"] != "ERRORED":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert "printed END_RECORDING before START_RECORDING" in ended["error"]["message"]


def told_of(farm: RunningFarm, recording_id: str, event: str) -> list[str]:
    """What the timeline of a recording says of an event."""
    recording = farm.answer(farm.client.get(f"/v2/recordings/{recording_id}"))
    return [entry["message"] for entry in recording["timeline"] if entry["event"] == event]
