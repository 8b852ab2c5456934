"""Machines whose store, secret or webhook key differ find out and say so."""

from datetime import timedelta
from pathlib import Path

import pytest
import redis

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.telemetry import shared_settings
from recording_farm.farm.telemetry.shared_settings import (
    SECRET,
    STORE,
    SharedSettings,
    differing_settings,
    shared_values,
)
from testkit.settings import settings_with

KEY = "-----BEGIN PUBLIC KEY-----"


def machine(client: redis.Redis, name: str, settings: Settings, key: str = KEY) -> SharedSettings:
    return SharedSettings(client, name, shared_values(settings, key))


def test_machines_with_data_directories_of_their_own_should_name_each_other(
    redis_client: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = machine(redis_client, "api on a", settings_with(tmp_path / "a", None))
    worker = machine(redis_client, "worker on b", settings_with(tmp_path / "b", None))
    assert api.publish() == {}
    assert worker.publish() == {STORE: ["api on a"], SECRET: ["api on a"]}
    assert api.publish() == {STORE: ["worker on b"], SECRET: ["worker on b"]}
    api.publish()
    store = "a file:// store must be a directory that all machines share"
    assert sorted(caplog.messages) == [
        "FARM_SECRET_KEY differs from that of api on a: set the same value on all machines",
        "FARM_SECRET_KEY differs from that of worker on b: set the same value on all machines",
        f"FARM_STORE_URL differs from that of api on a: {store}",
        f"FARM_STORE_URL differs from that of worker on b: {store}",
    ]
    assert differing_settings(redis_client) == [STORE, SECRET]
    worker.withdraw()
    assert api.publish() == {}
    assert sorted(caplog.messages[4:]) == [
        "FARM_SECRET_KEY is the same on all machines again",
        "FARM_STORE_URL is the same on all machines again",
    ]


def test_machines_with_the_same_settings_should_differ_in_nothing(
    redis_client: redis.Redis, tmp_path: Path
) -> None:
    store = f"file://{tmp_path}/shared"
    for name in ("a", "b"):
        settings = settings_with(tmp_path / name, None, store_url=store, secret_key="the same for all 16")
        assert machine(redis_client, name, settings).publish() == {}
    bucket = settings_with(tmp_path / "c", None, store_url="s3://bucket", secret_key="the same for all 16")
    assert machine(redis_client, "c", bucket, "another key").publish() == {
        STORE: ["a", "b"],
        "FARM_WEBHOOK_KEY": ["a", "b"],
    }


def test_redis_should_not_learn_a_secret(redis_client: redis.Redis, tmp_path: Path) -> None:
    settings = settings_with(tmp_path, None, secret_key="a secret of 16 or more")

    def published() -> bytes:
        redis_client.flushall()
        machine(redis_client, "a", settings).publish()
        (found,) = redis_client.hvals("farm:fingerprints")
        assert isinstance(found, bytes)
        assert b"a secret" not in found
        return found.split(b"fingerprints")[1]

    # With another salt it is another fingerprint, so that two farms with the same secret cannot be told.
    assert published() != published()


def test_process_that_was_killed_should_be_forgotten(
    redis_client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(redis_client, "killed", settings_with(tmp_path / "a", None)).publish()
    later = now() + timedelta(minutes=2)
    monkeypatch.setattr(shared_settings, "now", lambda: later)
    other = machine(redis_client, "b", settings_with(tmp_path / "b", None))
    assert other.publish() == {}
    assert differing_settings(redis_client) == []
    later += timedelta(hours=2)
    other.publish()
    assert redis_client.hkeys("farm:fingerprints") == [b"b"]


def test_store_that_cannot_be_used_should_not_be_compared(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the store should be")
    assert STORE not in shared_values(settings_with(tmp_path, None), KEY)
