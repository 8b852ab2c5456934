"""Webhooks as the worker delivers them."""

import asyncio
import base64
from pathlib import Path
from typing import Any
from uuid import UUID

import redis
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from standardwebhooks import Webhook as StandardWebhook

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.recording.model import Recording, Status
from recording_farm.farm.recording.records import Records
from recording_farm.farm.webhooks.deliveries import DUE_KEY, Deliveries
from recording_farm.farm.webhooks.dispatcher import Dispatcher
from recording_farm.farm.webhooks.log import Attempt, WebhookLog
from recording_farm.farm.webhooks.registry import STATUS_UPDATE, Webhook, Webhooks
from recording_farm.farm.webhooks.sender import Sender
from recording_farm.farm.webhooks.signature import load_signing_key
from testkit.farm import Farm
from testkit.receivers import Received
from testkit.settings import settings_with

OPEN = {"allow_private_addresses": "all", "webhook_intervals": "0.05,0.05,0.05"}


def webhooks_of(client: redis.Redis, data_dir: Path) -> Webhooks:
    """The webhooks of a farm whose worker has its keys in `data_dir`."""
    settings = Settings.model_validate({"data_dir": data_dir})
    return Webhooks(client, 1000, Sealer(load_secret_key(settings)))


class WebhookFarm:
    """The parts of the farm that have to do with webhooks, over one Redis."""

    def __init__(self, client: redis.Redis, data_dir: Path, redis_url: str, **values: Any) -> None:
        self.redis = client
        self.settings: Settings = settings_with(data_dir, redis_url, **OPEN | values)
        self.records = Records(client)
        self.webhooks = Webhooks(client, self.settings.webhook_limit, Sealer(load_secret_key(self.settings)))
        self.deliveries = Deliveries(client)
        self.log = WebhookLog(client)
        self.key = load_signing_key(self.settings)
        self.dispatcher = Dispatcher(self.settings, client)

    def register(self, url: str, organization_id: str = "acme", **fields: Any) -> Webhook:
        """Register a webhook; `fields` replace those of one that is told all states."""
        values: dict[str, Any] = {"name": "test", "events": (STATUS_UPDATE,), "enabled": True} | fields
        return self.webhooks.create(organization_id, url=url, **values)

    def go_through(self, recording: Recording, *states: Status) -> None:
        """Add a recording and change its state to each of `states`."""
        self.records.add(recording, allow_multiple=True)
        for state in states:
            self.records.change_state(recording.id, state)

    async def send(self, rounds: int = 1) -> None:
        """Send what is due, as often as `rounds`."""
        for _ in range(rounds):
            self.dispatcher.dispatch_all()
            await Sender(self.settings, self.redis, self.key).send_due()

    async def send_all(self, timeout: float = 10) -> None:
        """Send until nothing waits any more."""
        async with asyncio.timeout(timeout):
            await self.send()
            while self.redis.zcard(DUE_KEY):
                await asyncio.sleep(0.02)
                await self.send()

    def attempts(self, webhook_id: UUID, organization_id: str = "acme") -> list[Attempt]:
        """All that was tried, the oldest first."""
        page = self.log.page(organization_id, str(webhook_id), 0, 1000)
        return [entry.attempt for entry in reversed(page.entries)]


async def deliver(farm: Farm) -> None:
    """Send, as the worker does, what changes of recordings have made due."""
    Dispatcher(farm.settings, farm.redis).dispatch_all()
    await Sender(farm.settings, farm.redis, load_signing_key(farm.settings)).send_due()


def public_key(farm: WebhookFarm) -> RSAPublicKey:
    """The public half of the farm's key."""
    key = load_pem_public_key(farm.key.public_pem.encode())
    assert isinstance(key, RSAPublicKey)
    return key


def verify(farm: WebhookFarm, received: Received, secret: str) -> None:
    """Both signatures; raises if one is wrong."""
    for family in ("dyte", "rtk"):
        signature = base64.b64decode(received.headers[f"{family}-signature"], validate=True)
        public_key(farm).verify(signature, received.body, PKCS1v15(), hashes.SHA256())
    StandardWebhook(secret).verify(received.body, dict(received.headers))
