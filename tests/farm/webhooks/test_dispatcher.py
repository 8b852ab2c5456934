"""Changes of recordings on their way to the queues of their receivers."""

import asyncio
import json

import pytest

from recording_farm.farm.clock import now
from recording_farm.farm.queues.webhooks import webhooks_queue
from recording_farm.farm.recording.changes import CHANGES_KEY
from recording_farm.farm.recording.model import Status
from recording_farm.farm.recording.transfers import Transfer, again, arrived, failed, tried
from recording_farm.farm.storage.backend import StorageError, StoredObject, expired_credentials
from recording_farm.farm.telemetry.counts import Counts
from recording_farm.farm.webhooks.dispatcher import Dispatcher
from recording_farm.farm.webhooks.registry import STATUS_UPDATE, TRANSFER_UPDATE, webhook_id_of
from testkit.receivers import Receiver
from testkit.recordings import new_recording
from testkit.webhooks import WebhookFarm, verify


async def test_every_state_should_be_sent_in_order_and_signed_both_ways(
    farm: WebhookFarm, hook: Receiver
) -> None:
    webhook = farm.register(hook.url)
    recording = new_recording(meeting_id="Besprechung – Käse 🧀")
    states = (Status.RECORDING, Status.PAUSED, Status.RECORDING, Status.UPLOADING, Status.UPLOADED)
    farm.go_through(recording, *states)
    await farm.send_all()
    assert hook.accepted == ["INVOKED", *states]
    for received in hook.received:
        verify(farm, received, webhook.secret)
        assert received.headers["content-type"] == "application/json"
        assert received.headers["host"] == hook.url.split("/")[2]
        for family in ("dyte", "rtk"):
            assert received.headers[f"{family}-webhook-id"] == str(webhook.id)
            assert received.headers[f"{family}-uuid"] == received.headers["webhook-id"]
    assert len({received.headers["webhook-id"] for received in hook.received}) == 6
    assert farm.redis.exists(CHANGES_KEY) == 0 or farm.redis.xlen(CHANGES_KEY) == 0


async def test_receiver_should_get_only_the_events_it_wants(
    farm: WebhookFarm, hook: Receiver, other_hook: Receiver
) -> None:
    farm.register(hook.url, organization_id="other")
    farm.register(hook.url + "/1", enabled=False)
    farm.register(hook.url + "/2", events=("meeting.started", "meeting.ended"))
    farm.register(other_hook.url)
    farm.go_through(new_recording())
    await farm.send_all()
    assert hook.received == []
    assert other_hook.accepted == ["INVOKED"]


async def test_urls_of_a_recording_should_get_its_events_alone(farm: WebhookFarm, hook: Receiver) -> None:
    recording = new_recording(webhooks=(hook.url,))
    farm.go_through(recording, Status.RECORDING)
    farm.go_through(new_recording(meeting_id="unheard"))
    farm.go_through(new_recording(organization_id="other", meeting_id="unheard"))
    await farm.send_all()
    assert hook.accepted == ["INVOKED", "RECORDING"]
    webhook_id = webhook_id_of("acme", hook.url)
    verify(farm, hook.received[0], farm.webhooks.secret_of("acme"))
    assert hook.received[0].headers["dyte-webhook-id"] == str(webhook_id)
    assert [attempt.status_code for attempt in farm.attempts(webhook_id)] == [200, 200]


async def test_upload_that_keeps_failing_should_be_sent_once_and_when_it_is_over(
    farm: WebhookFarm, hook: Receiver, other_hook: Receiver
) -> None:
    farm.register(hook.url, events=(STATUS_UPDATE, TRANSFER_UPDATE))
    farm.register(other_hook.url)
    recording = new_recording(webhooks=(f"{other_hook.url}/its-own",))
    farm.go_through(recording, Status.RECORDING, Status.UPLOADING)
    fault = StorageError("no_bucket", "the bucket does not exist", lasting=True)
    transfer = Transfer(target="aws")
    farm.records.set_transfer(recording.id, transfer)
    for _ in range(3):
        transfer = tried(transfer, now())
        farm.records.set_transfer(recording.id, transfer)
        transfer = failed(transfer, fault, now(), may_give_up=True)
        farm.records.set_transfer(recording.id, transfer)
    transfer = tried(transfer, now())
    farm.records.set_transfer(recording.id, arrived(transfer, StoredObject("s3://bucket/key", 1)))
    farm.records.change_state(recording.id, Status.UPLOADED)
    await farm.send_all()
    events = [json.loads(received.body) for received in hook.received]
    assert [(each["event"], each.get("transfer", each["recording"]).get("state")) for each in events] == [
        *[(STATUS_UPDATE, None)] * 3,
        (TRANSFER_UPDATE, "FAILING"),
        (TRANSFER_UPDATE, "DONE"),
        (STATUS_UPDATE, None),
    ]
    failing, done = (each["transfer"] for each in events[3:5])
    assert (failing["target"], failing["attempts"]) == ("aws", 1)
    assert failing["error"] == {"code": "no_bucket", "message": "the bucket does not exist"}
    assert failing["nextAttempt"] > events[3]["recording"]["invokedTime"]
    assert done == {"target": "aws", "state": "DONE", "attempts": 4, "location": "s3://bucket/key"}
    states = ["INVOKED", "RECORDING", "UPLOADING", "UPLOADED"]
    assert sorted(other_hook.accepted) == sorted(2 * states)
    assert Counts(farm.redis).read()["farm_recordings_ended_total", "UPLOADED", "", ""] == 1


