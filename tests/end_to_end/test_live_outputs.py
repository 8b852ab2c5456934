"""A recording that is sent on while it is made: to a real RTMP server, by SRT, as HLS."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from testkit.fidelity.measure import Fidelity, measure
from testkit.machine.processes import below
from testkit.network.ports import free_port
from testkit.network.rtmp import RtmpServer, rtmp_server
from testkit.running_farm import RunningFarm, running_farm, takes_of

pytestmark = pytest.mark.long

FRAMES_LOST = 30
"""What a busy machine may lose of a page, in the file and in what is sent alike."""
OFFSET = 0.050
"""Sound against picture (s). What is sent learns late that the compositor's depth has changed by a period."""


@pytest.fixture
def rtmp(tmp_path: Path) -> Iterator[RtmpServer]:
    with rtmp_server(tmp_path / "rtmp") as server:
        yield server


def outputs_when(
    farm: RunningFarm, recording_id: str, good: Callable[[list[dict[str, Any]]], bool], seconds: float = 40
) -> list[dict[str, Any]]:
    """The outputs of a recording, as soon as they are `good`."""
    deadline = time.monotonic() + seconds
    while True:
        outputs: list[dict[str, Any]] = farm.answer(farm.client.get(f"/v2/recordings/{recording_id}"))[
            "outputs"
        ]
        if good(outputs):
            return outputs
        assert time.monotonic() < deadline, outputs
        time.sleep(0.1)


def states(*wanted: str) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda outputs: [output["state"] for output in outputs] == list(wanted)


def start(farm: RunningFarm, pages: str, meeting_id: str, **wanted: Any) -> str:
    recording = farm.start(
        url=f"{pages}/page.html",
        meeting_id=meeting_id,
        video_config={"width": 640, "height": 360},
        **wanted,
    )
    return str(recording["id"])


def check_sound_and_picture(fidelity: Fidelity) -> None:
    """In sync, with few frames lost. One flash that a busy browser drew late does not count: it is so in the
    page, and how near every single one is, test_fidelity looks at."""
    assert fidelity.missing + fidelity.doubled <= FRAMES_LOST, fidelity.summary()
    assert len(fidelity.events) >= int(fidelity.duration) - 1, fidelity.summary()
    assert abs(fidelity.median_offset) < OFFSET, fidelity.summary()


def check_same(received: Fidelity, file: Fidelity) -> None:
    """What was sent is in the file: frame for frame, each beep as far from its flash but for a period."""
    first = file.numbers.index(received.numbers[0])
    both = min(len(received.numbers), len(file.numbers) - first)
    assert received.numbers[:both] == file.numbers[first : first + both]
    common = received.events.keys() & file.events.keys()
    assert len(common) >= int(received.duration) - 2
    # The file knows from where on the compositor's depth was another, the stream learns of it seconds later.
    assert max(abs(received.events[number] - file.events[number]) for number in common) < 0.040


def downloaded(recording: dict[str, Any], directory: Path) -> Path:
    file = directory / "file.mp4"
    file.write_bytes(httpx.get(recording["download_url"]).content)
    return file


@pytest.mark.exact
def test_stream_should_arrive_in_sync_and_end_with_the_recording(
    shared_farm: RunningFarm, pages: str, rtmp: RtmpServer, tmp_path: Path
) -> None:
    recording_id = start(
        shared_farm, pages, "stream", rtmp_out_config={"rtmp_url": f"{rtmp.url}/secret-key?token=hidden"}
    )
    outputs_when(shared_farm, recording_id, states("LIVE"))
    time.sleep(8)
    stopped = shared_farm.order(recording_id, "stop")
    assert stopped["outputs"][0]["url"] == f"rtmp://127.0.0.1:{rtmp.port}/live/***"
    (output,) = outputs_when(shared_farm, recording_id, states("ENDED"))
    assert (output["retries"], output["error"]) == (0, None)
    recording = shared_farm.wait_for(recording_id, "UPLOADED")
    (received,) = rtmp.recorded("secret-key")
    fidelity = measure(received).after(1)
    check_sound_and_picture(fidelity)
    check_same(fidelity, measure(downloaded(recording, tmp_path)))
    assert fidelity.duration > 7
    assert "secret-key" not in shared_farm.log()
    for log in shared_farm.data_dir.glob("evidence/*/*"):
        assert b"secret-key" not in log.read_bytes()


