"""The form that starts a recording."""

from uuid import uuid4

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


async def test_mark_of_a_start_in_any_letters_should_be_answered(acme: Visit) -> None:
    response = await acme.send("/start", meeting_id="m", once="é\n€")
    assert response.status_code in {303, 422}, response.text
