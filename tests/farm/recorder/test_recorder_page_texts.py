"""What a page says while it is recorded, as ID3 tags in the file."""

import asyncio
import io
import re
import tarfile
import time
from pathlib import Path

import av
import httpx
import pytest
from av.container import InputContainer

from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.encoder.formats import AudioExport, Format
from recording_farm.encoder.journal import read_journal
from recording_farm.encoder.live.hls import DESCRIPTION, segments_in
from recording_farm.farm.recorder.plan import Plan
from recording_farm.farm.recorder.recorder import Recorder
from recording_farm.farm.spool.spool import Spool
from testkit.browser_bot.sdk_page import SDK_PAGE
from testkit.browser_bot.sites import open_site
from testkit.machine.processes import below
from testkit.pages import serve_pages
from testkit.recorders import KeepingListener, no_orders
from testkit.running_farm import RunningFarm
from testkit.waiting import until

pytestmark = pytest.mark.long

SAY = """<script>
const say = payload => socket.send(JSON.stringify({type: "ID3Data", payload, timestamp: Date.now()}));
</script>"""
# Says what its picture is: each second another color and its name, until the file `over` says so.
COLORS = """<body style="margin:0"><script>
const colors = ["#ff0000", "#00ff00", "#0000ff"];
let number = 0, over = false;
setInterval(async () => {
  number += 1;
  document.body.style.background = colors[number % 3];
  if (over) say("late");
  else say(number % 2 ? `color ${number % 3}` : {color: number % 3});
  const answer = await fetch("over", {cache: "no-store"});
  if (!over && await answer.text() === "yes") {
    over = true;
    say("CLOSE_TRANSPORT");
  }
}, 1000);
</script>"""


# Says one thing until it is over, or another thing after a new start.
EARLY = """<script>
setInterval(() => say("early"), 200);
setTimeout(() => say("CLOSE_TRANSPORT"), 6000);
</script>"""
LATE = """<script>
let times = 0;
setInterval(() => { say("late"); times += 1; if (times === 30) fetch("/said"); }, 200);
</script>"""


# Not sooner than a moment before the picture, not later than a few frames.
NEAR = 0.3


def opened(segments: bytes) -> InputContainer:
    source = av.open(io.BytesIO(segments), "r", format="mpegts")
    assert isinstance(source, InputContainer)
    return source


def texts_in(segments: bytes) -> list[tuple[float, str]]:
    """The ID3 texts in joined segments, with their times in seconds."""
    found = []
    with opened(segments) as source:
        stream = next(stream for stream in source.streams if stream.type == "data")
        for packet in source.demux(stream):
            content = bytes(packet)
            if content and packet.pts is not None:
                assert content.startswith(b"ID3\x04")
                text = content.split(DESCRIPTION.encode() + b"\0", 1)[1].decode()
                found.append((float(packet.pts * packet.time_base), text))
    return found


def colors_in(segments: bytes) -> list[tuple[float, int]]:
    """When the picture becomes red, green or blue (0, 1, 2)."""
    changes: list[tuple[float, int]] = []
    with opened(segments) as source:
        for frame in source.decode(video=0):
            color = int(frame.to_ndarray(format="rgb24")[200, 200].argmax())
            assert frame.pts is not None
            assert frame.time_base is not None
            if not changes or changes[-1][1] != color:
                changes.append((float(frame.pts * frame.time_base), color))
    return changes


def check_texts(segments: bytes, pause: float) -> None:
    """Each text stands where the picture that it tells of begins.

    The picture of one that was said right before the `pause` (s) came when nothing was recorded any more.
    """
    texts, colors = texts_in(segments), colors_in(segments)
    texts = [(at, text) for at, text in texts if not pause - NEAR < at < pause + 0.1]
    assert len(texts) >= 4
    for at, text in texts:
        number = re.search(r"\d", text)
        assert number is not None, text
        began = [shown for shown, color in colors if color == int(number[0])]
        assert any(abs(at - shown) < NEAR for shown in began), (at, text, began)
    assert {type_of(text) for _, text in texts} == {"text", "json"}


