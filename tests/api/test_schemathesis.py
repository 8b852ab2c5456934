"""Every operation of the OpenAPI document, called with what its schemas allow and with what they do not."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import hypothesis
import pytest
import redis
import requests
import schemathesis
from hypothesis import HealthCheck, strategies
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from recording_farm.api.app import OPERATIONS
from recording_farm.api.docs.openapi import openapi_document
from recording_farm.api.operations import REALTIMEKIT
from recording_farm.farm.db.clients import connect
from recording_farm.farm.nodes.registry import Nodes
from testkit.api.client import ACME
from testkit.api.serving import served_in_thread
from testkit.settings import settings_with

# Most addresses are refused for what they are, which no schema can tell.
pytestmark = pytest.mark.long

schemathesis.openapi.format("uri", strategies.just("http://127.0.0.1:9/page"))

schemathesis.openapi.format("stream-uri", strategies.just("rtmp://127.0.0.1:9/live/key"))
schemathesis.openapi.format("host", strategies.just("127.0.0.1"))
schemathesis.openapi.format("origin", strategies.just("https://example.com"))
schemathesis.openapi.format("locale", strategies.just("de-AT"))
schemathesis.openapi.format("timezone", strategies.just("Europe/Vienna"))

DOCUMENT = openapi_document(OPERATIONS)
OTHER_DIALECT = f"^{REALTIMEKIT.partition('{')[0]}"
# It would go to whatever storages the examples name.
CHECK = "/storage/check$"
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT).exclude(path_regex=f"{OTHER_DIALECT}|{CHECK}")
# The handlers are the same: a few examples show that the paths lead to them.
OTHER_SCHEMA = (
    schemathesis.openapi.from_dict(
        DOCUMENT,
        config=SchemathesisConfig.from_dict(
            {"phases": {"coverage": {"enabled": False}}, "checks": {"ignored_auth": {"enabled": False}}}
        ),
    )
    .include(path_regex=OTHER_DIALECT)
    .exclude(path_regex=CHECK)
)
# As an id these would be another operation's path, which knows other methods.
OTHER_PATHS = {"secret", "track"}
ALWAYS_REFUSED = {operation.id for operation in OPERATIONS if operation.status is None}


class Farm(NamedTuple):
    """A farm that is served, and its Redis."""

    address: str
    redis: redis.Redis
    session: requests.Session


@pytest.fixture(scope="module")
def farm(redis_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    settings = settings_with(
        tmp_path_factory.mktemp("data"),
        redis_address,
        allow_private_addresses="all",
        event_streams=0,  # one would never end
        rate_limit=0,
        failure_limit=0,
    )
    with (
        connect(redis_address) as client,
        served_in_thread(settings) as address,
        requests.Session() as session,
    ):
        client.flushall()
        session.trust_env = False
        yield Farm(address, client, session)


def settled(examples: int) -> hypothesis.settings:
    """The same examples in every run, and no more than that many of each operation."""
    return hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
    )


def may_be_refused_for_its_meaning(body: Any) -> bool:
    """Whether a body asks for what no schema can tell is impossible."""
    if not isinstance(body, dict):
        return False

    def part(name: str) -> dict[str, Any]:
        value = body.get(name)
        return value if isinstance(value, dict) else {}

    unknown_preset = part("storage_config").get("type") == "preset"
    keeps_nothing = any(
        part(name).get("enabled") is False for name in ("dyte_bucket_config", "realtimekit_bucket_config")
    )
    records_nothing = part("audio_config").get("export_file") is False
    # There is no picture at the address that all URLs are given here.
    has_watermark = part("video_config").get("watermark") is not None
    # Only H.264 can be sent on, and only a video can have tags.
    names = "rtmp_out_config", "live_streaming_config", "outputs", "interactive_config"
    sent_on = any(body.get(name) for name in names)
    no_way = sent_on and (part("video_config").get("codec") == "VP8")
    no_picture = sent_on and part("video_config").get("export_file") is False
    # Not with every page, not by two names, and not more in all than there may be.
    narrow = "auth_token", "layout", "interactive_config", "live_streaming_config", "dyte_bucket_config"
    no_use = any(body.get(name) is not None for name in narrow)
    too_many = sent_on and len(body["outputs"] if isinstance(body.get("outputs"), list) else []) >= 10
    # Some headers are the browser's own, and some cookies no browser takes; defaults must name their page.
    is_given = any(body.get(name) for name in ("http_credentials", "headers", "cookies"))
    if no_use or too_many or is_given:
        return True
    return unknown_preset or keeps_nothing or records_nothing or has_watermark or no_way or no_picture


def check(case: schemathesis.Case[Any], farm: Farm) -> None:
    if OTHER_PATHS & set((case.path_parameters or {}).values()):
        return
    if "Idempotency-Key" in case.headers:
        # A key that comes with different requests is refused, which no schema can tell.
        farm.redis.flushall()
    # A farm without a node is not ready, which is a server's error and no defect.
    Nodes(farm.redis).beat("node-1", 1)
    refused = (case.operation.definition.raw["operationId"]).removeprefix("realtimekit_") in ALWAYS_REFUSED
    case.call_and_validate(
        base_url=farm.address,
        session=farm.session,
        auth=ACME,
        timeout=10,
        excluded_checks=[positive_data_acceptance]
        if refused or may_be_refused_for_its_meaning(case.body)
        else [],
    )


@SCHEMA.parametrize()
@settled(20)
def test_operation_should_answer_as_it_is_documented(case: schemathesis.Case[Any], farm: Farm) -> None:
    check(case, farm)


@OTHER_SCHEMA.parametrize()
@settled(4)
def test_other_dialect_should_answer_as_it_is_documented(case: schemathesis.Case[Any], farm: Farm) -> None:
    check(case, farm)
