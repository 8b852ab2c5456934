"""Webhooks: the URLs that receive an organization's events, and the secrets that sign the deliveries.

Keys
    farm:webhooks:{org}           hash: the organization's webhooks by id, each as one JSON object, sealed
    farm:webhook-secret:{org}     the secret of deliveries to the URLs that recordings name themselves, sealed

URLs and secrets are sealed (`farm.credentials.sealed_texts`), because URLs hold tokens, and a secret proves
that a delivery comes from this farm. The API shows a secret only when it is made.
"""

import base64
import logging
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final, cast, get_args
from typing import Literal as OneOf
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import redis
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from recording_farm.farm.clock import now
from recording_farm.farm.credentials.sealed_texts import open_text, seal_text
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import (
    NotFoundError,
    RedisUnavailableError,
    SettingsError,
    TooManyWebhooksError,
    WebhookExistsError,
)

logger = logging.getLogger(__name__)

WebhookEvent = OneOf[
    "meeting.started",
    "meeting.ended",
    "meeting.participantJoined",
    "meeting.participantLeft",
    "meeting.chatSynced",
    "recording.statusUpdate",
    "recording.transferUpdate",
    "livestreaming.statusUpdate",
    "meeting.transcript",
    "meeting.summary",
]
"""The events that clients can register. The farm manages no meetings, so it sends only SENT_EVENTS."""

EVENTS: Final[tuple[WebhookEvent, ...]] = get_args(WebhookEvent)

STATUS_UPDATE: Final[WebhookEvent] = "recording.statusUpdate"
TRANSFER_UPDATE: Final[WebhookEvent] = "recording.transferUpdate"
"""The farm's own: an upload keeps failing, is done, or was given up."""

SENT_EVENTS: Final = (STATUS_UPDATE, TRANSFER_UPDATE)

_SECRET_BYTES: Final = 32

_TRIES: Final = 10
"""Attempts of a change while others change the webhooks of the same organization."""


class Webhook(BaseModel):
    """A URL that an organization has registered."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    organization_id: str
    name: str
    url: str
    events: tuple[WebhookEvent, ...]
    enabled: bool
    disabled_reason: str | None = None
    """Why the farm has disabled it; None if it has not."""
    secret: Annotated[str, Field(repr=False)]
    """In the format of the Standard Webhooks libraries, `whsec_` and base64."""
    created_at: AwareDatetime
    updated_at: AwareDatetime

    def wants(self, event: WebhookEvent) -> bool:
        """Whether it receives an event."""
        return self.enabled and event in self.events


def new_secret() -> str:
    """A secret for Standard Webhooks signatures."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def webhook_id_of(organization_id: str, url: str) -> UUID:
    """The id of a URL that recordings name themselves; the same for all recordings of an organization."""
    return uuid5(NAMESPACE_URL, f"{organization_id} {url}")


