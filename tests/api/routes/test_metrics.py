import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from recording_farm.farm.config.settings import Settings
from testkit.api.client import client_of

TOKEN = "a-token-of-enough-characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize("headers", [{}, BEARER])
async def test_metrics_should_be_closed_without_a_token(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    answer = await client.get("/metrics", headers=headers, auth=None)
    assert answer.status_code == 401
    assert "farm_" not in answer.text


async def test_metrics_should_be_shown_to_the_token_alone(settings: Settings) -> None:
    with_token = settings.model_validate({**settings.model_dump(), "metrics_token": TOKEN})
    async with client_of(with_token) as client:
        assert (await client.get("/metrics")).status_code == 401  # an organization's key
        wrong = await client.get("/metrics", headers={"Authorization": "Bearer wrong"}, auth=None)
        assert wrong.status_code == 401
        assert wrong.headers["www-authenticate"].startswith("Bearer")
        answer = await client.get("/metrics", headers=BEARER, auth=None)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {
        "farm_redis_up",
        "farm_load_ratio",
        "farm_start_seconds",
        "process_resident_memory_bytes",
    } <= names
