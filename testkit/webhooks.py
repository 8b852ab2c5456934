"""Webhooks as the worker delivers them."""

import redis

from farm.config.settings import Settings
from farm.webhooks.dispatcher import Dispatcher
from farm.webhooks.sender import Sender
from farm.webhooks.signature import load_signing_key


async def deliver(settings: Settings, client: redis.Redis) -> None:
    """Send, as the worker does, what changes of recordings have made due."""
    Dispatcher(settings, client).dispatch_all()
    await Sender(settings, client, load_signing_key(settings)).send_due()