def test_outputs_should_end_once_and_before_their_recording_is_uploaded(
    shared_farm: RunningFarm, pages: str, rtmp: RtmpServer
) -> None:
    recording_id = start(shared_farm, pages, "ends", outputs=[{"url": f"{rtmp.url}/ends"}, {"type": "HLS"}])
    outputs_when(shared_farm, recording_id, states("LIVE", "LIVE"))
    shared_farm.order(recording_id, "stop")
    seen: list[tuple[str, ...]] = []
    deadline = time.monotonic() + 60
    while not seen or seen[-1][0] != "UPLOADED":
        recording = shared_farm.answer(shared_farm.client.get(f"/v2/recordings/{recording_id}"))
        now = (recording["status"], *(output["state"] for output in recording["outputs"]))
        seen += [now] if now not in seen[-1:] else []
        assert time.monotonic() < deadline, seen
    assert seen[-1] == ("UPLOADED", "ENDED", "ENDED")
    for number in (1, 2):
        told = [state[number] for state in seen]
        assert told == sorted(told, key=["LIVE", "ENDED"].index), seen
    playlist = httpx.get(recording["outputs"][1]["url"]).text
    assert playlist.rstrip().endswith("#EXT-X-ENDLIST")


@pytest.mark.exact
def test_stream_should_go_on_over_a_pause_on_one_connection(
    shared_farm: RunningFarm, pages: str, rtmp: RtmpServer
) -> None:
    recording_id = start(shared_farm, pages, "paused", outputs=[{"url": f"{rtmp.url}/key"}])
    outputs_when(shared_farm, recording_id, states("LIVE"))
    time.sleep(2)
    shared_farm.order(recording_id, "pause")
    time.sleep(3)
    shared_farm.order(recording_id, "resume")
    shared_farm.wait_for_take(recording_id, 2, 60)
    time.sleep(4)
    shared_farm.order(recording_id, "stop")
    (output,) = outputs_when(shared_farm, recording_id, states("ENDED"))
    assert output["retries"] == 0
    (file,) = rtmp.recorded("key")
    fidelity = measure(file)
    # Of the pause there is nothing in the stream, but the frames of those 3 s in its counter.
    assert fidelity.missing > 60
    assert abs(fidelity.median_offset) < OFFSET, fidelity.summary()
    shared_farm.wait_for(recording_id, "UPLOADED")


def test_server_that_is_killed_should_get_the_stream_again_when_it_is_back(
    shared_farm: RunningFarm, pages: str, rtmp: RtmpServer
) -> None:
    recording_id = start(shared_farm, pages, "server-killed", outputs=[{"url": f"{rtmp.url}/key"}])
    outputs_when(shared_farm, recording_id, states("LIVE"))
    time.sleep(2)
    rtmp.kill()
    (output,) = outputs_when(shared_farm, recording_id, states("RETRYING"))
    assert output["error"]
    assert "key" not in output["error"]
    rtmp.start()
    (output,) = outputs_when(shared_farm, recording_id, states("LIVE"))
    assert output["retries"] >= 1
    time.sleep(3)
    shared_farm.order(recording_id, "stop")
    outputs_when(shared_farm, recording_id, states("ENDED"))
    recording = shared_farm.wait_for(recording_id, "UPLOADED")
    assert takes_of(recording) == 1
    assert measure(rtmp.recorded("key")[-1]).numbers


