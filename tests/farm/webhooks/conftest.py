"""Webhooks over one Redis, sent to receivers of the tests' own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from testkit.receivers import Receiver, receiver
from testkit.webhooks import WebhookFarm


@pytest.fixture
def farm(redis_client: redis.Redis, tmp_path: Path, redis_address: str, webhook_key: Path) -> WebhookFarm:
    """A farm that tries again at once, and may send to this machine."""
    return WebhookFarm(redis_client, tmp_path, redis_address, webhook_key=webhook_key)


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def other_hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running