class Webhooks:
    """The webhooks of all organizations. Several threads and processes may call all methods at once.

    Every method raises redis.RedisError when Redis cannot be reached. Another organization's webhook looks
    like one that does not exist.
    """

    def __init__(self, client: redis.Redis, most: int, sealer: Sealer) -> None:
        """An organization may have `most` webhooks. They are sealed by `sealer`."""
        self._redis = client
        self._most = most
        self._sealer = sealer

    def create(
        self, organization_id: str, *, name: str, url: str, events: tuple[WebhookEvent, ...], enabled: bool
    ) -> Webhook:
        """Store a new webhook. Raises WebhookExistsError, TooManyWebhooksError."""
        present = now()
        webhook = Webhook(
            id=uuid4(),
            organization_id=organization_id,
            name=name,
            url=url,
            events=events,
            enabled=enabled,
            secret=new_secret(),
            created_at=present,
            updated_at=present,
        )

        def add(others: list[Webhook]) -> Webhook:
            # The Redis client retries after a lost response, so the webhook may already be there.
            if len([other for other in others if other.id != webhook.id]) >= self._most:
                raise TooManyWebhooksError(
                    f"this organization has {self._most} webhooks, the maximum; delete one first"
                )
            return webhook

        return self._write(organization_id, add)

    def all_of(self, organization_id: str) -> list[Webhook]:
        """An organization's webhooks, the oldest first."""
        values = cast("list[bytes]", self._redis.hvals(_key(organization_id)))
        return self._sorted(values, organization_id)

    def get(self, organization_id: str, webhook_id: str) -> Webhook:
        """One webhook. Raises NotFoundError."""
        value = self._redis.hget(_key(organization_id), webhook_id.lower())
        webhook = None if value is None else self._opened(cast("bytes", value), organization_id)
        if webhook is None:
            raise _not_found(webhook_id)
        return webhook

    def change(self, organization_id: str, webhook_id: str, **fields: Any) -> Webhook:
        """Set fields of a webhook; returns the new state. Raises NotFoundError, WebhookExistsError.

        Another URL enables a webhook that the farm has disabled, unless `enabled` is set.
        """

        def change(others: list[Webhook]) -> Webhook:
            webhook = _of_id(others, webhook_id)
            changed = webhook.model_copy(update={**fields, "updated_at": _later(webhook.updated_at)})
            if webhook.disabled_reason is None or not ("enabled" in fields or changed.url != webhook.url):
                return changed
            return changed.model_copy(
                update={"enabled": fields.get("enabled", True), "disabled_reason": None}
            )

        return self._write(organization_id, change)

    def disable(self, organization_id: str, webhook_id: str, url: str, since: datetime, reason: str) -> bool:
        """Disable a webhook that had `url` at the time `since`; false if it was changed after that.

        Raises NotFoundError.
        """

        def disable(others: list[Webhook]) -> Webhook:
            webhook = _of_id(others, webhook_id)
            if webhook.url != url or webhook.updated_at > since or not webhook.enabled:
                return webhook
            update = {"enabled": False, "disabled_reason": reason, "updated_at": _later(webhook.updated_at)}
            return webhook.model_copy(update=update)

        return self._write(organization_id, disable).disabled_reason == reason

    def rotate_secret(self, organization_id: str, webhook_id: str) -> Webhook:
        """Give a webhook a new secret; the next delivery is signed with it. Raises NotFoundError."""
        return self.change(organization_id, webhook_id, secret=new_secret())

    def delete(self, organization_id: str, webhook_id: str) -> Webhook:
        """Delete a webhook; returns it. Raises NotFoundError."""
        webhook = self.get(organization_id, webhook_id)
        self._redis.hdel(_key(organization_id), str(webhook.id))
        return webhook

    def secret_of(self, organization_id: str) -> str:
        """The secret of deliveries to URLs that the organization's recordings name themselves."""
        key = _secret_key(organization_id)
        self._redis.set(key, self._sealed_secret(new_secret(), organization_id), nx=True)
        kept = cast("bytes", self._redis.get(key)).decode()
        return open_text(self._sealer, kept, _secret_context(organization_id))

    def rotate_secret_of(self, organization_id: str) -> str:
        """Replace that secret; the next delivery is signed with the new one."""
        secret = new_secret()
        self._redis.set(_secret_key(organization_id), self._sealed_secret(secret, organization_id))
        return secret

    def _sealed_secret(self, secret: str, organization_id: str) -> str:
        return seal_text(self._sealer, secret, _secret_context(organization_id))

    def _opened(self, value: bytes, organization_id: str) -> Webhook | None:
        """The webhook, or None if it was sealed with another key; that must not stop all others."""
        try:
            text = open_text(self._sealer, value.decode(), _context(organization_id))
            return Webhook.model_validate_json(text)
        except (SettingsError, ValueError) as error:
            logger.error("a webhook of %s cannot be read: %s", organization_id, type(error).__name__)
            return None

    def _sorted(self, values: list[bytes], organization_id: str) -> list[Webhook]:
        webhooks = [self._opened(value, organization_id) for value in values]
        readable = [webhook for webhook in webhooks if webhook is not None]
        return sorted(readable, key=lambda webhook: (webhook.created_at, webhook.id))

    def _write(self, organization_id: str, decide: Callable[[list[Webhook]], Webhook]) -> Webhook:
        """Write the webhook that `decide` returns for the existing ones; retried if they change meanwhile."""
        key = _key(organization_id)
        for _ in range(_TRIES):
            with self._redis.pipeline() as pipeline:
                pipeline.watch(key)  # type: ignore[no-untyped-call]
                others = self._sorted(cast("list[bytes]", pipeline.hvals(key)), organization_id)
                webhook = decide(others)
                if any(other.url == webhook.url and other.id != webhook.id for other in others):
                    raise WebhookExistsError(f'"url": a webhook with this URL exists already: {webhook.url}')
                pipeline.multi()
                sealed = seal_text(self._sealer, webhook.model_dump_json(), _context(organization_id))
                pipeline.hset(key, str(webhook.id), sealed)
                try:
                    pipeline.execute()
                except redis.WatchError:
                    continue
                return webhook
        raise RedisUnavailableError("this organization's webhooks are being changed by others; try again")


def _key(organization_id: str) -> str:
    return f"farm:webhooks:{organization_id}"


def _secret_key(organization_id: str) -> str:
    return f"farm:webhook-secret:{organization_id}"


def _context(organization_id: str) -> str:
    return f"a webhook of {organization_id}"


def _secret_context(organization_id: str) -> str:
    return f"the webhook secret of {organization_id}"


def _of_id(webhooks: list[Webhook], webhook_id: str) -> Webhook:
    for webhook in webhooks:
        if str(webhook.id) == webhook_id.lower():
            return webhook
    raise _not_found(webhook_id)


def _later(moment: datetime) -> datetime:
    return max(moment, now())


def _not_found(webhook_id: str) -> NotFoundError:
    return NotFoundError(f"there is no webhook {webhook_id}")