def length_of_first_take(spool: Path) -> float:
    """In seconds, of one that has ended."""
    journal = read_journal(spool / "take-000.json")
    assert journal is not None
    assert journal.end_us is not None
    return (journal.end_us - (journal.wall_us - journal.epoch * 1_000_000)) / 1e6


def type_of(text: str) -> str:
    return "json" if text.startswith("{") else "text"


@pytest.mark.exact
def test_what_the_page_says_should_stand_at_its_time_in_the_archive_and_in_the_live_hls(
    shared_farm: RunningFarm, tmp_path: Path
) -> None:
    (tmp_path / "sdk.html").write_text(SDK_PAGE + SAY + COLORS)
    (tmp_path / "over").write_text("no")
    with serve_pages(tmp_path) as pages:
        started = shared_farm.start(
            url=f"{pages}/sdk.html",
            meeting_id="interactive",
            video_config={},
            interactive_config={"type": "ID3"},
            outputs=[{"type": "HLS"}],
            audio_config={"codec": "MP3"},
        )
        assert started["output_file_name"].endswith(".tar")
        assert started["interactive_config"] == {"type": "ID3"}
        shared_farm.wait_for(started["id"], "RECORDING")
        time.sleep(4)
        shared_farm.order(started["id"], "pause")
        shared_farm.wait_for(started["id"], "PAUSED")
        pause = length_of_first_take(shared_farm.data_dir / "spool" / started["id"])
        time.sleep(2)
        shared_farm.order(started["id"], "resume")
        shared_farm.wait_for_take(started["id"], 2, 60)
        time.sleep(5)
        (tmp_path / "over").write_text("yes")
        time.sleep(5)
        shared_farm.order(started["id"], "stop")
        recording = shared_farm.wait_for(started["id"], "UPLOADED")
    answer = httpx.get(recording["download_url"])
    assert answer.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive}
        content = {name: file.read() for name, file in files.items() if file is not None}
    playlist = content["index.m3u8"].decode()
    assert "#EXT-X-ENDLIST" in playlist
    segments = segments_in(playlist)
    assert sorted(content) == [*segments, "index.m3u8"]
    # A segment ends with the first key frame behind ten seconds.
    assert len(segments) == 2, playlist
    lengths = [float(length) for length in re.findall(r"#EXTINF:([0-9.]+)", playlist)]
    assert sum(lengths) == pytest.approx(recording["recording_duration"], abs=1)
    archived = b"".join(content[segment] for segment in segments)
    check_texts(archived, pause)
    assert b"late" not in archived
    assert recording["quality"]["takes"] == 2
    assert httpx.get(recording["audio_download_url"]).headers["content-type"] == "audio/mpeg"

    deadline = time.monotonic() + 30
    while (output := recording["outputs"][0])["state"] != "ENDED":
        assert time.monotonic() < deadline, output
        recording = shared_farm.answer(shared_farm.client.get(f"/v2/recordings/{recording['id']}"))
    live = httpx.get(output["url"]).text
    check_texts(b"".join(httpx.get(segment).content for segment in segments_in(live)), pause)


async def test_texts_that_are_over_should_stay_so_when_the_page_is_joined_again(tmp_path: Path) -> None:
    listener = KeepingListener()
    spool = Spool(tmp_path / "spool", Format(width=320, height=180, audio_only=AudioExport()))
    async with open_site() as site:
        plan = Plan(site.add("/", SDK_PAGE + SAY + EARLY), spool.format, PageContract.SDK, timed_texts=True)
        recorder = Recorder(plan, spool, tmp_path / "evidence", no_orders(), listener)
        recording = asyncio.create_task(recorder.run())
        await until(spool.texts_over.exists, 60, "there are no texts any more")
        site.add("/", SDK_PAGE + SAY + LATE)
        for process in below(word="--type=renderer"):
            process.kill()
        await until(lambda: len(listener.takes) == 2, 60, "the page is joined again")
        await until(lambda: "/said" in site.asked, 60, "it has said more")
        recorder.stop()
        await recording
    said = spool.texts.read_text()
    assert "early" in said
    assert "late" not in said
    assert "CLOSE_TRANSPORT" not in said
