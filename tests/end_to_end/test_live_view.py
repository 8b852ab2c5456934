"""What can be seen of a recording while it is made."""

import io
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from testkit.fidelity.measure import measure, number_in
from testkit.running_farm import RunningFarm

pytestmark = pytest.mark.long


def frame_number(picture: bytes) -> int:
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "JPEG"
        return number_in(np.asarray(image.convert("L")))


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_live_frame_should_be_of_this_moment(shared_farm: RunningFarm, pages: str, codec: str) -> None:
    client = shared_farm.client
    started = shared_farm.start(
        url=f"{pages}/page.html", meeting_id=f"live-{codec}", video_config={"codec": codec}
    )
    path = f"/v2/recordings/{started['id']}/live.jpg"
    shared_farm.wait_for(started["id"], "RECORDING")
    numbers, moments = [], []
    for _ in range(3):
        answer = client.get(path)
        moments.append(time.monotonic())
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/jpeg"
        numbers.append(frame_number(answer.content))
        time.sleep(1)
    # The page counts 30 frames a second.
    passed = [30 * (moment - moments[0]) for moment in moments]
    assert all(abs(n - numbers[0] - p) < 40 for n, p in zip(numbers, passed, strict=True)), (numbers, passed)
    assert httpx.get(str(client.base_url) + path).status_code == 401
    shared_farm.order(started["id"], "pause")
    assert client.get(path).status_code == 409
    shared_farm.order(started["id"], "stop")
    shared_farm.wait_for(started["id"], "UPLOADED")
    assert client.get(path).status_code == 409


def test_preview_should_play_what_is_recorded_now(
    shared_farm: RunningFarm, pages: str, tmp_path: Path
) -> None:
    client = shared_farm.client
    started = shared_farm.start(
        url=f"{pages}/page.html", meeting_id="preview", video_config={"width": 640, "height": 360}
    )
    shared_farm.wait_for(started["id"], "RECORDING")
    path = f"/v2/recordings/{started['id']}/live/"
    deadline = time.monotonic() + 60
    while (playlist := client.get(f"{path}index.m3u8")).status_code == 409:  # it takes long on a busy machine
        assert time.monotonic() < deadline, playlist.text
    assert playlist.status_code == 200, playlist.text
    assert client.get(f"{path}../../secret-key").status_code == 404
    assert client.get(f"{path}log").status_code == 404
    time.sleep(5)
    playlist = client.get(f"{path}index.m3u8")
    names = [line for line in playlist.text.splitlines() if not line.startswith("#")]
    assert names
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(client.get(path + name).content for name in names))
    now = frame_number(client.get(f"/v2/recordings/{started['id']}/live.jpg").content)
    seen = measure(joined).numbers
    assert 0 < now - seen[-1] < 10 * 30, (now, seen[-1])
    shared_farm.order(started["id"], "stop")
    # A player asks every second or two, whatever the recording is by then; no answer may be a refusal.
    deadline = time.monotonic() + 20
    while "#EXT-X-ENDLIST" not in (playlist := client.get(f"{path}index.m3u8")).text:
        assert playlist.status_code == 200, playlist.text
        assert time.monotonic() < deadline, playlist.text
        time.sleep(0.2)
    names = [line for line in playlist.text.splitlines() if not line.startswith("#")]
    answers = [client.get(path + name) for name in names]
    assert [answer.status_code for answer in answers] == [200] * len(names), playlist.text
    shared_farm.wait_for(started["id"], "UPLOADED")
