"""Through REST, queue, worker, store and link, as a client of the farm sees it."""

import os
import socket
import time
from pathlib import Path

import av
import httpx
import pytest

from recording_farm.browser_bot.stage.autogroup import LOW, NORMAL, nice_of
from testkit.fidelity.measure import measure
from testkit.machine.processes import below, wait_until_none, words_of
from testkit.running_farm import RunningFarm, running_farm, takes_of


def wait_until_it_precedes_its_page(farm: RunningFarm) -> None:
    """Wait until a recorder gets more processor time than its page and the worker's other parts."""
    recorder = farm.recorder()
    (chromium,) = {os.getsid(process.pid) for process in below(recorder.pid, name="chromium")}
    (finishing,) = {os.getsid(process.pid) for process in farm.processes("farm transfers.")}
    sessions = recorder.pid, chromium, finishing
    if nice_of(recorder.pid) is None:
        return  # the kernel has no autogroups
    deadline = time.monotonic() + 60
    while (seen := tuple(map(nice_of, sessions))) != (NORMAL, LOW, LOW):
        assert time.monotonic() < deadline, seen
        time.sleep(0.1)


@pytest.mark.parametrize("codec", ["H264", pytest.param("VP8", marks=pytest.mark.long)])
def test_recording_should_go_from_request_to_link(
    shared_farm: RunningFarm, pages: str, tmp_path: Path, codec: str
) -> None:
    farm = shared_farm
    started = farm.start(
        url=f"{pages}/page.html",
        file_name_prefix="lesson_1",
        video_config={"codec": codec, "width": 640, "height": 360},
    )
    assert started["status"] == "INVOKED"
    farm.wait_for(started["id"], "RECORDING")
    wait_until_it_precedes_its_page(farm)
    active = farm.answer(farm.client.get("/v2/recordings/active-recording/demo"))
    assert active["id"] == started["id"]
    for action, state in (("pause", "PAUSED"), ("resume", "RECORDING"), ("stop", "UPLOADED")):
        farm.order(started["id"], action)
        farm.wait_for(started["id"], state)
    recording = farm.wait_for(started["id"], "UPLOADED")
    assert [entry["status"] or (entry["event"], entry["take"]) for entry in recording["timeline"]] == [
        *("INVOKED", ("take_began", 0), "RECORDING", ("take_ended", 0), "PAUSED"),
        *(("take_began", 1), "RECORDING", ("take_ended", 1), "UPLOADING", "UPLOADED"),
    ]
    quality = recording["quality"]
    assert takes_of(recording) == 2
    assert quality["frames_captured"] > 0
    # How fast it is with takes this short is the machine's load; tests/encoder/ measure it.
    assert quality["speed"] > 0
    # The page beeps each second for a tenth of it.
    assert quality["silent_seconds"] == 0
    assert recording["stop_reason"]["reason"] == "API_CALL"
    assert recording["output_file_name"].startswith("lesson_1_demo_")

    file = farm.download(recording, tmp_path / str(recording["output_file_name"]))
    assert file.stat().st_size == recording["file_size"]
    with av.open(str(file)) as source:
        assert (source.streams.video[0].width, source.streams.video[0].height) == (640, 360)
    assert measure(file).numbers
    part = httpx.get(str(recording["download_url"]), headers={"range": "bytes=0-99"})
    assert part.status_code == 206
    assert part.content == file.read_bytes()[:100]
    assert farm.client.get("/v2/recordings/active-recording/demo").status_code == 404
    assert list((farm.data_dir / "spool").iterdir()) == []


