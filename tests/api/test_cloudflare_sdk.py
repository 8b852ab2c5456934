"""Cloudflare's own Python SDK drives the farm, with nothing changed but its base URL and its key."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import cloudflare
import httpx
import pydantic
import pytest
from cloudflare import AsyncCloudflare, Cloudflare
from cloudflare.types.realtime_kit import (
    RecordingGetActiveRecordingsResponse,
    RecordingGetOneRecordingResponse,
    RecordingGetRecordingsResponse,
    RecordingPauseResumeStopRecordingResponse,
    RecordingStartRecordingsResponse,
)
from cloudflare.types.realtime_kit.recording_get_one_recording_response import Data

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.recording.model import Caller, Reason, ReasonKind, Recording, Status
from recording_farm.farm.recording.records import Records
from testkit.api.serving import served_in_thread
from testkit.recordings import new_recording

ACCOUNT = "0123456789abcdef0123456789abcdef"
APP = "my-app"
WHERE: dict[str, Any] = {"account_id": ACCOUNT, "app_id": APP}


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    with served_in_thread(settings) as address:
        yield f"{address}/client/v4"


@pytest.fixture
def sdk(address: str) -> Iterator[Cloudflare]:
    """The SDK with the key of `acme`."""
    with Cloudflare(api_token="acme-key", base_url=address, max_retries=0) as sdk:
        yield sdk


def start(sdk: Cloudflare, meeting_id: str = "demo", **options: Any) -> Any:
    answer = sdk.realtime_kit.recordings.start_recordings(**WHERE, meeting_id=meeting_id, **options)
    assert answer.success
    assert answer.data is not None
    return answer.data


def text_of(error: cloudflare.APIStatusError) -> str:
    """The message of an error, which both of its shapes must have."""
    body = error.body
    assert isinstance(body, dict)
    (problem,) = error.errors
    assert problem.code == body["error"]["code"] == error.status_code
    assert problem.message == body["error"]["message"]
    return str(problem.message)


def test_start_should_take_what_the_sdk_sends(sdk: Cloudflare, records: Records) -> None:
    started = start(
        sdk,
        max_seconds=120,
        file_name_prefix="Physics",
        allow_multiple_recordings=True,
        url="https://example.com/page",
        video_config={"codec": "VP8", "width": 640, "height": 360, "export_file": True},
        audio_config={"codec": "AAC", "channel": "stereo", "export_file": True},
        realtimekit_bucket_config={"enabled": True},
    )
    assert started.status == "INVOKED"
    assert started.output_file_name.startswith("Physics_demo_")
    assert started.start_reason is not None
    assert started.start_reason.caller is not None
    assert started.start_reason.caller.user_id == "acme"
    recording = records.get("acme", started.id)
    assert (recording.codec, recording.width, recording.max_seconds) == ("VP8", 640, 120)


def test_get_one_and_active_should_find_it(sdk: Cloudflare) -> None:
    started = start(sdk)
    one = sdk.realtime_kit.recordings.get_one_recording(started.id, **WHERE).data
    assert one is not None
    assert (one.id, one.invoked_time, one.status) == (started.id, started.invoked_time, "INVOKED")
    active = sdk.realtime_kit.recordings.get_active_recordings("demo", **WHERE).data
    assert active is not None
    assert active.id == started.id


def test_orders_should_be_given(sdk: Cloudflare) -> None:
    started = start(sdk)
    stopped = sdk.realtime_kit.recordings.pause_resume_stop_recording(started.id, action="stop", **WHERE).data
    assert stopped is not None
    assert stopped.status == "ERRORED"
    with pytest.raises(cloudflare.ConflictError) as caught:
        sdk.realtime_kit.recordings.pause_resume_stop_recording(started.id, action="pause", **WHERE)
    assert "cannot be paused" in text_of(caught.value)


def test_list_should_be_paged_and_filtered(sdk: Cloudflare, records: Records) -> None:
    begin = now() - timedelta(seconds=30)
    added: list[Recording] = []
    for number in range(5):
        recording = new_recording(meeting_id=f"m{number}", invoked_time=begin + timedelta(seconds=number))
        added.append(records.add(recording))
    records.change_state(added[0].id, Status.RECORDING)
    records.change_state(added[1].id, Status.ERRORED)

    def ids(**wanted: Any) -> list[str]:
        return [each.id for each in sdk.realtime_kit.recordings.get_recordings(**WHERE, **wanted).data]

    def expected(*numbers: int) -> list[str]:
        return [str(added[number].id) for number in numbers]

    assert ids() == expected(4, 3, 2, 1, 0)
    assert ids(per_page=2, page_no=2) == expected(2, 1)
    assert ids(status=["RECORDING", "ERRORED"]) == expected(1, 0)
    assert ids(meeting_id="m3") == expected(3)
    assert ids(search="M2", sort_by="invokedTime", sort_order="ASC", expired=False) == expected(2)
    assert ids(start_time=added[1].invoked_time, end_time=added[2].invoked_time) == expected(2, 1)
    paging = sdk.realtime_kit.recordings.get_recordings(**WHERE, per_page=2, page_no=2).paging
    assert (paging.total_count, paging.start_offset, paging.end_offset) == (5, 3, 4)


def test_errors_should_be_those_the_sdk_knows(sdk: Cloudflare, address: str) -> None:
    recordings = sdk.realtime_kit.recordings
    with pytest.raises(cloudflare.NotFoundError) as missing:
        recordings.get_one_recording("97440c6a-140b-40a9-9499-b23fd7a3868a", **WHERE)
    assert "there is no recording" in text_of(missing.value)
    with pytest.raises(cloudflare.NotFoundError) as nothing:
        recordings.get_active_recordings("demo", **WHERE)
    assert "demo" in text_of(nothing.value)
    start(sdk)
    with pytest.raises(cloudflare.ConflictError) as running:
        start(sdk)
    assert "already being recorded" in text_of(running.value)
    with pytest.raises(cloudflare.UnprocessableEntityError) as wrong:
        start(sdk, "other", max_seconds=0)
    assert '"max_seconds"' in text_of(wrong.value)
    with Cloudflare(api_token="guess", base_url=address, max_retries=0) as stranger:
        with pytest.raises(cloudflare.AuthenticationError) as unknown:
            start(stranger)
        assert text_of(unknown.value)


def test_answers_should_be_strictly_what_the_types_say(
    sdk: Cloudflare, address: str, records: Records
) -> None:
    caller = Caller(type="USER", user_id="ada", name="Ada")
    over = records.add(
        new_recording(
            meeting_id="over",
            storage_config={"type": "aws", "bucket": "films", "region": "eu-west-1"},
            start_reason=Reason(reason=ReasonKind.API_CALL, caller=caller),
        )
    )
    records.change_state(over.id, Status.RECORDING, started_time=now())
    records.change_state(
        over.id,
        Status.UPLOADING,
        stopped_time=now(),
        stop_reason=Reason(reason=ReasonKind.ALL_PEERS_LEFT, caller=Caller(type="INTERNAL")),
    )
    records.change_state(over.id, Status.UPLOADED, file_size=1234, recording_duration=60)
    running = start(sdk)
    records.change_state(running.id, Status.RECORDING)
    where = f"{address}/accounts/{ACCOUNT}/realtime/kit/{APP}/recordings"
    with httpx.Client(headers={"Authorization": "Bearer acme-key"}) as client:
        answers: list[tuple[type[pydantic.BaseModel], httpx.Response]] = [
            (RecordingGetRecordingsResponse, client.get(where)),
            (RecordingGetActiveRecordingsResponse, client.get(f"{where}/active-recording/demo")),
            (RecordingGetOneRecordingResponse, client.get(f"{where}/{running.id}")),
            (RecordingGetOneRecordingResponse, client.get(f"{where}/{over.id}")),
            (
                RecordingPauseResumeStopRecordingResponse,
                client.put(f"{where}/{running.id}", json={"action": "pause"}),
            ),
            (RecordingStartRecordingsResponse, client.post(where, json={"meeting_id": "new"})),
        ]
    for model, answer in answers:
        read = model.model_validate_json(answer.content, strict=True, extra="ignore")
        assert read
        data = answer.json()["data"]
        for recording in data if isinstance(data, list) else [data]:
            nulls = {name for name, value in recording.items() if value is None}
            # These may be null by the types of the TypeScript SDK; what else may be is the farm's own.
            assert nulls & Data.model_fields.keys() <= {
                *("audio_download_url", "download_url", "download_url_expiry", "file_size", "session_id"),
                *("started_time", "stopped_time"),
            }
            for name in ("start_reason", "stop_reason", "meeting"):
                assert None not in leaves(recording.get(name))


def leaves(value: Any) -> list[Any]:
    """All values in an object and the objects in it."""
    if not isinstance(value, dict):
        return [value] if value is not None else []
    return [leaf for each in value.values() for leaf in ([None] if each is None else leaves(each))]


def test_tracks_should_be_refused_in_words(sdk: Cloudflare) -> None:
    with pytest.raises(cloudflare.UnprocessableEntityError) as refused:
        sdk.realtime_kit.recordings.start_track_recording(
            **WHERE, meeting_id="demo", layers={"default": {"file_name_prefix": "a", "media_kind": "audio"}}
        )
    assert "tracks is not supported" in text_of(refused.value)
    assert "tracks is not supported" in str(refused.value)


async def test_asynchronous_client_should_work_as_well(address: str) -> None:
    async with AsyncCloudflare(api_token="acme-key", base_url=address, max_retries=0) as sdk:
        recordings = sdk.realtime_kit.recordings
        started = (await recordings.start_recordings(**WHERE, meeting_id="demo")).data
        assert started is not None
        listed = await recordings.get_recordings(**WHERE, status=["INVOKED", "PAUSED"])
        assert [each.id for each in listed.data] == [started.id]
        stopped = (await recordings.pause_resume_stop_recording(started.id, action="stop", **WHERE)).data
        assert stopped is not None
        assert stopped.status == "ERRORED"
        with pytest.raises(cloudflare.NotFoundError):
            await recordings.get_active_recordings("demo", **WHERE)
