"""Webhooks: register URLs, read the log of their deliveries, and replay deliveries."""

from typing import Final
from uuid import UUID, uuid4

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from recording_farm.api.auth import organization_of
from recording_farm.api.context import Context, context_of
from recording_farm.api.operations import ROOT, Operation
from recording_farm.api.rules import check_address
from recording_farm.api.schema.requests import CreateWebhook, EditWebhook, Page, read_query, read_request
from recording_farm.api.schema.responses import Paging, success
from recording_farm.api.schema.webhooks import (
    ExampleObject,
    LogObject,
    NewWebhookObject,
    PublicKeyObject,
    ReplayObject,
    SecretObject,
    WebhookEvents,
    WebhookObject,
    log_object,
    new_webhook_object,
    webhook_object,
)
from recording_farm.farm.clock import now
from recording_farm.farm.errors import NotFoundError, WrongStateError
from recording_farm.farm.queues.webhooks import enqueue_sending
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.sealed_urls import seal_webhook_url, show_urls
from recording_farm.farm.recording.transfers import STORE, Transfer, TransferEvent, TransferState
from recording_farm.farm.webhooks.deliveries import Delivery
from recording_farm.farm.webhooks.log import Attempt
from recording_farm.farm.webhooks.payload import status_update, transfer_update
from recording_farm.farm.webhooks.registry import (
    EVENTS,
    STATUS_UPDATE,
    TRANSFER_UPDATE,
    Webhook,
    WebhookEvent,
    webhook_id_of,
)

TEST_MEETING: Final = "webhook-test"
"""The meeting of the recording in a test delivery."""


async def _list(request: Request) -> Response:
    organization_id = organization_of(request)
    webhooks = await run_in_threadpool(context_of(request).webhooks.all_of, organization_id)
    return success([webhook_object(webhook) for webhook in webhooks])


async def _list_events(request: Request) -> Response:
    organization_of(request)
    return success(WebhookEvents(list(EVENTS)))


