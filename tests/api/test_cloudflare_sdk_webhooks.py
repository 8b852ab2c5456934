"""The official client of the recording API, as it is, against the farm."""

from collections.abc import Iterator

import cloudflare
import pytest
from cloudflare import AsyncCloudflare, Cloudflare
from cloudflare.types.realtime_kit import webhook_create_webhook_response

from recording_farm.farm.config.settings import Settings
from testkit.api.client import ACME
from testkit.api.serving import served_in_thread

ACCOUNT = "023e105f4ecef8ad9ca31a8372d0c353"
APP = "app_id"
URL = "http://8.8.8.8/hook"


@pytest.fixture
def base_url(settings: Settings) -> Iterator[str]:
    with served_in_thread(settings) as url:
        yield f"{url}/client/v4"


@pytest.fixture
def sdk(base_url: str) -> Iterator[Cloudflare]:
    with Cloudflare(api_token=ACME[1], base_url=base_url, max_retries=0) as client:
        yield client


def create(sdk: Cloudflare, url: str = URL) -> webhook_create_webhook_response.Data:
    answer = sdk.realtime_kit.webhooks.create_webhook(
        APP, account_id=ACCOUNT, name="hook", url=url, events=["recording.statusUpdate", "meeting.ended"]
    )
    assert answer.success
    return answer.data


def test_sdk_should_do_all_with_webhooks(sdk: Cloudflare) -> None:
    webhooks = sdk.realtime_kit.webhooks
    made = create(sdk)
    assert (made.name, made.url, made.enabled) == ("hook", URL, True)
    assert made.events == ["recording.statusUpdate", "meeting.ended"]
    assert made.created_at == made.updated_at
    assert str(made.to_dict()["secret"]).startswith("whsec_")

    one = webhooks.get_webhook_by_id(made.id, account_id=ACCOUNT, app_id=APP)
    assert one.data.to_dict().items() <= made.to_dict().items()
    listed = webhooks.get_webhooks(APP, account_id=ACCOUNT)
    assert [each.id for each in listed.data] == [made.id]

    edited = webhooks.edit_webhook(made.id, account_id=ACCOUNT, app_id=APP, enabled=False)
    assert (edited.data.enabled, edited.data.name) == (False, "hook")
    replaced = webhooks.replace_webhook(
        made.id, account_id=ACCOUNT, app_id=APP, name="new", url="http://8.8.4.4/", events=["meeting.started"]
    )
    assert (replaced.data.name, replaced.data.enabled) == ("new", True)
    assert replaced.data.created_at == made.created_at < replaced.data.updated_at

    deleted = webhooks.delete_webhook(made.id, account_id=ACCOUNT, app_id=APP)
    assert deleted.data.id == made.id
    assert webhooks.get_webhooks(APP, account_id=ACCOUNT).data == []


def test_sdk_should_raise_its_errors(sdk: Cloudflare) -> None:
    webhooks = sdk.realtime_kit.webhooks
    made = create(sdk)
    with pytest.raises(cloudflare.ConflictError, match="exists already"):
        create(sdk)
    with pytest.raises(cloudflare.UnprocessableEntityError, match="is a private address") as refused:
        create(sdk, "http://10.0.0.1/")
    assert [error.code for error in refused.value.errors] == [422]
    webhooks.delete_webhook(made.id, account_id=ACCOUNT, app_id=APP)
    with pytest.raises(cloudflare.NotFoundError):
        webhooks.get_webhook_by_id(made.id, account_id=ACCOUNT, app_id=APP)
    with pytest.raises(cloudflare.NotFoundError):
        webhooks.edit_webhook(made.id, account_id=ACCOUNT, app_id=APP, name="x")


async def test_asynchronous_sdk_should_work_too(base_url: str) -> None:
    async with AsyncCloudflare(api_token=ACME[1], base_url=base_url, max_retries=0) as sdk:
        made = await sdk.realtime_kit.webhooks.create_webhook(
            APP, account_id=ACCOUNT, name="hook", url=URL, events=["recording.statusUpdate"]
        )
        listed = await sdk.realtime_kit.webhooks.get_webhooks(APP, account_id=ACCOUNT)
        assert [each.id for each in listed.data] == [made.data.id]
