"""Cloudflare's Python SDK makes a recording, and all answers are strictly what its types say."""

from typing import Any

from cloudflare import Cloudflare
from cloudflare.types.realtime_kit import (
    RecordingGetOneRecordingResponse,
    RecordingGetRecordingsResponse,
    RecordingPauseResumeStopRecordingResponse,
    RecordingStartRecordingsResponse,
)

from testkit.running_farm import RunningFarm
from testkit.waiting import wait_until

WHERE: dict[str, Any] = {"account_id": "0123456789abcdef0123456789abcdef", "app_id": "app"}
SECONDS = 90


def test_recording_should_be_made_with_answers_of_the_sdks_types(farm: RunningFarm) -> None:
    with Cloudflare(api_token="key", base_url=f"{farm.address}/client/v4", max_retries=0) as sdk:
        recordings = sdk.realtime_kit.recordings.with_raw_response

        def is_(status: str) -> bool:
            answer = recordings.get_one_recording(recording_id, **WHERE)
            one = RecordingGetOneRecordingResponse.model_validate_json(answer.read(), strict=True).data
            assert one is not None
            assert one.status != "ERRORED"
            return one.status == status

        answer = recordings.start_recordings(
            **WHERE,
            meeting_id="python",
            max_seconds=60,
            video_config={"codec": "VP8", "width": 320, "height": 180},
        )
        started = RecordingStartRecordingsResponse.model_validate_json(answer.read(), strict=True).data
        assert started is not None
        recording_id = started.id
        wait_until(lambda: is_("RECORDING"), SECONDS, "RECORDING")
        for action, status in (("pause", "PAUSED"), ("resume", "RECORDING"), ("stop", "UPLOADING")):
            order: Any = {"action": action}
            answered = recordings.pause_resume_stop_recording(recording_id, **order, **WHERE).read()
            told = RecordingPauseResumeStopRecordingResponse.model_validate_json(answered, strict=True).data
            assert told is not None
            assert told.status == status
        wait_until(lambda: is_("UPLOADED"), SECONDS, "UPLOADED")
        listed = recordings.get_recordings(**WHERE, meeting_id="python", status=["UPLOADED"]).read()
        (one,) = RecordingGetRecordingsResponse.model_validate_json(listed, strict=True).data
        assert one.output_file_name.endswith(".webm")
        assert one.recording_duration is not None
