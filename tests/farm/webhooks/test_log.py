"""What is kept of each try."""

import json
from typing import Any, cast

from testkit.receivers import Receiver, Reply
from testkit.recordings import new_recording
from testkit.webhooks import WebhookFarm


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
