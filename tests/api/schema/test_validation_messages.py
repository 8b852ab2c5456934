"""Errors of validation: one sentence, the field, and what it may be."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from recording_farm.api.app import OPERATIONS
from recording_farm.api.schema.requests import CreateWebhook, ListRecordings, PutStoragePreset, StartRecording
from recording_farm.api.schema.validation_messages import problems_of

S3 = {"type": "s3", "bucket": "films", "access_key": "key", "secret": "secret", "endpoint": "https://s3.test"}
VIDEO_FIELDS = "codec, export_file, fps, height, profile, watermark, width"
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
        ({"maxSeconds": 60}, '"maxSeconds": unknown field, did you mean max_seconds?'),
        ({"color": "red"}, '"color": unknown field'),
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
        (
            {"storage_config": {"bucket": "a"}},
            f'"storage_config.type": is required, must be {TYPES} or preset',
        ),
        ({"storage_config": "aws"}, '"storage_config": must be an object'),
        ({"storage_config": S3 | {"secret": ""}}, '"storage_config.secret": must not be empty'),
        (
            {"storage_config": S3 | {"session_token": "x" * 16_385}},
            '"storage_config.session_token": must have at most 16384 characters',
        ),
        ({"webhooks": ["https://a.test/" + "x" * 5000]}, '"webhooks.0": must have at most 2048 characters'),
        (
            {"storage_config": S3 | {"secrt": "a"}},
            '"storage_config.secrt": unknown field, did you mean secret?',
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
            '"outputs.0.url": cannot be combined with type',
        ),
        ({"outputs": [{}]}, '"outputs.0": must have url or type'),
        ({"outputs": ["rtmp://a.test/b/c"]}, '"outputs.0": must be an object'),
        ({"page_hints": {"join": [{"fill": "#name"}]}}, '"page_hints.join.0.text": is required'),
        ({"page_hints": {"join": [{"click": 1}]}}, '"page_hints.join.0.click": must be text'),
        (
            {"page_hints": {"join": [{"click": "#a"}, {"clik": "#b"}]}},
            '"page_hints.join.1.clik": unknown field, did you mean click?',
        ),
        (
            {"page_hints": {"join": [{"click": "#a", "wait_for": "#b"}]}},
            '"page_hints.join.0.wait_for": cannot be combined with click',
        ),
        ({"page_hints": {"join": ["#a"]}}, '"page_hints.join.0": must be an object'),
        (
            {"page_hints": {"join": [{"click": "#a", "frame": 1}]}},
            '"page_hints.join.0.frame": must be text or a list',
        ),
        ({"video_config": {"a": 1}}, '"video_config.a": unknown field, known here: ' + VIDEO_FIELDS),
        ({"page_hints": {"settle_seconds": float("inf")}}, '"page_hints.settle_seconds": must be 0 to 60'),
        ({"max_seconds": 10**30}, '"max_seconds": must be 1 to 86400'),
        (
            {"storage_config": S3 | {"metadata": {"a": " b"}}},
            '"storage_config.metadata.a": must be printable ASCII, without spaces at the start or the end',
        ),
    ],
)
def test_one_thing_that_is_wrong_should_be_one_sentence(sent: dict[str, Any], told: str) -> None:
    assert problems(StartRecording, {"meeting_id": "room"} | sent) == told


def test_error_about_a_misplaced_secret_should_not_contain_it() -> None:
    azure = {"type": "azure", "bucket": "films", "access_key": "connection", "secret": "s3cret"}
    told = problems(StartRecording, {"meeting_id": "room", "storage_config": azure})
    assert told == '"storage_config.secret": must be empty'


def test_error_of_an_empty_step_should_list_the_steps() -> None:
    told = problems(StartRecording, {"meeting_id": "room", "page_hints": {"join": [{}]}})
    assert told.startswith('"page_hints.join.0": must have ')
    for name in ("click", "fill with text", "wait_for"):
        assert name in told


def test_misspelled_field_should_not_be_missing_as_well() -> None:
    told = '"meetingId": unknown field, did you mean meeting_id?'
    assert problems(StartRecording, {"meetingId": "room"}) == told


def test_other_models_should_be_reported_alike() -> None:
    assert problems(CreateWebhook, {"name": "a", "url": "https://a.test"}) == '"events": is required'
    told = problems(CreateWebhook, {"name": "a", "url": "https://a.test", "events": ["recording"]})
    assert told.startswith('"events.0": must be meeting.started, ')
    assert told.endswith(" or meeting.summary")
    told = problems(PutStoragePreset, {"storage_config": {"type": "preset", "name": "a"}})
    assert told == f'"storage_config.type": must be {TYPES.replace(", sftp", " or sftp")}, not preset'
    assert problems(StartRecording, []) == '"body": must be an object'


def test_query_should_be_reported_alike() -> None:
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


async def test_defaults_should_be_distinguished_from_what_was_sent(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v2/recordings", json={"meeting_id": "room", "outputs": [{"typ": "HLS"}]})
    assert answer.status_code == 422
    message = answer.json()["error"]["message"]
    assert message == '"outputs.0.typ": unknown field, did you mean type?'


# Every field of every body, with values of every kind.

WRONG: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        1.5,
        1e300,
        "",
        "x",
        "ééé",
        "a b",
        "../..",
        "{",
        "x" * 20_000,
        "http://[",
        "rtmp://a:b/c",
    ),
    *([], [1], ["x"], ["x"] * 200, {}, {"a": 1}, {"type": "x"}, {"a": "b"}),
)
SFTP = {"type": "sftp", "host": "h.test", "username": "u", "auth_method": "KEY"}
STORAGES = [{}, *({"storage_config": each} for each in (S3, SFTP, {"type": "gcs"}, {"type": "preset"}))]
PYDANTIC = re.compile(
    "|".join(
        (
            *("Input ", "Value ", "[Ss]tring ", "should ", "validation", "valid (float|integer|boolean)"),
            *("dictionary", "instance", "pattern", "Target\\b", "Output\\b", "Preset\\b", "\\bNone\\b"),
            *("unicode", "tuple", "discriminator", "\\bfields? required", "not allowed"),
        )
    )
)
"""Words of pydantic's messages, and names of the models."""


