"""Errors of validation: one sentence, the field, and what it may be."""

import json
import time
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from recording_farm.api.schema.requests import CreateWebhook, ListRecordings, PutStoragePreset, StartRecording
from recording_farm.api.schema.validation_messages import problems_of

S3 = {"type": "s3", "bucket": "films", "access_key": "key", "secret": "secret", "endpoint": "https://s3.test"}
TYPES = "aws, azure, cloudflare, digitalocean, gcs, s3, sftp"


def problems(model: type[BaseModel], sent: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps(sent))
    return problems_of(caught.value, sent, model)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"max_seconds": 0}, '"max_seconds": must be 1 to 86400'),
        ({"max_seconds": "60"}, '"max_seconds": must be a whole number'),
        ({"video_config": {"codec": "VP9"}}, '"video_config.codec": must be H264 or VP8, not VP9'),
        ({"video_config": {"width": 15}}, '"video_config.width": must be a multiple of 2'),
        ({"video_config": []}, '"video_config": must be an object'),
        ({"priority": "urgent"}, '"priority": must be high, normal or low, not urgent'),
        ({"webhooks": "https://a.test"}, '"webhooks": must be a list'),
        ({"webhooks": ["https://a.test", 1]}, '"webhooks.1": must be text'),
        ({"webhooks": ["https://a.test"] * 11}, '"webhooks": must have at most 10 items, not 11'),
        ({"url": ""}, '"url": must not be empty'),
        ({"maxSeconds": 60}, '"maxSeconds": is not a field this farm knows; did you mean max_seconds?'),
        ({"color": "red"}, '"color": is not a field this farm knows'),
        (
            {"file_name_prefix": "a b"},
            '"file_name_prefix": must be 1 to 64 ASCII letters, digits or _',
        ),
        ({"layout": "a b"}, '"layout": must be 1 to 64 ASCII letters, digits or any of _ -'),
        (
            {"storage_config": S3 | {"tags": {"a<": "b"}}},
            '"storage_config.tags.a<": must be ASCII letters, digits, spaces or any of + = . _ : / @ -',
        ),
        # Unions
        ({"storage_config": {"type": "ftp"}}, f'"storage_config.type": must be {TYPES} or preset, not ftp'),
        ({"storage_config": {"bucket": "a"}}, f'"storage_config.type": is required: {TYPES} or preset'),
        ({"storage_config": "aws"}, '"storage_config": must be an object'),
        ({"storage_config": S3 | {"secret": ""}}, '"storage_config.secret": must not be empty'),
        (
            {"storage_config": S3 | {"session_token": "x" * 16_385}},
            '"storage_config.session_token": must have at most 16384 characters',
        ),
        ({"webhooks": ["https://a.test/" + "x" * 5000]}, '"webhooks.0": must have at most 2048 characters'),
        (
            {"storage_config": S3 | {"secrt": "a"}},
            '"storage_config.secrt": is not a field this farm knows; did you mean secret?',
        ),
        (
            {"storage_config": S3 | {"encryption": {"type": "AES"}}},
            '"storage_config.encryption.type": must be SSE-S3 or SSE-KMS, not AES',
        ),
        ({"outputs": [{"type": "HLS"}, {"url": 5}]}, '"outputs.1.url": must be text'),
        (
            {"outputs": [{"url": "http://a.test"}]},
            '"outputs.0.url": must begin with rtmp://, rtmps:// or srt://',
        ),
        ({"outputs": [{"type": "RTMP"}]}, '"outputs.0.type": must be HLS, not RTMP'),
        (
            {"outputs": [{"type": "HLS", "url": "rtmp://a.test/b/c"}]},
            '"outputs.0.url": cannot be given together with type',
        ),
        ({"outputs": [{}]}, '"outputs.0": must have url or type'),
        ({"outputs": ["rtmp://a.test/b/c"]}, '"outputs.0": must be an object'),
        ({"page_hints": {"join": [{"fill": "#name"}]}}, '"page_hints.join.0.text": is required'),
        ({"page_hints": {"join": [{"click": 1}]}}, '"page_hints.join.0.click": must be text'),
        (
            {"page_hints": {"join": [{"click": "#a"}, {"clik": "#b"}]}},
            '"page_hints.join.1.clik": is not a field this farm knows; did you mean click?',
        ),
        (
            {"page_hints": {"join": [{"click": "#a", "wait_for": "#b"}]}},
            '"page_hints.join.0.wait_for": cannot be given together with click',
        ),
        ({"page_hints": {"join": ["#a"]}}, '"page_hints.join.0": must be an object'),
    ],
)
def test_one_thing_that_is_wrong_should_be_one_sentence(sent: dict[str, Any], told: str) -> None:
    assert problems(StartRecording, {"meeting_id": "room"} | sent) == told


def test_secret_should_not_be_told_where_it_may_not_be() -> None:
    azure = {"type": "azure", "bucket": "films", "access_key": "connection", "secret": "s3cret"}
    told = problems(StartRecording, {"meeting_id": "room", "storage_config": azure})
    assert told == '"storage_config.secret": must be empty'


def test_empty_step_should_be_told_what_steps_there_are() -> None:
    told = problems(StartRecording, {"meeting_id": "room", "page_hints": {"join": [{}]}})
    assert told.startswith('"page_hints.join.0": must have ')
    for name in ("click", "fill with text", "wait_for"):
        assert name in told


def test_misspelled_field_should_not_be_missing_as_well() -> None:
    told = '"meetingId": is not a field this farm knows; did you mean meeting_id?'
    assert problems(StartRecording, {"meetingId": "room"}) == told


def test_other_models_should_be_told_alike() -> None:
    assert problems(CreateWebhook, {"name": "a", "url": "https://a.test"}) == '"events": is required'
    told = problems(CreateWebhook, {"name": "a", "url": "https://a.test", "events": ["recording"]})
    assert told.startswith('"events.0": must be meeting.started, ')
    assert told.endswith(" or meeting.summary")
    told = problems(PutStoragePreset, {"storage_config": {"type": "preset", "name": "a"}})
    assert told == f'"storage_config.type": must be {TYPES.replace(", sftp", " or sftp")}, not preset'
    assert problems(StartRecording, []) == '"body": must be an object'


def test_query_should_be_told_alike() -> None:
    sent = {"page_no": "x", "status": ["DONE"]}
    with pytest.raises(ValidationError) as caught:
        ListRecordings.model_validate(sent)
    assert problems_of(caught.value, sent, ListRecordings) == (
        '"page_no": must be a whole number; '
        '"status.0": must be INVOKED, RECORDING, PAUSED, UPLOADING, UPLOADED or ERRORED, not DONE'
    )


def test_many_problems_should_be_cut_short_and_take_no_time() -> None:
    sent = {f"{number}{'x' * 500}": 1 for number in range(50_000)}
    began = time.process_time()
    told = problems(StartRecording, sent)
    assert time.process_time() - began < 5
    assert len(told) < 2000
    assert "more" in told


async def test_defaults_should_be_told_from_what_was_sent(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v2/recordings", json={"meeting_id": "room", "outputs": [{"typ": "HLS"}]})
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert message == '"outputs.0.typ": is not a field this farm knows; did you mean type?'
