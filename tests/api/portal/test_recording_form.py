"""The form that starts a recording."""

import json
import re
import shlex
from html import unescape
from uuid import uuid4

from recording_farm.farm.recording.listing import Wanted
from recording_farm.farm.recording.records import Records
from testkit.api.portal import Visit


async def test_form_should_start_one_recording_however_often_it_is_sent(
    acme: Visit, records: Records
) -> None:
    once = str(uuid4())
    fields = {
        "meeting_id": "demo",
        "once": once,
        "codec": "VP8",
        "size": "640x360",
        "fps": "25",
        "audio": "MP3",
        "max_seconds": "60",
        "priority": "high",
        "allow_multiple_recordings": "yes",
    }
    first, second = [await acme.send("/start", **fields) for _ in range(2)]
    assert first.status_code == 303
    assert first.headers["location"] == second.headers["location"]
    recording = records.get("acme", first.headers["location"].rpartition("/")[2])
    assert (recording.codec, recording.width, recording.fps) == ("VP8", 640, 25)
    assert recording.audio_file is not None
    assert (recording.max_seconds, recording.priority) == (60, "high")


async def test_form_that_is_refused_should_say_why_and_keep_what_was_typed(acme: Visit) -> None:
    response = await acme.send("/start", meeting_id="demo", url="http://10.0.0.1/room", max_seconds="1e3")
    assert response.status_code == 422
    assert "max_seconds" in response.text
    assert 'value="http://10.0.0.1/room"' in response.text
    assert (
        "10.0.0.1 is a private address"
        in (await acme.send("/start", meeting_id="demo", url="http://10.0.0.1/room")).text
    )


async def test_second_recording_of_a_meeting_should_lead_to_the_first_and_to_its_option(acme: Visit) -> None:
    first = (await acme.send("/start", meeting_id="team a/b")).headers["location"]
    refused = await acme.send("/start", meeting_id="team a/b", codec="VP8")
    assert refused.status_code == 409
    assert f'<a href="{first}">open that recording</a>' in refused.text
    assert "<details open>" in refused.text
    assert "allow_multiple_recordings;" not in refused.text
    assert '<option value="VP8" selected>' in refused.text
    allowed = await acme.send("/start", meeting_id="team a/b", allow_multiple_recordings="yes")
    assert allowed.status_code == 303


async def test_form_should_be_shown_as_a_curl_command_that_starts_the_same(
    acme: Visit, records: Records
) -> None:
    fields = {"meeting_id": "it's mine", "profile": "text", "outputs": "rtmp://8.8.8.8/a\nsrt://8.8.8.8:9"}
    page = await acme.send("/start", as_curl="yes", hls="yes", **fields)
    command = re.search(r'<pre id="curl"[^>]*>(.*?)</pre>', page.text, re.DOTALL)
    assert command
    arguments = shlex.split(unescape(command[1]).replace("\\\n", ""))
    assert arguments[:2] == ["curl", "http://127.0.0.1:8000/v2/recordings"]
    assert json.loads(arguments[-1]) == {
        "meeting_id": "it's mine",
        "video_config": {"profile": "text"},
        "outputs": [{"url": "rtmp://8.8.8.8/a"}, {"url": "srt://8.8.8.8:9"}, {"type": "HLS"}],
    }
    assert records.find("acme", Wanted()).total == 0


async def test_mark_of_a_start_in_any_letters_should_be_answered(acme: Visit) -> None:
    response = await acme.send("/start", meeting_id="m", once="é\n€")
    assert response.status_code in {303, 422}, response.text
