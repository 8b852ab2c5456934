"""The OpenAPI document: valid, whole, and served."""

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from recording_farm.api.app import OPERATIONS
from recording_farm.api.docs.openapi import openapi_document
from recording_farm.api.error_types import ERROR_TYPES
from recording_farm.api.operations import DYTE, REALTIMEKIT
from recording_farm.encoder.formats import AudioCodec, Codec
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.transfers import TransferEvent
from recording_farm.farm.storage.content_types import content_type
from testkit.api.client import ACME, client_of
from testkit.api.serving import served
from testkit.settings import settings_with

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document(OPERATIONS)


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All operations of the document by their ids."""
    return {
        operation["operationId"]: operation
        for item in document["paths"].values()
        for method, operation in item.items()
        if method in METHODS
    }


async def test_document_should_be_served_and_valid(client: httpx.AsyncClient) -> None:
    response = await client.get("/openapi.json", auth=("", ""))
    assert response.status_code == 200
    OpenAPIV31SpecValidator(response.json()).validate()


def test_document_should_have_every_operation_in_every_dialect(document: dict[str, Any]) -> None:
    ids = operations(document).keys()
    for operation in OPERATIONS:
        assert operation.id in ids
        assert (f"realtimekit_{operation.id}" in ids) == (REALTIMEKIT in operation.dialects)
    assert len(ids) == sum(len(operation.dialects) for operation in OPERATIONS)
    assert f"{DYTE}/recordings/active-recording/{{meeting_id}}" in document["paths"]


def test_operation_should_tell_all_its_answers(document: dict[str, Any]) -> None:
    start = operations(document)["start_recording"]
    assert start["responses"].keys() == {"200", "400", "401", "403", "409", "413", "422", "429", "503"}
    assert "Retry-After" in start["responses"]["429"]["headers"]
    assert "WWW-Authenticate" in start["responses"]["401"]["headers"]
    assert start["security"] == [{"basic": []}, {"bearer": []}]
    assert operations(document)["health"]["security"] == []


def test_download_should_tell_the_types_of_all_files(document: dict[str, Any]) -> None:
    told = operations(document)["download"]["responses"]["200"]["content"]
    suffixes = [*(codec.suffix for codec in Codec), *(codec.suffix for codec in AudioCodec)]
    suffixes += [".tar", ".m3u8", ".ts"]
    assert told.keys() == {content_type(f"file{suffix}") for suffix in suffixes}


def test_parameters_should_have_the_schemas_that_validate(document: dict[str, Any]) -> None:
    listed = {each["name"]: each for each in operations(document)["get_all_recordings"]["parameters"]}
    assert listed["per_page"]["schema"]["maximum"] == 1000
    assert listed["status"]["explode"] is False
    assert listed["expired"]["schema"]["type"] == "boolean"
    one = operations(document)["realtimekit_get_one_recording"]["parameters"]
    assert [each["name"] for each in one] == ["account_id", "app_id", "recording_id"]
    assert one[2]["schema"] == {"type": "string", "format": "uuid"}
    start = operations(document)["start_recording"]["parameters"]
    assert [(each["name"], each["in"], each["required"]) for each in start] == [
        ("Idempotency-Key", "header", False)
    ]


def test_bodies_should_have_their_defaults_in_words(document: dict[str, Any]) -> None:
    # Some generators' clients send each `default`, over what the organization has set, others want all fields
    # set, and openapi-python-client leaves out an operation whose body has an object as one.
    schemas = document["components"]["schemas"]
    assert not any("default" in field for field in fields_of(schemas))
    assert schemas["VideoConfig"]["properties"]["width"]["description"] == "by default 1280"
    multiple = schemas["StartRecording"]["properties"]["allow_multiple_recordings"]["description"]
    assert multiple.endswith("; by default false")


def fields_of(schemas: dict[str, Any]) -> list[dict[str, Any]]:
    return [field for schema in schemas.values() for field in schema.get("properties", {}).values()]


def test_every_field_and_parameter_should_have_a_description(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []
    fields = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, each in schema.get("properties", {}).items()
        if not each.get("description")
    ]
    assert fields == []
    for operation in operations(document).values():
        assert operation["summary"]
        assert all(parameter["description"] for parameter in operation["parameters"]), operation


def test_every_example_should_be_what_its_schema_allows(document: dict[str, Any]) -> None:
    def wrong(schema: dict[str, Any], example: Any) -> list[str]:
        whole = {**schema, "components": document["components"]}
        return [error.message for error in Draft202012Validator(whole).iter_errors(example)]

    plain = 0
    for name, model in document["components"]["schemas"].items():
        for field, schema in model.get("properties", {}).items():
            for example in schema.get("examples", ()):
                assert wrong(schema, example) == [], (name, field)
                plain += 1
    assert plain > 200
    for operation in operations(document).values():
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None:
            assert wrong(content["schema"], content["example"]) == [], operation["operationId"]


def test_webhook_should_have_an_example_for_every_state(document: dict[str, Any]) -> None:
    content = document["webhooks"]["recording.statusUpdate"]["post"]["requestBody"]["content"]
    examples = content["application/json"]["examples"]
    assert examples.keys() == set(Status)
    for name, example in examples.items():
        Draft202012Validator(content["application/json"]["schema"]).validate(example["value"])
        assert example["value"]["recording"]["status"] == name
    uploaded = examples["UPLOADED"]["value"]["recording"]
    assert uploaded["filesState"] == "KEPT"
    assert uploaded["filesExpireAt"] > uploaded["stoppedTime"]


def test_event_of_an_upload_should_have_an_example_for_each_of_its_states(document: dict[str, Any]) -> None:
    content = document["webhooks"]["recording.transferUpdate"]["post"]["requestBody"]["content"]
    examples = content["application/json"]["examples"]
    assert examples.keys() == set(TransferEvent)
    for name, example in examples.items():
        Draft202012Validator(content["application/json"]["schema"]).validate(example["value"])
        assert example["value"]["event"] == "recording.transferUpdate"
        assert example["value"]["transfer"]["state"] == name


def test_type_of_an_error_should_be_one_of_those_explained(document: dict[str, Any]) -> None:
    error = document["components"]["schemas"]["TypedErrorObject"]["properties"]["type"]
    assert error["enum"] == list(ERROR_TYPES)
    assert {"unauthorized", "already_recording", "not_found"} <= set(error["enum"])


async def test_document_should_say_where_the_api_is(settings: Settings) -> None:
    public = settings_with(settings.data_dir, settings.redis_url, public_url="https://farm.test/recorder/")
    async with client_of(public) as client:
        (server,) = (await client.get("/openapi.json")).json()["servers"]
    assert server["url"] == "https://farm.test/recorder"
    assert "https://farm.test/recorder/v2 " in server["description"]
    assert server["description"].endswith("https://farm.test/recorder/client/v4")


def test_fields_that_may_be_missing_should_never_be_null(document: dict[str, Any]) -> None:
    recording = document["components"]["schemas"]["RecordingObject"]
    assert recording["properties"]["recording_duration"]["type"] == "integer"
    assert recording["properties"]["stop_reason"]["$ref"].endswith("/ReasonObject")
    assert not {"recording_duration", "storage_config", "start_reason", "stop_reason"} & set(
        recording["required"]
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/recordings/%FF%FE", 404),
        ("GET", "/v2/recordings/%00", 404),
        ("GET", "/v2/recordings/%0d%0aX-Injected:%201", 404),
        ("GET", "/v2/recordings/" + "a" * 10_000, 404),
        ("GET", "/v2/recordings/active-recording/%00%FF", 404),
        ("GET", "/v2/recordings/active-recording/" + "%E2%80%AE" * 500, 404),
        ("GET", "/v2/recordings?page_no=" + "9" * 400, 422),
        ("GET", "/v2/recordings?per_page=1e999", 422),
        ("GET", "/v2/recordings?per_page=%FF", 422),
        ("GET", "/v2/recordings?start_time=9999-12-31T23:59:59-23:59", 200),
        ("GET", "/v2/recordings?end_time=0001-01-01T00:00:00%2B23:59", 200),
        ("GET", "/v2/recordings?search=%00%FF", 200),
        ("GET", "/v2/recordings?status=" + "INVOKED," * 30, 422),
        ("PATCH", "/v2/recordings", 405),
        ("GET", "/v2/recordings/track", 405),
        ("TRACE", "/v2/recordings", 405),
        ("GET", "/client/v4/accounts/a%00/realtime/kit/b/recordings", 404),
        ("GET", "/client/v4/accounts/a/realtime/kit/" + "b" * 65 + "/recordings", 404),
    ],
)
async def test_hostile_request_should_get_a_plain_answer(
    settings: Settings, method: str, path: str, status: int
) -> None:
    async with served(settings) as address, httpx.AsyncClient(auth=ACME) as client:
        response = await client.request(method, httpx.URL(address, raw_path=path.encode()))
    assert (response.status_code, response.json()["success"]) == (status, status == 200)
    assert "x-injected" not in response.headers
    if status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"meeting_id": "demo", "max_seconds": 1e400}',
        b'{"meeting_id": "demo", "max_seconds": ' + b"9" * 5000 + b"}",
        b'{"meeting_id": "demo", "max_seconds": NaN}',
        b'{"meeting_id": "demo", "max_seconds": -0.0}',
        b'{"meeting_id": "\\u202egnp.exe"}',
        b'{"meeting_id": "a\\u0000b"}',
        b'\xef\xbb\xbf{"meeting_id": "demo"}',
        b'{"meeting_id": "\xff"}',
        b"meeting_id=demo",
    ],
)
async def test_hostile_body_should_be_refused(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post("/v2/recordings", content=content)
    assert response.status_code in {400, 422}, response.text
    assert response.json()["errors"]
