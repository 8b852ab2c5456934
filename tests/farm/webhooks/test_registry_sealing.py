"""Secrets and URLs of webhooks as they lie in Redis."""

import json

import pytest
import redis

from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import NotFoundError
from recording_farm.farm.webhooks.registry import STATUS_UPDATE, Webhooks

URL = "https://a.example/?token=t0ken"


@pytest.fixture
def webhooks(redis_client: redis.Redis) -> Webhooks:
    return Webhooks(redis_client, 10, Sealer(b"secret"))


def create(webhooks: Webhooks, url: str = URL) -> str:
    made = webhooks.create("acme", name="test", url=url, events=(STATUS_UPDATE,), enabled=True)
    return str(made.id)


def in_redis(client: redis.Redis) -> bytes:
    hashes = b"".join(client.hvals("farm:webhooks:acme"))  # type: ignore[arg-type]
    return hashes + (client.get("farm:webhook-secret:acme") or b"")  # type: ignore[operator]


def test_secrets_and_urls_should_be_sealed(webhooks: Webhooks, redis_client: redis.Redis) -> None:
    webhook_id, secret = create(webhooks), webhooks.secret_of("acme")
    webhooks.rotate_secret("acme", webhook_id)
    for rotated in (False, True):
        if rotated:
            secret = webhooks.rotate_secret_of("acme")
        kept = in_redis(redis_client)
        for text in ("whsec_", "t0ken", secret):
            assert text.encode() not in kept
        assert webhooks.secret_of("acme") == secret
    assert webhooks.get("acme", webhook_id).url == URL


def test_webhook_of_the_last_version_should_be_read_and_sealed_when_it_changes(
    webhooks: Webhooks, redis_client: redis.Redis
) -> None:
    webhook_id = create(webhooks)
    plain = webhooks.get("acme", webhook_id).model_dump_json()
    redis_client.hset("farm:webhooks:acme", webhook_id, plain)
    redis_client.set("farm:webhook-secret:acme", "whsec_AAAA")
    assert webhooks.secret_of("acme") == "whsec_AAAA"
    assert webhooks.get("acme", webhook_id).secret == json.loads(plain)["secret"]
    webhooks.change("acme", webhook_id, name="changed")
    webhooks.rotate_secret_of("acme")
    assert b"whsec_" not in in_redis(redis_client)


def test_webhook_that_cannot_be_read_should_not_hide_the_others(
    webhooks: Webhooks, redis_client: redis.Redis
) -> None:
    other = create(Webhooks(redis_client, 10, Sealer(b"another")))
    redis_client.hset("farm:webhooks:acme", "junk", b"sealed:x")
    mine = create(webhooks, "https://b.example/")
    assert [str(each.id) for each in webhooks.all_of("acme")] == [mine]
    with pytest.raises(NotFoundError):
        webhooks.get("acme", other)
