"""The app: all routes and their shared context."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import redis
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from recording_farm.api.connections import connections_allowed
from recording_farm.api.context import Context
from recording_farm.api.cors import CrossOrigin
from recording_farm.api.docs.routes import document_routes
from recording_farm.api.error_responses import EXCEPTION_HANDLERS
from recording_farm.api.http_errors import BusyError, TooManyDownloadsError
from recording_farm.api.key_watch import print_first_key, watch_keys
from recording_farm.api.meeting.ice import IceServers
from recording_farm.api.meeting.page import meeting_routes
from recording_farm.api.meeting.rooms import Rooms
from recording_farm.api.operations import routes_of
from recording_farm.api.portal import portal_routes
from recording_farm.api.portal.error_pages import with_error_pages_for_browsers
from recording_farm.api.request_log import RequestLog
from recording_farm.api.routes.defaults import recording_config_operations
from recording_farm.api.routes.downloads import download_operations
from recording_farm.api.routes.events import event_operations
from recording_farm.api.routes.evidence import evidence_operations
from recording_farm.api.routes.health import health_operations
from recording_farm.api.routes.host_links import host_link_operations
from recording_farm.api.routes.live import live_operations
from recording_farm.api.routes.meeting import meeting_signalling_routes, watch_rooms
from recording_farm.api.routes.metrics import metrics_operations
from recording_farm.api.routes.outputs import output_operations
from recording_farm.api.routes.readiness import readiness_operations
from recording_farm.api.routes.recordings import recording_operations
from recording_farm.api.routes.start_recording import start_operations
from recording_farm.api.routes.storage import storage_operations
from recording_farm.api.routes.uploads import upload_operations
from recording_farm.api.routes.webhooks import webhook_operations
from recording_farm.api.services.participant_tokens import ParticipantTokens
from recording_farm.api.services.rate_limit import RateLimits
from recording_farm.api.services.redis_watch import RedisWatch
from recording_farm.api.services.sessions import Sessions
from recording_farm.api.services.shared_settings_watch import watch_shared_settings
from recording_farm.api.services.store_watch import StoreWatch
from recording_farm.api.services.turns import Turns
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.api_keys import ApiKeys, load_api_keys
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.db.clients import connect, connect_async
from recording_farm.farm.db.faults import Outage
from recording_farm.farm.errors import FarmError
from recording_farm.farm.recording.defaults import RecordingConfigs
from recording_farm.farm.recording.feeds import Feeds
from recording_farm.farm.recording.links import Links
from recording_farm.farm.recording.quotas import Quotas
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recovery.unclaimed import fail_lost_recordings
from recording_farm.farm.recovery.wait_times import QueueWaitTimes
from recording_farm.farm.storage.presets import StoragePresets
from recording_farm.farm.storage.store import Store, open_store
from recording_farm.farm.webhooks.deliveries import Deliveries
from recording_farm.farm.webhooks.log import WebhookLog
from recording_farm.farm.webhooks.registry import Webhooks
from recording_farm.farm.webhooks.signature import SigningKey, load_signing_key

logger = logging.getLogger(__name__)

OPERATIONS: Final = (
    *start_operations,
    *recording_operations,
    *output_operations,
    *live_operations,
    *upload_operations,
    *recording_config_operations,
    *host_link_operations,
    *storage_operations,
    *evidence_operations,
    *event_operations,
    *webhook_operations,
    *download_operations,
    *health_operations,
    *readiness_operations,
    *metrics_operations,
)
"""All operations of the API."""

_SWEEP_SECONDS: Final = 10.0
"""Interval of the check for recordings that no worker takes."""

_DRAWINGS: Final = 4
"""Concurrent drawings of watermarks; for the share of an organization see `api.services.turns`."""

_DRAWINGS_WAITING: Final = 4
"""Further ones of an organization that wait; each takes 10 s at most."""

_CHECKS: Final = 6
"""Concurrent checks of storage, a process of 20 s at most each; further ones are rejected."""

_EVIDENCE: Final = 12
"""Concurrent downloads of evidence; further ones are rejected."""

_READS: Final = 12
"""Concurrent reads of files for downloads; further ones wait. Other requests share the other 28 threads."""


def create_app(settings: Settings) -> Starlette:
    """Create the API as an ASGI app with a lifespan.

    It also starts without Redis, and answers 503 until Redis is available. An API key created on the first
    start is printed once to standard error. Raises SettingsError when the keys in the data directory cannot
    be read, or the store's settings are invalid.
    """
    keys, made = load_api_keys(settings)
    print_first_key(made)
    secret = load_secret_key(settings)
    signing_key = load_signing_key(settings)
    store = open_store(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with _running(settings, keys, secret, signing_key, store) as context:
            app.state.context = context
            yield

    routes = [
        *routes_of(OPERATIONS),
        *document_routes(OPERATIONS, settings.base_url),
        *portal_routes,
        *meeting_routes,
        *meeting_signalling_routes,
    ]
    return _App(
        settings.cors_origins,
        routes=routes,
        exception_handlers=with_error_pages_for_browsers(EXCEPTION_HANDLERS),
        middleware=[Middleware(RequestLog)],
        lifespan=lifespan,
    )


class _App(Starlette):
    """An app with CORS headers on all responses, including those to unexpected errors.

    Starlette handles unexpected errors outside of an app's own middleware.
    """

    def __init__(self, origins: tuple[str, ...], **options: Any) -> None:
        super().__init__(**options)
        self._origins = origins

    def build_middleware_stack(self) -> ASGIApp:
        return CrossOrigin(super().build_middleware_stack(), OPERATIONS, self._origins)


@asynccontextmanager
async def _running(
    settings: Settings, keys: ApiKeys, secret: bytes, signing_key: SigningKey, store: Store
) -> AsyncIterator[Context]:
    sealer = Sealer(secret)
    with connect(settings.redis_address) as client:
        async with connect_async(settings.redis_address) as waiting_client:
            context = Context(
                settings=settings,
                keys=keys,
                participant_tokens=ParticipantTokens(settings),
                rate_limits=RateLimits(waiting_client, settings),
                sessions=Sessions(waiting_client, secret),
                link_secret=secret,
                store=store,
                store_watch=StoreWatch(store),
                redis_watch=RedisWatch(waiting_client),
                links=Links(settings, store, secret),
                sealer=sealer,
                redis=client,
                waiting_redis=waiting_client,
                records=Records(client),
                quotas=Quotas(client, settings),
                recording_configs=RecordingConfigs(client, sealer),
                storage_presets=StoragePresets(client, sealer),
                feeds=Feeds(waiting_client, settings.event_streams),
                webhooks=Webhooks(client, settings.webhook_limit, sealer),
                deliveries=Deliveries(client),
                webhook_log=WebhookLog(client),
                signing_key=signing_key,
                rooms=Rooms(IceServers(settings)),
                drawings=Turns(_DRAWINGS, _DRAWINGS_WAITING, BusyError),
                storage_checks=Turns(_CHECKS, 0, BusyError),
                evidence_downloads=Turns(_EVIDENCE, 0, TooManyDownloadsError),
                downloads=Turns(connections_allowed(), 0, TooManyDownloadsError),
                file_reads=Turns(_READS, connections_allowed(), TooManyDownloadsError),
            )
            background_tasks = (
                asyncio.create_task(_sweep(context), name="sweep"),
                asyncio.create_task(watch_keys(context), name="watch keys"),
                asyncio.create_task(
                    watch_shared_settings(settings, signing_key, client), name="watch shared settings"
                ),
                asyncio.create_task(watch_rooms(context), name="watch rooms"),
            )
            try:
                yield context
            finally:
                for task in background_tasks:
                    task.cancel()
                await asyncio.gather(*background_tasks, return_exceptions=True)


async def _sweep(context: Context) -> None:
    waits = QueueWaitTimes(context.redis)
    outage = Outage("recordings without a job cannot be found")
    while True:
        try:
            timeout = timedelta(seconds=context.settings.invoke_timeout)
            for lost in await run_in_threadpool(
                fail_lost_recordings, context.records, context.redis, waits, timeout
            ):
                logger.error("recording %s: %s", lost.id, lost.error.message if lost.error else "lost")
            outage.recovered()
        except redis.RedisError as error:
            outage.failed(error)
        except (FarmError, ValidationError) as error:
            logger.warning("recordings without a job cannot be found: %s", error)
        await asyncio.sleep(_SWEEP_SECONDS)
