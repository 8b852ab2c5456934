"""Deliveries on their way to receivers, without the processes that send them."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from recording_farm.farm.clock import now
from recording_farm.farm.recording.model import Status
from recording_farm.farm.webhooks.deliveries import DUE_KEY
from recording_farm.farm.webhooks.registry import webhook_id_of
from recording_farm.farm.webhooks.sender import MAX_RETRY_AFTER, Sender, retry_seconds
from testkit.receivers import Received, Receiver, Reply
from testkit.recordings import new_recording
from testkit.settings import settings_with
from testkit.webhooks import WebhookFarm


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_failure_should_be_tried_again_with_the_same_id_and_hold_later_states_back(
    farm: WebhookFarm, hook: Receiver
) -> None:
    webhook = farm.register(hook.url)
    hook.decide = lambda _, before: Reply(500 if before < 2 else 204, body=b"")
    farm.go_through(new_recording(), Status.RECORDING, Status.UPLOADING)
    await farm.send_all()
    assert [received.status for received in hook.received] == ["INVOKED"] * 3 + ["RECORDING", "UPLOADING"]
    assert len({received.headers["webhook-id"] for received in hook.received[:3]}) == 1
    assert len({received.headers["dyte-uuid"] for received in hook.received[:3]}) == 1
    attempts = farm.attempts(webhook.id)
    assert [attempt.number for attempt in attempts] == [1, 2, 3, 1, 1]
    assert [attempt.outcome for attempt in attempts] == ["retrying"] * 2 + ["delivered"] * 3
    assert attempts[0].status_code == 500
    assert attempts[0].error == "the receiver answered 500"
    assert attempts[0].next_attempt is not None


async def test_another_recording_should_not_wait_for_a_failing_one(
    redis_client: redis.Redis, tmp_path: Path, redis_address: str, hook: Receiver
) -> None:
    farm = WebhookFarm(redis_client, tmp_path, redis_address, webhook_intervals="60")
    farm.register(hook.url)
    failing, good = new_recording(), new_recording(meeting_id="good")
    hook.decide = lambda received, _: Reply(500 if received.recording_id == str(failing.id) else 200)
    farm.go_through(failing, Status.RECORDING)
    farm.go_through(good, Status.RECORDING)
    await farm.send()
    assert hook.accepted == ["INVOKED", "RECORDING"]
    assert [received.recording_id for received in hook.received].count(str(failing.id)) == 1


async def test_given_up_delivery_should_be_logged_and_the_next_state_sent(
    farm: WebhookFarm, hook: Receiver
) -> None:
    webhook = farm.register(hook.url)
    hook.decide = lambda received, _: Reply(500 if received.status == "INVOKED" else 200)
    farm.go_through(new_recording(), Status.RECORDING)
    await farm.send_all()
    assert hook.accepted == ["RECORDING"]
    attempts = farm.attempts(webhook.id)
    assert [attempt.outcome for attempt in attempts] == ["retrying"] * 3 + ["given_up", "delivered"]
    assert attempts[3].next_attempt is None


async def test_receiver_that_is_gone_should_be_disabled_until_it_is_changed(
    farm: WebhookFarm, hook: Receiver, other_hook: Receiver
) -> None:
    webhook = farm.register(hook.url)
    hook.decide = lambda *_: Reply(410)
    farm.go_through(new_recording(), Status.RECORDING)
    farm.go_through(new_recording(meeting_id="b"), Status.RECORDING)
    await farm.send_all()
    # Of each recording one delivery was under way, and nothing was tried again.
    assert [received.status for received in hook.received] == ["INVOKED"] * 2
    (first, second) = farm.attempts(webhook.id)
    assert (first.outcome, first.status_code, second.outcome) == ("given_up", 410, "given_up")
    assert "the webhook is disabled until you change it" in f"{first.error} {second.error}"
    found = farm.webhooks.get("acme", str(webhook.id))
    assert (found.enabled, found.disabled_reason) == (False, "the receiver answered 410 Gone")
    assert farm.redis.zcard(DUE_KEY) == 0
    farm.webhooks.change("acme", str(webhook.id), name="another name")
    assert not farm.webhooks.get("acme", str(webhook.id)).enabled
    # A late answer of before does not undo what the client has changed.
    changed = farm.webhooks.change("acme", str(webhook.id), url=other_hook.url)
    assert (changed.enabled, changed.disabled_reason) == (True, None)
    assert not farm.webhooks.disable("acme", str(webhook.id), hook.url, now(), "gone")
    farm.go_through(new_recording(meeting_id="c"))
    await farm.send_all()
    assert other_hook.accepted == ["INVOKED"]


async def test_url_of_a_recording_that_is_gone_should_get_no_more_events_of_it(
    farm: WebhookFarm, hook: Receiver
) -> None:
    hook.decide = lambda *_: Reply(410)
    first = new_recording(webhooks=(hook.url,))
    farm.go_through(first, Status.RECORDING)
    await farm.send_all()
    farm.records.change_state(first.id, Status.UPLOADING)
    await farm.send_all()
    assert [received.status for received in hook.received] == ["INVOKED"]
    attempts = farm.attempts(webhook_id_of("acme", hook.url))
    assert [(each.outcome, each.status_code) for each in attempts] == [
        ("given_up", 410),
        ("given_up", None),
        ("given_up", None),
    ]
    assert "not sent" in str(attempts[1].error)
    hook.decide = lambda *_: Reply()
    farm.go_through(new_recording(webhooks=(hook.url,), meeting_id="b"))
    await farm.send_all()
    assert hook.accepted == ["INVOKED"]


async def test_lasting_refusal_should_give_way_to_the_next_state_and_only_to_it(
    redis_client: redis.Redis, tmp_path: Path, redis_address: str, hook: Receiver
) -> None:
    farm = WebhookFarm(redis_client, tmp_path, redis_address, webhook_intervals="0.05,0.05,60,60")
    webhook = farm.register(hook.url)
    hook.decide = lambda received, _: Reply(400 if received.status == "INVOKED" else 200)
    recording = new_recording()
    farm.go_through(recording)
    async with asyncio.timeout(20):
        while len(hook.received) < 3:
            await farm.send()
            await asyncio.sleep(0.02)
    # Nothing waits behind it, so it is tried for as long as anything else.
    assert [each.outcome for each in farm.attempts(webhook.id)] == ["retrying"] * 3
    farm.records.change_state(recording.id, Status.RECORDING)
    await farm.send_all()
    assert [received.status for received in hook.received] == ["INVOKED"] * 4 + ["RECORDING"]
    assert [each.outcome for each in farm.attempts(webhook.id)][3:] == ["given_up", "delivered"]
    farm.records.change_state(recording.id, Status.UPLOADING)
    await farm.send_all()
    assert hook.accepted == ["RECORDING", "UPLOADING"]


@pytest.mark.parametrize(("status", "rests"), [(429, True), (503, True), (500, False)])
async def test_retry_after_should_count(
    redis_client: redis.Redis, tmp_path: Path, redis_address: str, hook: Receiver, status: int, rests: bool
) -> None:
    farm = WebhookFarm(redis_client, tmp_path, redis_address, webhook_intervals="0.01,0.01,0.01")
    webhook = farm.register(hook.url)
    hook.decide = lambda _, before: Reply(status, {"Retry-After": "1"}) if before == 0 else Reply()
    began = time.monotonic()
    farm.go_through(new_recording())
    await farm.send()
    # A receiver that has too much to do is sent nothing else either.
    farm.go_through(new_recording(meeting_id="b"))
    await farm.send()
    assert len(hook.received) == (1 if rests else 2)
    await farm.send_all()
    assert time.monotonic() - began >= 1
    assert len(hook.received) == 3
    first = farm.attempts(webhook.id)[0]
    assert first.next_attempt is not None
    assert 0.9 < (first.next_attempt - first.time).total_seconds() < 2


async def test_receiver_that_rests_should_be_tried_at_once_when_its_url_is_changed(
    farm: WebhookFarm, hook: Receiver, other_hook: Receiver
) -> None:
    webhook = farm.register(hook.url)
    hook.decide = lambda *_: Reply(503, {"Retry-After": "99999999"})
    farm.go_through(new_recording())
    await farm.send()
    (first,) = farm.attempts(webhook.id)
    assert first.next_attempt is not None
    wait = (first.next_attempt - first.time).total_seconds()
    assert MAX_RETRY_AFTER <= wait < MAX_RETRY_AFTER + 9
    farm.webhooks.change("acme", str(webhook.id), url=other_hook.url)
    farm.deliveries.wake(webhook.id)
    await farm.send_all()
    assert other_hook.accepted == ["INVOKED"]


async def test_redirect_should_not_be_followed(
    farm: WebhookFarm, hook: Receiver, other_hook: Receiver
) -> None:
    webhook = farm.register(hook.url)
    hook.decide = lambda _received, _before: Reply(307, {"Location": other_hook.url})
    farm.go_through(new_recording())
    await farm.send_all()
    assert other_hook.received == []
    assert {attempt.status_code for attempt in farm.attempts(webhook.id)} == {307}
    assert "redirect" in str(farm.attempts(webhook.id)[0].error)


@pytest.mark.exact
async def test_hanging_receivers_should_delay_nobody_else(
    redis_client: redis.Redis, tmp_path: Path, redis_address: str, hook: Receiver, other_hook: Receiver
) -> None:
    farm = WebhookFarm(redis_client, tmp_path, redis_address, webhook_intervals="60", webhook_timeout=2.0)
    hook.decide = lambda _received, _before: Reply(hangs=True)
    for number in range(20):
        farm.register(f"{hook.url}/{number}")
    farm.register(other_hook.url)
    farm.go_through(new_recording())
    farm.dispatcher.dispatch_all()
    sending = asyncio.create_task(Sender(farm.settings, farm.redis, farm.key).send_due())
    await asyncio.to_thread(hook.wait_for, 20)
    # The job is busy with them all, and something new comes.
    changed = time.monotonic()
    farm.go_through(new_recording(meeting_id="new"))
    farm.dispatcher.dispatch_all()
    await asyncio.to_thread(other_hook.wait_for, 2)
    assert time.monotonic() - changed < 1
    assert not sending.done()
    await sending


async def test_receiver_that_cannot_be_reached_should_be_left_alone_for_a_while(
    redis_client: redis.Redis, tmp_path: Path, redis_address: str, hook: Receiver
) -> None:
    farm = WebhookFarm(redis_client, tmp_path, redis_address, webhook_timeout=1.0)
    webhook = farm.register(hook.url)
    hook.decide = lambda _received, _before: Reply(hangs=True)
    for number in range(30):
        farm.go_through(new_recording(meeting_id=str(number)))
    await farm.send()
    assert len(hook.received) <= 4
    attempt = farm.attempts(webhook.id)[0]
    assert (attempt.status_code, attempt.error) == (None, "no answer within 1 s")
    assert attempt.duration_ms >= 950


async def test_deleted_webhook_should_be_sent_nothing_more(farm: WebhookFarm, hook: Receiver) -> None:
    webhook = farm.register(hook.url)
    hook.decide = lambda _received, _before: Reply(500)
    farm.go_through(new_recording(), Status.RECORDING)
    await farm.send()
    assert len(hook.received) == 1
    farm.webhooks.delete("acme", str(webhook.id))
    await farm.send_all()
    assert len(hook.received) == 1
    assert farm.redis.keys("farm:webhook-lane*") == []


async def test_delivery_under_way_while_its_webhook_is_deleted_should_leave_nothing(
    farm: WebhookFarm, hook: Receiver
) -> None:
    webhook = farm.register(hook.url)

    def delete(_received: Received, _before: int) -> Reply:
        farm.webhooks.delete("acme", str(webhook.id))
        farm.deliveries.drop(webhook.id)
        return Reply(500)

    hook.decide = delete
    farm.go_through(new_recording())
    await farm.send_all()
    assert farm.attempts(webhook.id) == []
    assert farm.redis.keys(f"farm:webhook*{webhook.id}*") == []


async def test_disabled_webhook_should_drop_what_waits(farm: WebhookFarm, hook: Receiver) -> None:
    webhook = farm.register(hook.url)
    hook.decide = lambda _received, _before: Reply(500)
    farm.go_through(new_recording())
    await farm.send()
    farm.webhooks.change("acme", str(webhook.id), enabled=False)
    await farm.send_all()
    assert len(hook.received) == 1


async def test_changed_url_should_get_what_waits(
    farm: WebhookFarm, hook: Receiver, other_hook: Receiver
) -> None:
    webhook = farm.register(hook.url)
    hook.decide = lambda _received, _before: Reply(404)
    farm.go_through(new_recording())
    await farm.send()
    farm.webhooks.change("acme", str(webhook.id), url=other_hook.url)
    await farm.send_all()
    assert other_hook.accepted == ["INVOKED"]


async def test_private_address_should_be_refused_at_delivery_although_it_was_registered(
    redis_client: redis.Redis, tmp_path: Path, redis_address: str, hook: Receiver
) -> None:
    strict = WebhookFarm(redis_client, tmp_path, redis_address, allow_private_addresses="10.0.0.0/8")
    webhooks = [strict.register(hook.url), strict.register(hook.url.replace("127.0.0.1", "localhost"))]
    strict.go_through(new_recording())
    await strict.send_all()
    assert hook.received == []
    for webhook in webhooks:
        attempts = strict.attempts(webhook.id)
        assert [attempt.outcome for attempt in attempts] == ["retrying"] * 3 + ["given_up"]
        assert "private address" in str(attempts[0].error)


async def test_proxies_of_the_environment_should_not_be_used(
    farm: WebhookFarm, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    farm.register(hook.url)
    farm.go_through(new_recording())
    await farm.send_all()
    assert hook.accepted == ["INVOKED"]


async def test_two_senders_should_double_nothing(farm: WebhookFarm, hook: Receiver) -> None:
    for number in range(5):
        farm.register(f"{hook.url}/{number}")
    for number in range(10):
        farm.go_through(new_recording(meeting_id=str(number)), Status.RECORDING)
    farm.dispatcher.dispatch_all()
    senders = [Sender(farm.settings, farm.redis, farm.key) for _ in range(3)]
    await asyncio.gather(*(sender.send_due() for sender in senders))
    assert len(hook.received) == 5 * 10 * 2
    assert len({received.headers["webhook-id"] for received in hook.received}) == 100


@pytest.mark.parametrize(("tries", "seconds"), [(1, 5), (2, 15), (3, None), (4, None)])
def test_interval_should_be_that_of_the_try(tries: int, seconds: float | None) -> None:
    assert retry_seconds(tries, (5, 15)) == seconds


def test_tries_should_grow_apart_and_go_on_for_a_day(tmp_path: Path) -> None:
    intervals = settings_with(tmp_path, None).webhook_intervals
    assert list(intervals) == sorted(intervals)
    assert intervals[0] == 5
    assert 22 * 3600 < sum(intervals) <= 24 * 3600