@pytest.mark.long
def test_built_in_meeting_should_be_recorded_without_a_url(tmp_path: Path) -> None:
    # No private address is allowed here: the built-in meeting needs no permission.
    with running_farm(tmp_path / "data", FARM_ALLOW_PRIVATE_ADDRESSES="") as farm:
        recording = farm.start(max_seconds=4)
        recording = farm.wait_for(recording["id"], "UPLOADED")
        assert recording["stop_reason"]["reason"] == "MAX_DURATION"
        assert recording["recording_duration"] in {4, 5}
        file = farm.download(recording, tmp_path / "meeting.mp4")
    with av.open(str(file)) as source:
        frames = [frame.to_ndarray(format="gray") for frame in source.decode(video=0)]
    # Four people, plates and a whiteboard, that move.
    early, middle, late = (frames[len(frames) * quarter // 4] for quarter in (1, 2, 3))
    assert middle.std() > 30
    assert abs(late.astype(int) - early.astype(int)).mean() > 0.5


def test_page_that_is_over_should_end_its_recording(shared_farm: RunningFarm, pages: str) -> None:
    started = shared_farm.start(url=f"{pages}/page.html?seconds=3", meeting_id="ends")
    recording = shared_farm.wait_for(started["id"], "UPLOADED")
    assert recording["stop_reason"]["reason"] == "PAGE_ENDED"
    assert recording["recording_duration"] in {2, 3, 4}


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("http://127.0.0.1:{closed_port}/", "refused"),
        pytest.param("http://nosuchname.invalid/", "does not resolve", marks=pytest.mark.long),
        pytest.param("{pages}/nosuchpage.html", "404", marks=pytest.mark.long),
    ],
)
def test_page_that_fails_should_say_why_and_keep_a_screenshot(
    shared_farm: RunningFarm, pages: str, page: str, reason: str
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = page.format(pages=pages, closed_port=closed.getsockname()[1])
        started = shared_farm.start(url=url, meeting_id="fails")
    with pytest.raises(AssertionError, match="did not load"):
        shared_farm.wait_for(started["id"], "UPLOADED")
    recording = shared_farm.answer(shared_farm.client.get(f"/v2/recordings/{started['id']}"))
    assert recording["status"] == "ERRORED"
    assert reason in recording["error"]["message"]
    evidence = shared_farm.data_dir / "evidence" / started["id"]
    assert (evidence / "fault-001" / "page.png").read_bytes().startswith(b"\x89PNG")
    assert reason in (evidence / "recorder.log").read_text()


def test_stop_before_the_first_frame_should_end_it_at_once(shared_farm: RunningFarm) -> None:
    started = shared_farm.start(url="http://127.0.0.1:9/", meeting_id="early")
    recording = shared_farm.order(started["id"], "stop")
    assert recording["status"] == "ERRORED"
    assert recording["stop_reason"]["reason"] == "STOPPED_BEFORE_START"
    assert wait_until_none() == []


@pytest.mark.long
def test_shutdown_should_keep_what_runs(pages: str, tmp_path: Path) -> None:
    with running_farm(tmp_path / "data") as farm:
        started = farm.start(url=f"{pages}/page.html")
        farm.wait_for(started["id"], "RECORDING")
    assert farm.process.returncode == 0
    assert wait_until_none() == []
    with running_farm(tmp_path / "data") as farm:
        recording = farm.wait_for(started["id"], "UPLOADED")
        assert recording["stop_reason"]["reason"] == "NODE_SHUT_DOWN"
        assert recording["error"]["code"] == "node_shut_down"
        assert recording["file_size"] > 0


@pytest.mark.long
@pytest.mark.parametrize("generations", [1, 2], ids=["slot", "pool"])
def test_killed_slot_or_pool_should_be_replaced_and_lose_no_recording(
    shared_farm: RunningFarm, pages: str, generations: int
) -> None:
    started = shared_farm.start(url=f"{pages}/page.html", meeting_id=f"orphan{generations}")
    shared_farm.wait_for(started["id"], "RECORDING")
    recorded = shared_farm.data_dir / "spool" / started["id"]
    while not any(take.stat().st_size > 10_000 for take in recorded.glob("take-*.mp4")):
        assert shared_farm.process.poll() is None
    recorder = next(
        process.parent()
        for process in below(shared_farm.process.pid, name="ffmpeg")
        # Not the other slot's, whose stage waits.
        if any(str(recorded) in word for word in words_of(process))
    )
    assert recorder is not None
    recorder.parents()[generations - 1].kill()
    shared_farm.wait_for_take(started["id"], 2, 60)
    shared_farm.order(started["id"], "stop")
    recording = shared_farm.wait_for(started["id"], "UPLOADED")
    assert (takes_of(recording), recording["error"]) == (2, None)
    # The farm goes on as before.
    again = shared_farm.start(url=f"{pages}/page.html", meeting_id=f"after{generations}", max_seconds=1)
    shared_farm.wait_for(again["id"], "UPLOADED")