def paths_in(
    schema: dict[str, Any], definitions: dict[str, Any], depth: int = 0
) -> Iterator[tuple[Any, ...]]:
    """The paths of all fields that a schema knows."""
    if depth > 8:
        return
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from paths_in(choice, definitions, depth + 1)
    below = dict(schema.get("properties", {}))
    below |= {0: schema["items"]} if isinstance(schema.get("items"), dict) else {}
    below |= {"a": next(iter(schema["patternProperties"].values()))} if "patternProperties" in schema else {}
    for name, each in below.items():
        yield (name,)
        yield from ((name, *path) for path in paths_in(each, definitions, depth + 1))


def with_value(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A body that has that value at a path."""
    if not path:
        return value
    first, *rest = path
    if first == 0:
        return [with_value(None, tuple(rest), value)]
    known = body if isinstance(body, dict) else {}
    return {**known, first: with_value(known.get(first), tuple(rest), value)}


def message_of(model: type[BaseModel], sent: Any, *, is_json: bool) -> str | None:
    """What a client is told of a wrong request; None if it is right."""
    try:
        model.model_validate_json(json.dumps(sent)) if is_json else model.model_validate(sent)
    except ValidationError as error:
        return problems_of(error, sent, model)
    return None


def assert_plain(messages: set[str | None]) -> None:
    without_names = {re.sub(r'"[^"]*": |, known here: .*', "", told) for told in messages if told is not None}
    assert without_names
    assert [told for told in without_names if PYDANTIC.search(told.replace("or None", ""))] == []
    assert [told for told in without_names if "has a value that is not allowed" in told] == []


BODIES = {operation.body.__name__: operation.body for operation in OPERATIONS if operation.body is not None}
QUERIES = {
    model.__name__: model
    for operation in OPERATIONS
    for model in (operation.query, operation.headers)
    if model is not None
}


@pytest.mark.parametrize("model", BODIES.values(), ids=BODIES)
def test_no_body_should_get_words_of_pydantic(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    assert_plain(
        {
            message_of(model, with_value(body, path, value), is_json=True)
            for path in dict.fromkeys(paths_in(schema, schema.get("$defs", {})))
            for value in WRONG
            for body in (STORAGES if path[0] == "storage_config" else [{"meeting_id": "room"}])
        }
    )


@pytest.mark.parametrize("model", QUERIES.values(), ids=QUERIES)
def test_no_query_should_get_words_of_pydantic(model: type[BaseModel]) -> None:
    texts = ("", "x", "-1", "1e3", "9" * 18, "9" * 400, "true", "\x00", "x" * 500, "2026-01-31", ["1", "2"])
    assert_plain(
        {
            message_of(model, {name: value}, is_json=False)
            for name in (*(field.alias or name for name, field in model.model_fields.items()), "color")
            for value in (*texts, "2026-02-31T00:00:00Z")
        }
    )