@contextmanager
def receiver_that_stalls() -> Iterator[int]:
    """Accepts connections and never reads from them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.exact
def test_receivers_that_refuse_or_stall_should_not_disturb_the_file(
    shared_farm: RunningFarm, pages: str, rtmp: RtmpServer, tmp_path: Path
) -> None:
    with receiver_that_stalls() as port:
        recording_id = start(
            shared_farm,
            pages,
            "stalled",
            outputs=[
                {"url": f"rtmp://127.0.0.1:{port}/live/key"},
                {"url": f"rtmp://127.0.0.1:{free_port()}/live/key"},
                {"url": f"{rtmp.url}/key"},
            ],
        )
        outputs = outputs_when(shared_farm, recording_id, states("RETRYING", "RETRYING", "LIVE"))
        assert [output["retries"] >= 1 for output in outputs] == [True, True, False]
        shared_farm.order(recording_id, "stop")
        recording = shared_farm.wait_for(recording_id, "UPLOADED")
    assert takes_of(recording) == 1
    check_sound_and_picture(measure(downloaded(recording, tmp_path)).after(1))


def test_outputs_should_be_added_and_removed_while_it_runs(
    shared_farm: RunningFarm, pages: str, rtmp: RtmpServer
) -> None:
    client = shared_farm.client
    recording_id = start(shared_farm, pages, "added")
    shared_farm.wait_for(recording_id, "RECORDING")
    path = f"/v2/recordings/{recording_id}/outputs"
    added = shared_farm.answer(client.post(path, json={"url": f"{rtmp.url}/one"}))
    shared_farm.answer(client.post(path, json={"url": f"{rtmp.url}/two"}))
    outputs_when(shared_farm, recording_id, states("LIVE", "LIVE"))
    one = added["outputs"][0]["id"]
    shared_farm.answer(client.delete(f"{path}/{one}"))
    assert client.delete(f"{path}/{one}").status_code == 409
    assert client.delete(f"{path}/nothing").status_code == 404
    time.sleep(3)
    shared_farm.order(recording_id, "stop")
    outputs_when(shared_farm, recording_id, states("REMOVED", "ENDED"))
    shared_farm.wait_for(recording_id, "UPLOADED")
    assert client.post(path, json={"url": f"{rtmp.url}/late"}).status_code == 409
    lengths = [measure(rtmp.recorded(key)[0]).duration for key in ("one", "two")]
    assert lengths[0] < lengths[1] - 2


@pytest.mark.exact
def test_srt_should_arrive(shared_farm: RunningFarm, pages: str, tmp_path: Path) -> None:
    port = free_port()
    file = tmp_path / "received.ts"
    listener = subprocess.Popen(
        [
            *(shutil.which("ffmpeg") or "ffmpeg", "-loglevel", "error", "-y"),
            *("-i", f"srt://127.0.0.1:{port}?mode=listener&passphrase=not-to-be-seen"),
            *("-c", "copy", str(file)),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        url = f"srt://127.0.0.1:{port}?passphrase=not-to-be-seen&latency=200"
        recording_id = start(shared_farm, pages, "srt", outputs=[{"url": url}])
        (output,) = outputs_when(shared_farm, recording_id, states("LIVE"))
        assert output["url"] == f"srt://127.0.0.1:{port}?passphrase=***&latency=200"
        time.sleep(5)
        shared_farm.order(recording_id, "stop")
        outputs_when(shared_farm, recording_id, states("ENDED"))
        listener.wait(20)
    finally:
        listener.send_signal(signal.SIGKILL)
        listener.wait()
    recording = shared_farm.wait_for(recording_id, "UPLOADED")
    fidelity = measure(file).after(1)
    check_sound_and_picture(fidelity)
    check_same(fidelity, measure(downloaded(recording, tmp_path)))


@pytest.mark.exact
def test_hls_should_grow_in_the_store_while_it_is_recorded_and_be_whole_at_the_end(
    shared_farm: RunningFarm, pages: str, tmp_path: Path
) -> None:
    recording_id = start(shared_farm, pages, "hls", outputs=[{"type": "HLS"}])
    (output,) = outputs_when(shared_farm, recording_id, states("LIVE"))
    growing = httpx.get(output["url"]).text
    assert "#EXT-X-ENDLIST" not in growing
    time.sleep(4)
    shared_farm.order(recording_id, "stop")
    (output,) = outputs_when(shared_farm, recording_id, states("ENDED"))
    recording = shared_farm.wait_for(recording_id, "UPLOADED")
    playlist = httpx.get(output["url"])
    assert playlist.headers["content-type"].startswith("application/vnd.apple.mpegurl")
    assert "#EXT-X-ENDLIST" in playlist.text
    segments = [line for line in playlist.text.splitlines() if not line.startswith("#")]
    assert len(segments) >= 2
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(httpx.get(segment).content for segment in segments))
    fidelity = measure(joined)
    with av.open(recording["download_url"]) as file:
        # What ffmpeg still grabs while it ends is left out of the file alone.
        assert -0.2 < fidelity.duration - fidelity.times[0] - (file.duration or 0) / 1e6 < 1.0
    assert shared_farm.client.delete(f"/v2/recordings/{recording_id}").status_code == 200
    assert list((shared_farm.data_dir / "store").glob(f"*{recording_id}*/*")) == []
    assert httpx.get(segments[0]).status_code == 404


def test_outputs_should_go_on_when_their_programs_or_the_recorder_are_killed(
    pages: str, rtmp: RtmpServer, tmp_path: Path
) -> None:
    with running_farm(tmp_path / "data") as farm:
        recording_id = start(farm, pages, "killed", outputs=[{"url": f"{rtmp.url}/key"}, {"type": "HLS"}])
        outputs_when(farm, recording_id, states("LIVE", "LIVE"))
        for module in ("recording_farm.farm.live.stream", "recording_farm.farm.live.hls"):
            (process,) = below(farm.process.pid, word=module)
            process.kill()
        # Each comes back by itself.
        outputs_when(
            farm,
            recording_id,
            lambda outputs: all(each["state"] == "LIVE" and each["retries"] == 1 for each in outputs),
        )
        farm.recorder().kill()
        farm.wait_for_take(recording_id, 1, timeout=60)
        sent = len(rtmp.recorded("key"))
        deadline = time.monotonic() + 40
        while len(rtmp.recorded("key")) == sent:
            assert time.monotonic() < deadline, farm.log()
            time.sleep(0.1)
        time.sleep(5)
        farm.order(recording_id, "stop")
        _, hls = outputs_when(farm, recording_id, states("ENDED", "ENDED"))
        recording = farm.wait_for(recording_id, "UPLOADED")
        # Of HLS nothing is missing: it was made anew of all takes.
        playlist = httpx.get(hls["url"]).text
        seconds = sum(
            float(line[8:].rstrip(",")) for line in playlist.splitlines() if line.startswith("#EXTINF:")
        )
        assert seconds == pytest.approx(recording["recording_duration"], abs=1.5)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"rtmp_out_config": {"rtmp_url": "http://a.example/live/key"}}, "rtmp_url"),
        ({"rtmp_out_config": {"rtmp_url": "rtmp://a.example/only-an-app"}}, "rtmp_url"),
        ({"outputs": [{"url": "srt://a.example:9000?mode=listener"}]}, "outputs.0"),
        ({"outputs": [{"url": "rtmp://a.example/a/b c"}]}, "outputs.0"),
        ({"outputs": [{"type": "DASH"}]}, "outputs.0"),
        ({"outputs": [{"type": "HLS"}], "video_config": {"codec": "VP8"}}, "outputs"),
        ({"interactive_config": {"type": "ID4"}}, "interactive_config"),
        ({"interactive_config": {"type": "ID3"}, "video_config": {"codec": "VP8"}}, "interactive_config"),
    ],
)
def test_bad_output_should_be_refused(shared_farm: RunningFarm, wanted: dict[str, Any], said: str) -> None:
    answer = shared_farm.client.post("/v2/recordings", json={"meeting_id": "refused"} | wanted)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]["message"]
