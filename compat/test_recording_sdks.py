"""Pages with the recording SDKs of RealtimeKit and Dyte, RealtimeKit's UI kit and LiveKit's egress SDK.

The recording SDKs get an object in place of their client, which joins rooms at a service that cannot be had
here; LiveKit's has a room that is not connected.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compat.programs import NODE_MODULES
from compat.recorded import download, share_of
from testkit.pages import serve_pages
from testkit.running_farm import RunningFarm

GREEN = (0, 160, 80)
RED = (200, 30, 30)

_SDK = """<!doctype html><body style="background: rgb(0, 160, 80)"><script src={script}></script><script>
class Peers extends EventTarget {{
  size = 1;
  on() {{}} removeAllListeners() {{}} addListener() {{}} toArray() {{ return []; }}
}}
const peers = () => new Peers();
const meeting = {{
  self: Object.assign(peers(), {{ roomJoined: false }}),
  participants: Object.assign(peers(), {{ active: peers(), waitlisted: peers(), joined: peers() }}),
  joinRoom: async () => {{}}, leaveRoom: async () => {{}},
  __internals__: {{ logger: console, features: {{}} }},
}};
const sdk = new RecordingSDK.{name}({{ autoStop: false }});
sdk.init(meeting);
setTimeout(() => sdk[location.hash.slice(1)](), 4000);
</script>"""

_LIVEKIT = """<!doctype html><body style="background: rgb(0, 160, 80)">
<script src=livekit.js></script><script>
const exports = {}, require = () => LivekitClient;
</script><script src=egress.js></script><script>
const room = new LivekitClient.Room();
exports.default.setRoom(room);
if (location.hash === "#fails") {
  // What LiveKit's template does when it cannot connect.
  exports.default.endRecording();
} else {
  setTimeout(() => exports.default.startRecording(), 500);
  setTimeout(() => room.emit("disconnected"), 4000);
}
</script>"""

_UI = """<!doctype html><body style="background: rgb(200, 30, 30)">
<script type=module>
import { defineCustomElements } from "./ui/loader/index.es2017.js";
defineCustomElements(window);
</script>
<rtk-button id=join>Join the room</rtk-button>
<script>
document.querySelector("#join").onclick = () => { document.body.style.background = "rgb(0, 160, 80)"; }
</script>"""


@pytest.fixture(scope="module")
def sdk_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("sdks")
    for name, script in (
        ("realtimekit", "@cloudflare/realtimekit-recording-sdk/dist/index.iife.js"),
        ("dyte", "@dytesdk/recording-sdk/dist/index.iife.js"),
        ("livekit", "livekit-client/dist/livekit-client.umd.js"),
        ("egress", "@livekit/egress-sdk/dist/index.js"),
    ):
        (directory / f"{name}.js").write_bytes((NODE_MODULES / script).read_bytes())
    for name, type_ in (("realtimekit", "RealtimeKitRecording"), ("dyte", "DyteRecording")):
        (directory / f"{name}.html").write_text(_SDK.format(script=f"{name}.js", name=type_))
    (directory / "livekit.html").write_text(_LIVEKIT)
    (directory / "ui").symlink_to(NODE_MODULES / "@cloudflare/realtimekit-ui")
    (directory / "ui.html").write_text(_UI)
    with serve_pages(directory) as url:
        yield url


@pytest.mark.parametrize("end", ["stopRecording", "cleanup"])
@pytest.mark.parametrize("sdk", ["realtimekit", "dyte"])
def test_recording_sdk_should_start_and_end_a_recording(
    farm: RunningFarm, sdk_pages: str, sdk: str, end: str, tmp_path: Path
) -> None:
    recording = farm.start(
        meeting_id=f"{sdk}-{end}", url=f"{sdk_pages}/{sdk}.html#{end}", page_contract="sdk"
    )
    recording = farm.wait_for(recording["id"], "UPLOADED")
    assert recording["stop_reason"]["reason"] != "API_CALL", json.dumps(recording)
    assert share_of(download(recording, tmp_path), GREEN) > 0.9


def test_livekits_egress_sdk_should_start_and_end_a_recording(
    farm: RunningFarm, sdk_pages: str, tmp_path: Path
) -> None:
    recording = _livekit(farm, f"{sdk_pages}/livekit.html")
    recording = farm.wait_for(recording["id"], "UPLOADED")
    assert share_of(download(recording, tmp_path), GREEN) > 0.9


def test_livekit_template_that_cannot_connect_should_end_at_once(farm: RunningFarm, sdk_pages: str) -> None:
    recording = _livekit(farm, f"{sdk_pages}/livekit.html#fails")
    with pytest.raises(AssertionError, match="END_RECORDING"):
        farm.wait_for(recording["id"], "UPLOADED", timeout=30)


def test_hints_should_reach_into_the_ui_kit(farm: RunningFarm, sdk_pages: str, tmp_path: Path) -> None:
    hints = {"join": [{"click": "rtk-button >> text=Join the room"}]}
    recording = farm.start(
        meeting_id="ui", url=f"{sdk_pages}/ui.html", page_contract="plain", page_hints=hints, max_seconds=3
    )
    recording = farm.wait_for(recording["id"], "UPLOADED")
    assert share_of(download(recording, tmp_path), GREEN) > 0.5


def _livekit(farm: RunningFarm, url: str) -> dict[str, Any]:
    return farm.start(meeting_id="livekit", url=url, page_contract="console")
