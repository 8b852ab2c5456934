from pathlib import Path

import pytest

from recording_farm.farm.cli.greeting import duration, greeting, login_hint
from testkit.settings import settings_with


def test_greeting_should_name_portal_files_and_retention(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, None, port="8100", retention="36h")
    text = greeting(settings)
    assert "http://127.0.0.1:8100/" in text
    assert f"{tmp_path}/store, deleted after 36 hours (FARM_RETENTION)" in text
    assert "never deleted" in greeting(settings_with(tmp_path, None, retention="0"))


def test_store_in_a_bucket_should_be_named_without_its_credentials(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, None, store_url="s3://films/a", store_secret="hunter2")
    assert "s3://films/a/" in greeting(settings)
    assert "hunter2" not in greeting(settings)


def test_new_key_should_be_reported_as_organization_and_key(tmp_path: Path) -> None:
    hint = login_hint(settings_with(tmp_path, None, api_keys=""), "default:farm_x:y")
    assert "log in at http://127.0.0.1:8000/, organization default, key farm_x:y" in hint
    assert "key farm_" not in login_hint(settings_with(tmp_path, None), None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(604800, "7 days"), (86400, "1 day"), (5400, "90 minutes"), (61, "61 seconds")]
)
def test_duration_should_be_in_its_largest_whole_unit(seconds: int, text: str) -> None:
    assert duration(seconds) == text