async def test_upload_that_is_retried_by_hand_should_be_sent_again(farm: WebhookFarm, hook: Receiver) -> None:
    farm.register(hook.url, events=(TRANSFER_UPDATE,))
    recording = new_recording()
    farm.go_through(recording)
    given_up = failed(tried(Transfer(target="aws"), now()), expired_credentials(), now(), may_give_up=True)
    for transfer in (given_up, given_up, again(given_up), given_up):
        farm.records.set_transfer(recording.id, transfer)
    await farm.send_all()
    assert [json.loads(each.body)["transfer"]["state"] for each in hook.received] == ["GIVEN_UP"] * 2


async def test_two_dispatchers_should_keep_the_order_and_double_nothing(
    farm: WebhookFarm, hook: Receiver
) -> None:
    farm.register(hook.url)
    recordings = [new_recording(meeting_id=str(number)) for number in range(20)]
    states = (Status.RECORDING, Status.PAUSED, Status.RECORDING, Status.UPLOADING, Status.UPLOADED)
    for recording in recordings:
        farm.go_through(recording, *states)
    others = [Dispatcher(farm.settings, farm.redis) for _ in range(3)]
    await asyncio.gather(*(asyncio.to_thread(other.dispatch_all) for other in others))
    await farm.send_all()
    for recording in recordings:
        told = [received.status for received in hook.received if received.recording_id == str(recording.id)]
        assert told == ["INVOKED", *states]


def test_change_that_cannot_be_read_should_not_stop_the_others(farm: WebhookFarm) -> None:
    webhook = farm.register("http://127.0.0.1:9/")
    farm.redis.xadd(CHANGES_KEY, {"recording": "{}"})
    farm.redis.xadd(CHANGES_KEY, {"something": "else"})
    farm.go_through(new_recording())
    farm.dispatcher.dispatch_all()
    assert farm.redis.xlen(CHANGES_KEY) == 0
    assert farm.redis.zcard(f"farm:webhook-lanes:{webhook.id}") == 1


def test_job_should_wait_in_the_queue_once_however_much_is_due(farm: WebhookFarm) -> None:
    farm.register("http://127.0.0.1:9/")
    for number in range(3):
        farm.go_through(new_recording(meeting_id=str(number)))
        farm.dispatcher.step()
    (job,) = webhooks_queue(farm.redis).jobs
    assert job.func_name == "farm.jobs.entry.send_webhooks"


def test_what_waits_for_one_webhook_should_be_bounded(
    farm: WebhookFarm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("recording_farm.farm.webhooks.deliveries.MAX_LANES", 2)
    webhook = farm.register("http://127.0.0.1:9/")
    recordings = [new_recording(meeting_id=str(number)) for number in range(3)]
    for recording in recordings:
        farm.go_through(recording, Status.RECORDING)
    farm.dispatcher.dispatch_all()
    assert farm.redis.zcard(f"farm:webhook-lanes:{webhook.id}") == 2
    assert f"recording {recordings[2].id}: 1 webhook deliveries dropped" in caplog.text
    monkeypatch.setattr("recording_farm.farm.webhooks.deliveries.MAX_LANE", 3)
    farm.records.change_state(recordings[0].id, Status.PAUSED)
    farm.records.change_state(recordings[0].id, Status.RECORDING)
    farm.dispatcher.dispatch_all()
    assert farm.redis.llen(f"farm:webhook-lane:{webhook.id}:{recordings[0].id}") == 3
