"""Webhooks and their logs as clients see them."""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, Field, JsonValue, RootModel

from recording_farm.api.schema.responses import Moment
from recording_farm.farm.webhooks.log import AttemptOutcome, LogEntry
from recording_farm.farm.webhooks.registry import Webhook, WebhookEvent

Id = Annotated[str, Field(json_schema_extra={"format": "uuid"})]

Secret = Annotated[
    str,
    Field(description="signs deliveries as in Standard Webhooks (webhook-signature); shown only once"),
]


class WebhookObject(BaseModel):
    """A webhook."""

    id: Id
    name: str
    url: str
    events: list[WebhookEvent]
    enabled: bool
    disabled_reason: str | None = Field(
        default=None,
        description="why the farm has disabled it, for example because its receiver answered 410 Gone",
    )
    created_at: Moment
    updated_at: Moment


class NewWebhookObject(WebhookObject):
    """A webhook with its new secret."""

    secret: Secret


class SecretObject(BaseModel):
    """A new secret."""

    secret: Secret


class WebhookEvents(RootModel[list[WebhookEvent]]):
    """The events that webhooks can be registered for; the farm sends only those of recordings."""


class LogObject(BaseModel):
    """One attempt to deliver an event, and the receiver's response."""

    id: str
    webhook_id: Id
    delivery_id: str = Field(description="the headers webhook-id, dyte-uuid and rtk-uuid")
    event: WebhookEvent
    recording_id: Id
    attempt: int = Field(description="1 is the first attempt")
    timestamp: Moment
    duration_ms: int
    outcome: AttemptOutcome
    status_code: int | None = Field(description="null when there was no response")
    response_body: str = Field(description="the first KiB of the response")
    error: str | None
    next_attempt: Moment | None = Field(description="when it is retried; null if it is not")
    replay_of: str | None = Field(description="the log entry that this replays")
    payload: dict[str, JsonValue] = Field(description="the body that was sent")


class ReplayObject(BaseModel):
    """A replay in the queue."""

    webhook_id: Id
    delivery_id: str
    replay_of: str
    status: Literal["queued"] = "queued"


class ExampleObject(BaseModel):
    """An example in the queue."""

    webhook_id: Id
    delivery_id: str
    status: Literal["queued"] = "queued"


class PublicKeyObject(BaseModel):
    """The farm's public key."""

    public_key: str = Field(serialization_alias="publicKey", description="PEM")


def webhook_object(webhook: Webhook) -> WebhookObject:
    """A webhook, without its secret."""
    return WebhookObject.model_validate(_fields(webhook))


def new_webhook_object(webhook: Webhook) -> NewWebhookObject:
    """A webhook with its secret."""
    return NewWebhookObject.model_validate(_fields(webhook) | {"secret": webhook.secret})


def _fields(webhook: Webhook) -> dict[str, object]:
    fields = webhook.model_dump(exclude={"organization_id", "secret"})
    return fields | {"id": str(webhook.id), "events": list(webhook.events)}


def log_object(webhook_id: str, entry: LogEntry) -> LogObject:
    """An entry of the log of a webhook."""
    attempt = entry.attempt
    payload = json.loads(attempt.body)
    return LogObject(
        id=entry.id,
        webhook_id=webhook_id,
        delivery_id=attempt.delivery_id,
        event=payload["event"],
        recording_id=str(attempt.recording_id),
        attempt=attempt.number,
        timestamp=attempt.time,
        duration_ms=attempt.duration_ms,
        outcome=attempt.outcome,
        status_code=attempt.status_code,
        response_body=attempt.answer,
        error=attempt.error,
        next_attempt=attempt.next_attempt,
        replay_of=attempt.replay_of,
        payload=payload,
    )
