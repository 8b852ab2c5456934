"""The presets of storage."""

import re

import pytest

from recording_farm.api.portal.storage_kinds import is_editable
from testkit.api.portal import Visit


async def test_storage_should_be_added_checked_and_deleted_without_showing_its_keys(acme: Visit) -> None:
    fields = {
        "type": "s3",
        "name": "mine",
        "endpoint": "https://8.8.8.8",
        "bucket": "recordings",
        "access_key": "an-access-key",
        "secret": "a-secret-key",
    }
    assert (await acme.send("/settings/storage", **fields)).headers["location"].startswith("/settings?done")
    page = await acme.see("/settings")
    assert "https://8.8.8.8" in page
    assert "an-access-key" not in page
    assert "a-secret-key" not in page
    checked = await acme.send("/settings/storage/check", name="mine")
    assert checked.status_code == 200
    assert 'class="notice bad"' in checked.text
    refused = await acme.send("/settings/storage", **fields | {"endpoint": "ftp://x"})
    assert refused.status_code == 422
    assert "a-secret-key" not in refused.text
    await acme.send("/settings/storage/delete", name="mine")
    assert "8.8.8.8" not in await acme.see("/settings")
    assert (await acme.send("/settings/storage/delete", name="mine")).status_code == 404


async def test_preset_should_be_edited_without_its_credentials(acme: Visit) -> None:
    fields = {"type": "aws", "name": "mine", "bucket": "old-bucket", "region": "eu-west-1"}
    await acme.send("/settings/storage", **fields, access_key="an-access-key", secret="a-secret-key")
    assert "?edit=mine" in await acme.see("/settings")
    form = await acme.see("/settings/storage?edit=mine")
    assert "Edit storage" in form
    assert 'value="old-bucket"' in form
    assert "an-access-key" not in form
    assert "Add storage" in await acme.see("/settings/storage?edit=other")


def test_preset_with_fields_that_the_form_would_drop_should_not_be_edited() -> None:
    shown = {"type": "aws", "bucket": "b", "region": "eu-west-1"}
    assert is_editable(shown)
    assert not is_editable(shown | {"tags": {"team": "a"}})
    assert not is_editable({"type": "later"})


@pytest.mark.parametrize("kind", ["aws", "cloudflare", "digitalocean", "s3", "azure", "gcs", "sftp"])
async def test_form_of_each_storage_should_make_a_preset(acme: Visit, kind: str) -> None:
    page = await acme.see(f"/settings/storage?type={kind}")
    names = re.findall(r'<(?:input|textarea) name="(\w+)"', page)
    values = {
        "endpoint": "https://8.8.8.8",
        "port": "2222",
        "host": "8.8.8.8",
        "host_key": "SHA256:" + "a" * 43,
        "access_key": "AccountName=a;AccountKey=aGVsbG8=" if kind == "azure" else "key",
    }
    fields = {name: values.get(name, "value1") for name in names}
    response = await acme.send("/settings/storage", type=kind, **fields)
    assert response.status_code == 303, re.findall(r'role="alert">(.*?)<', response.text)


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_names_should_never_lead_to_another_place_of_the_api(acme: Visit, name: str) -> None:
    for path in ("/settings/storage", "/settings/storage/delete"):
        response = await acme.send(path, type="aws", name=name)
        assert response.status_code in {404, 422}, response.text
        assert "does not exist" not in response.text