async def _create(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    wanted = await read_request(request, CreateWebhook)
    await check_address(request, wanted.url, '"url"')
    webhook = await run_in_threadpool(
        context.webhooks.create,
        organization_id,
        name=wanted.name,
        url=wanted.url,
        events=_unique(wanted.events),
        enabled=wanted.enabled,
    )
    return success(new_webhook_object(webhook), status=201)


async def _get(request: Request) -> Response:
    organization_id = organization_of(request)
    webhooks = context_of(request).webhooks
    return success(webhook_object(await run_in_threadpool(webhooks.get, organization_id, _id(request))))


async def _replace(request: Request) -> Response:
    organization_id = organization_of(request)
    wanted = await read_request(request, CreateWebhook)
    return await _change(request, organization_id, wanted.model_dump())


async def _edit(request: Request) -> Response:
    organization_id = organization_of(request)
    wanted = await read_request(request, EditWebhook)
    return await _change(request, organization_id, wanted.model_dump(exclude_none=True))


async def _change(request: Request, organization_id: str, fields: dict[str, object]) -> Response:
    context = context_of(request)
    if isinstance(url := fields.get("url"), str):
        await check_address(request, url, '"url"')
    if isinstance(events := fields.get("events"), list):
        fields["events"] = _unique(events)
    webhook = await run_in_threadpool(context.webhooks.change, organization_id, _id(request), **fields)
    if "url" in fields:
        await run_in_threadpool(context.deliveries.wake, webhook.id)
        await run_in_threadpool(enqueue_sending, context.redis)
    return success(webhook_object(webhook))


async def _delete(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    webhook = await run_in_threadpool(context.webhooks.delete, organization_id, _id(request))
    await run_in_threadpool(context.deliveries.drop, webhook.id)
    await run_in_threadpool(context.webhook_log.delete, organization_id, str(webhook.id))
    return success(webhook_object(webhook))


async def _rotate_secret(request: Request) -> Response:
    organization_id = organization_of(request)
    webhooks = context_of(request).webhooks
    webhook = await run_in_threadpool(webhooks.rotate_secret, organization_id, _id(request))
    return success(new_webhook_object(webhook))


async def _rotate_recordings_secret(request: Request) -> Response:
    organization_id = organization_of(request)
    webhooks = context_of(request).webhooks
    return success(SecretObject(secret=await run_in_threadpool(webhooks.rotate_secret_of, organization_id)))


async def _list_log(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    query = read_query(request, Page)
    webhook_id = _id(request)
    # The webhooks that recordings name themselves are not registered, but have logs.
    if not await run_in_threadpool(context.webhook_log.exists, organization_id, webhook_id):
        await run_in_threadpool(context.webhooks.get, organization_id, webhook_id)
    page = await run_in_threadpool(
        context.webhook_log.page, organization_id, webhook_id, query.offset, query.per_page
    )
    paging = Paging.of_page(query.offset, len(page.entries), page.total)
    return success([log_object(webhook_id, entry) for entry in page.entries], paging=paging)


async def _replay(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    delivery = await run_in_threadpool(
        _replayed, context, organization_id, _id(request), request.path_params["log_id"]
    )
    await _queue(context, delivery)
    replay = ReplayObject(
        webhook_id=str(delivery.webhook_id),
        delivery_id=delivery.id,
        replay_of=request.path_params["log_id"],
    )
    return success(replay, status=202)


async def _test(request: Request) -> Response:
    organization_id = organization_of(request)
    context = context_of(request)
    delivery = await run_in_threadpool(_example, context, organization_id, _id(request))
    await _queue(context, delivery)
    example = ExampleObject(webhook_id=str(delivery.webhook_id), delivery_id=delivery.id)
    return success(example, status=202)


async def _queue(context: Context, delivery: Delivery) -> None:
    """Enqueue a delivery. Raises WrongStateError when too many wait for its webhook."""
    if not await run_in_threadpool(context.deliveries.push, delivery):
        raise WrongStateError(f"too many deliveries are waiting for webhook {delivery.webhook_id}")
    await run_in_threadpool(enqueue_sending, context.redis)


def _example(context: Context, organization_id: str, webhook_id: str) -> Delivery:
    """The delivery of an invented recording, which receivers recognize by its meeting.

    Raises NotFoundError, WrongStateError when the webhook is not enabled.
    """
    webhook = context.webhooks.get(organization_id, webhook_id)
    if not webhook.enabled:
        raise WrongStateError(f"webhook {webhook_id} is disabled")
    recording = Recording(
        id=uuid4(),
        organization_id=organization_id,
        meeting_id=TEST_MEETING,
        url=context.settings.page_of(TEST_MEETING),
        output_file_name=f"{TEST_MEETING}.mp4",
        invoked_time=now(),
    )
    return Delivery(
        id=str(uuid4()),
        organization_id=organization_id,
        webhook_id=webhook.id,
        recording_id=recording.id,
        lane=f"test-{recording.id}",
        body=_example_body(webhook, recording),
        created_at=recording.invoked_time,
    )


def _example_body(webhook: Webhook, recording: Recording) -> str:
    """The body of an event that the webhook wants, of all events that the farm sends."""
    if TRANSFER_UPDATE in webhook.events and STATUS_UPDATE not in webhook.events:
        transfer = Transfer(target=STORE, state=TransferState.DONE, attempts=1, event=TransferEvent.DONE)
        return transfer_update(recording, transfer)
    return status_update(recording)


def _replayed(context: Context, organization_id: str, webhook_id: str, log_id: str) -> Delivery:
    """The delivery that replays an entry of the log.

    It has a lane of its own, so that it does not wait for other deliveries.
    """
    attempt = context.webhook_log.get(organization_id, webhook_id, log_id).attempt
    return Delivery(
        id=attempt.delivery_id,
        organization_id=organization_id,
        webhook_id=UUID(webhook_id),
        url=_url_of_recording(context, organization_id, webhook_id, attempt),
        recording_id=attempt.recording_id,
        lane=f"replay-{uuid4()}",
        body=attempt.body,
        created_at=now(),
        replay_of=log_id,
    )


def _url_of_recording(
    context: Context, organization_id: str, webhook_id: str, attempt: Attempt
) -> str | None:
    """The sealed URL, if the recording named it itself; None for a registered webhook.

    Raises NotFoundError, WrongStateError when the webhook is not enabled.
    """
    try:
        webhook = context.webhooks.get(organization_id, webhook_id)
    except NotFoundError:
        recording = context.records.get(organization_id, attempt.recording_id)
        for url in show_urls(recording, context.sealer).webhooks:
            if str(webhook_id_of(organization_id, url)) == webhook_id:
                return seal_webhook_url(url, recording.id, context.sealer)
        raise
    if not webhook.enabled:
        raise WrongStateError(f"webhook {webhook_id} is disabled")
    return None


def _id(request: Request) -> str:
    return str(request.path_params["webhook_id"]).lower()


def _unique(events: list[WebhookEvent]) -> tuple[WebhookEvent, ...]:
    return tuple(dict.fromkeys(events))


async def _get_public_key(request: Request) -> Response:
    key = PublicKeyObject(public_key=context_of(request).signing_key.public_pem)
    # The recording API has a message only here.
    return JSONResponse({"success": True, "data": key.model_dump(by_alias=True), "message": ""})


_TAG: Final = "webhooks"

webhook_operations: Final = (
    Operation(
        "get_webhooks",
        "GET",
        "/webhooks",
        _list,
        "List the webhooks",
        _TAG,
        answer=list[WebhookObject],
    ),
    Operation(
        "create_webhook",
        "POST",
        "/webhooks",
        _create,
        "Register a webhook; its secret is shown only in this answer",
        _TAG,
        answer=NewWebhookObject,
        body=CreateWebhook,
        status=201,
        errors=(400, 409, 413, 422),
    ),
    Operation(
        "get_webhook_events",
        "GET",
        "/webhooks/all",
        _list_events,
        "List the events that webhooks can be registered for",
        _TAG,
        answer=WebhookEvents,
    ),
    Operation(
        "rotate_recordings_webhook_secret",
        "POST",
        "/webhooks/secret",
        _rotate_recordings_secret,
        "Make a new secret for the webhooks that recordings name themselves; it is shown only in this answer",
        _TAG,
        answer=SecretObject,
    ),
    Operation(
        "get_webhook_by_id",
        "GET",
        "/webhooks/{webhook_id}",
        _get,
        "One webhook",
        _TAG,
        answer=WebhookObject,
        errors=(404,),
    ),
    Operation(
        "replace_webhook",
        "PUT",
        "/webhooks/{webhook_id}",
        _replace,
        "Replace a webhook; its id and secret stay",
        _TAG,
        answer=WebhookObject,
        body=CreateWebhook,
        errors=(400, 404, 409, 413, 422),
    ),
    Operation(
        "edit_webhook",
        "PATCH",
        "/webhooks/{webhook_id}",
        _edit,
        "Change some fields of a webhook",
        _TAG,
        answer=WebhookObject,
        body=EditWebhook,
        errors=(400, 404, 409, 413, 422),
    ),
    Operation(
        "delete_webhook",
        "DELETE",
        "/webhooks/{webhook_id}",
        _delete,
        "Delete a webhook with its waiting deliveries and its log",
        _TAG,
        answer=WebhookObject,
        errors=(404,),
    ),
    Operation(
        "rotate_webhook_secret",
        "POST",
        "/webhooks/{webhook_id}/secret",
        _rotate_secret,
        "Make a new secret for a webhook; it is shown only in this answer",
        _TAG,
        answer=NewWebhookObject,
        errors=(404,),
    ),
    Operation(
        "test_webhook",
        "POST",
        "/webhooks/{webhook_id}/test",
        _test,
        f"Send an example, of the meeting {TEST_MEETING}, to a webhook; its log shows the result",
        _TAG,
        answer=ExampleObject,
        status=202,
        errors=(404, 409),
    ),
    Operation(
        "get_webhook_logs",
        "GET",
        "/webhooks/{webhook_id}/logs",
        _list_log,
        "List all delivery attempts of a webhook, the newest first",
        _TAG,
        answer=list[LogObject],
        query=Page,
        paged=True,
        errors=(404, 422),
    ),
    Operation(
        "replay_webhook_log",
        "POST",
        "/webhooks/{webhook_id}/logs/{log_id}/replay",
        _replay,
        "Send the delivery of a log entry again",
        _TAG,
        answer=ReplayObject,
        status=202,
        errors=(404, 409),
    ),
    # Receivers that verify a signature have no API key.
    Operation(
        "get_webhook_public_key",
        "GET",
        "/.well-known/webhooks.json",
        _get_public_key,
        "The public key that verifies the signatures of webhooks",
        _TAG,
        answer=PublicKeyObject,
        dialects=(ROOT,),
        public=True,
    ),
)
