"""Changes of recordings on their way to receivers: dispatcher and sender, without their processes."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
import redis
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from standardwebhooks import Webhook as StandardWebhook

from farm.clock import now
from farm.config.settings import Settings
from farm.queues.webhooks import webhooks_queue
from farm.recording.changes import CHANGES_KEY
from farm.recording.model import Recording, Status
from farm.recording.records import Records
from farm.webhooks.deliveries import DUE_KEY, Deliveries
from farm.webhooks.dispatcher import Dispatcher
from farm.webhooks.log import Attempt, WebhookLog
from farm.webhooks.registry import STATUS_UPDATE, Webhook, Webhooks, webhook_id_of
from farm.webhooks.sender import MAX_RETRY_AFTER, Sender
from farm.webhooks.signature import load_signing_key
from testkit.receivers import Received, Receiver, Reply, receiver
from testkit.recordings import new_recording
from testkit.settings import settings_with

OPEN = {"allow_private_addresses": "all", "webhook_intervals": "0.05,0.05,0.05"}


class WebhookFarm:
    """The parts of the farm that have to do with webhooks, over one Redis."""

    def __init__(self, client: redis.Redis, data_dir: Path, redis_url: str, **values: Any) -> None:
        self.redis = client
        self.settings: Settings = settings_with(data_dir, redis_url, **OPEN | values)
        self.records = Records(client)
        self.webhooks = Webhooks(client, self.settings.webhook_limit)
        self.deliveries = Deliveries(client)
        self.log = WebhookLog(client)
        self.key = load_signing_key(self.settings)
        self.dispatcher = Dispatcher(self.settings, client)

    def register(self, url: str, organization_id: str = "acme", **fields: Any) -> Webhook:
        values: dict[str, Any] = {"name": "test", "events": (STATUS_UPDATE,), "enabled": True} | fields
        return self.webhooks.create(organization_id, url=url, **values)

    def go_through(self, recording: Recording, *states: Status) -> None:
        self.records.add(recording, allow_multiple=True)
        for state in states:
            self.records.change_state(recording.id, state)

    async def send(self, rounds: int = 1) -> None:
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


@pytest.fixture
def farm(redis_client: redis.Redis, tmp_path: Path, redis_address: str, webhook_key: Path) -> WebhookFarm:
    return WebhookFarm(redis_client, tmp_path, redis_address, webhook_key=webhook_key)


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def other_hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture(autouse=True)
async def _no_task_is_left() -> AsyncIterator[None]:
    yield
    assert asyncio.all_tasks() == {asyncio.current_task()}


def public_key(farm: WebhookFarm) -> RSAPublicKey:
    key = load_pem_public_key(farm.key.public_pem.encode())
    assert isinstance(key, RSAPublicKey)
    return key


def verify(farm: WebhookFarm, received: Received, secret: str) -> None:
    """Both signatures; raises if one is wrong."""
    for family in ("dyte", "rtk"):
        signature = base64.b64decode(received.headers[f"{family}-signature"], validate=True)
        public_key(farm).verify(signature, received.body, PKCS1v15(), hashes.SHA256())
    StandardWebhook(secret).verify(received.body, dict(received.headers))


async def test_every_state_should_be_told_in_order_and_signed_both_ways(
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


async def test_nothing_should_be_told_to_who_did_not_ask(
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
    assert "the webhook is disabled until it is changed" in f"{first.error} {second.error}"
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


async def test_url_of_a_recording_that_is_gone_should_be_told_nothing_more_of_it(
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


async def test_urls_of_a_recording_should_be_told_of_it_alone(farm: WebhookFarm, hook: Receiver) -> None:
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
        assert "is not public" in str(attempts[0].error)


async def test_proxies_of_the_environment_should_not_be_used(
    farm: WebhookFarm, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    farm.register(hook.url)
    farm.go_through(new_recording())
    await farm.send_all()
    assert hook.accepted == ["INVOKED"]


async def test_answer_should_be_kept_to_its_first_kib(farm: WebhookFarm, hook: Receiver) -> None:
    webhook = farm.register(hook.url)
    hook.decide = lambda _received, _before: Reply(200, body=b"\xff" + b"x" * 1_000_000)
    farm.go_through(new_recording())
    await farm.send_all()
    (attempt,) = farm.attempts(webhook.id)
    assert attempt.answer == "\ufffd" + "x" * 1023
    assert attempt.outcome == "delivered"


async def test_secrets_should_not_be_in_the_log(farm: WebhookFarm, hook: Receiver) -> None:
    webhook = farm.register(hook.url)
    farm.go_through(new_recording())
    await farm.send_all()
    log = str(farm.redis.xrange(f"farm:webhook-log:acme:{webhook.id}"))
    assert webhook.secret not in log
    assert webhook.secret.removeprefix("whsec_") not in log
    assert hook.received[0].headers["webhook-signature"] not in log


async def test_log_should_keep_the_last_thousand_tries(farm: WebhookFarm, hook: Receiver) -> None:
    webhook = farm.register(hook.url)
    farm.go_through(new_recording())
    await farm.send_all()
    key = f"farm:webhook-log:acme:{webhook.id}"
    ((_, fields),) = cast("list[tuple[bytes, dict[Any, Any]]]", farm.redis.xrange(key))
    for _ in range(1100):
        farm.redis.xadd(key, fields)
    farm.go_through(new_recording(meeting_id="again"))
    await farm.send_all()
    page = farm.log.page("acme", str(webhook.id), 0, 5)
    assert page.total == 1000
    assert json.loads(page.entries[0].attempt.body)["recording"]["meetingId"] == "again"
    assert 0 < int(str(farm.redis.ttl(key))) <= 30 * 86400


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
    monkeypatch.setattr("farm.webhooks.deliveries.MAX_LANES", 2)
    webhook = farm.register("http://127.0.0.1:9/")
    recordings = [new_recording(meeting_id=str(number)) for number in range(3)]
    for recording in recordings:
        farm.go_through(recording, Status.RECORDING)
    farm.dispatcher.dispatch_all()
    assert farm.redis.zcard(f"farm:webhook-lanes:{webhook.id}") == 2
    assert f"recording {recordings[2].id}: 1 webhooks are not told" in caplog.text
    monkeypatch.setattr("farm.webhooks.deliveries.MAX_LANE", 3)
    farm.records.change_state(recordings[0].id, Status.PAUSED)
    farm.records.change_state(recordings[0].id, Status.RECORDING)
    farm.dispatcher.dispatch_all()
    assert farm.redis.llen(f"farm:webhook-lane:{webhook.id}:{recordings[0].id}") == 3
