"""The dispatcher: turns every change of a recording into deliveries to webhooks, and enqueues due ones.

It is a process of `farm worker`. Every node runs one, and all share the stream `farm:changes` without a
consumer group: a group could give two changes of one recording to two nodes, and lose their order. Instead,
each dispatcher reads the first entry, and the fastest one removes it and appends its deliveries to their
lanes in one atomic step. So lanes have the order of the stream, each entry counts exactly once, and a
dispatcher that dies leaves nothing that another one would have to claim.
"""

import logging
from collections.abc import Iterator
from typing import Final, cast
from uuid import UUID, uuid4

import redis
from pydantic import ValidationError

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import Outage, describe
from recording_farm.farm.host.processes import stop_event
from recording_farm.farm.queues.webhooks import enqueue_sending
from recording_farm.farm.recording.changes import CHANGES_KEY, Change, change_of
from recording_farm.farm.recording.links import Links
from recording_farm.farm.recording.model import FINAL
from recording_farm.farm.recording.sealed_urls import seal_webhook_url, show_urls
from recording_farm.farm.storage.store import open_store
from recording_farm.farm.telemetry.counts import Counts, change_increments
from recording_farm.farm.telemetry.logs import about
from recording_farm.farm.telemetry.traces import open_sender
from recording_farm.farm.webhooks.deliveries import Deliveries, Delivery
from recording_farm.farm.webhooks.payload import status_update, transfer_update
from recording_farm.farm.webhooks.registry import STATUS_UPDATE, TRANSFER_UPDATE, Webhooks, webhook_id_of

logger = logging.getLogger(__name__)

_MAX_WAIT: Final = 1.0
"""Seconds between two checks for due deliveries when nothing changes; a shutdown may wait as long."""

_CLAIM_GRACE: Final = 0.25
"""Seconds that an enqueued sender gets to claim due deliveries."""

_MIN_WAIT: Final = 0.01
_BATCH: Final = 100


def run_dispatcher(settings: Settings) -> None:
    """Dispatch until SIGTERM; then dispatch the rest of the stream, and return."""
    stopping = stop_event()
    outage = Outage("webhooks cannot be dispatched")
    with connect(settings.redis_address) as client:
        dispatcher = Dispatcher(settings, client)
        while not stopping.is_set():
            try:
                dispatcher.step()
                outage.recovered()
            except redis.RedisError as error:
                stopping.wait(outage.failed(error))
        try:
            dispatcher.dispatch_all()
        except redis.RedisError as error:
            logger.warning("the next start dispatches the remaining changes: %s", describe(error))
        dispatcher.close()


class Dispatcher:
    """Turns changes into deliveries."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        """`client` must return bytes (see `farm.db.clients`). Raises SettingsError."""
        self._redis = client
        secret = load_secret_key(settings)
        self._sealer = Sealer(secret)
        self._webhooks = Webhooks(client, settings.webhook_limit, self._sealer)
        self._deliveries = Deliveries(client)
        self._counts = Counts(client)
        self._traces = open_sender(settings.node)
        self._links = Links(settings, open_store(settings), secret)

    def close(self) -> None:
        """Send the last traces."""
        if self._traces is not None:
            self._traces.close()

    def step(self) -> None:
        """Enqueue due deliveries, wait for a change or the next due delivery, and dispatch the changes.

        Raises redis.RedisError when Redis cannot be reached.
        """
        due = self._deliveries.seconds_until_due()
        if due == 0:
            enqueue_sending(self._redis)
        # From the start of the stream: dispatched entries are deleted, so all that are there are new.
        if self._redis.xread({CHANGES_KEY: "0"}, count=1, block=_block_milliseconds(due)):
            self.dispatch_all()

    def dispatch_all(self) -> None:
        """Dispatch every change in the stream. Raises redis.RedisError when Redis cannot be reached."""
        while entries := cast(
            "list[tuple[bytes, dict[bytes, bytes]]]", self._redis.xrange(CHANGES_KEY, count=_BATCH)
        ):
            for entry_id, fields in entries:
                self._dispatch(entry_id, fields)
        if self._deliveries.seconds_until_due() == 0:
            enqueue_sending(self._redis)

    def _dispatch(self, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        try:
            change = change_of(fields)
        except (ValidationError, KeyError) as error:
            logger.error("dropping malformed change %s: %s", entry_id.decode(), error)
            self._deliveries.dispatch(entry_id, ())
            return
        with about(change.recording.id):
            self._dispatch_change(entry_id, change)

    def _dispatch_change(self, entry_id: bytes, change: Change) -> None:
        recording = change.recording
        dropped = self._deliveries.dispatch(entry_id, self._deliveries_of(change))
        if dropped < 0:
            return  # another node's dispatcher was faster
        if change.transfer is None:
            # Counted here, not where the change is made: nothing waits for it, and each change is seen once.
            self._counts.add(change_increments(recording))
            if self._traces is not None and recording.status in FINAL:
                self._traces.send(recording)
        if dropped > 0:
            logger.error(
                "recording %s: %d webhook deliveries dropped (state %s): too many are waiting",
                recording.id,
                dropped,
                recording.status,
            )

    def _deliveries_of(self, change: Change) -> list[Delivery]:
        receivers = list(self._receivers(change))
        if not receivers:
            return []
        recording, body = change.recording, self._body(change)
        present = now()
        return [
            Delivery(
                id=str(uuid4()),
                organization_id=recording.organization_id,
                webhook_id=webhook_id,
                url=url and seal_webhook_url(url, recording.id, self._sealer),
                recording_id=recording.id,
                lane=str(recording.id),
                body=body,
                created_at=present,
            )
            for webhook_id, url in receivers
        ]

    def _body(self, change: Change) -> str:
        recording, links = change.recording, self._links
        files = links.video(recording), links.audio(recording), links.files_expire_at(recording)
        if change.transfer is not None:
            return transfer_update(recording, change.transfer, *files)
        return status_update(recording, *files)

    def _receivers(self, change: Change) -> Iterator[tuple[UUID, str | None]]:
        """The webhooks that receive a change, with the URL if the recording named it itself.

        A URL that a recording names gets its states alone; it cannot say that it wants more.
        """
        recording = change.recording
        event = STATUS_UPDATE if change.transfer is None else TRANSFER_UPDATE
        for webhook in self._webhooks.all_of(recording.organization_id):
            if webhook.wants(event):
                yield webhook.id, None
        own = show_urls(recording, self._sealer).webhooks if change.transfer is None else ()
        for url in own:
            yield webhook_id_of(recording.organization_id, url), url


def _block_milliseconds(due: float | None) -> int:
    if due is None:
        wait = _MAX_WAIT
    elif due == 0:
        wait = _CLAIM_GRACE
    else:
        wait = min(max(due, _MIN_WAIT), _MAX_WAIT)
    return int(wait * 1000)
