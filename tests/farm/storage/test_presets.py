from typing import Any

import pytest
import redis

from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import NotFoundError, SettingsError
from recording_farm.farm.storage.presets import MAX_PRESETS, StoragePresets, TooManyPresetsError
from recording_farm.farm.storage.targets import TARGET, Target

SECRET = "hushhush"


def target(**fields: Any) -> Target:
    aws = {"type": "aws", "access_key": "AKEY", "secret": SECRET, "bucket": "films", "region": "eu-west-1"}
    made: Target = TARGET.validate_python(aws | fields)
    return made


@pytest.fixture
def presets(redis_client: redis.Redis) -> StoragePresets:
    return StoragePresets(redis_client, Sealer(b"secret"))


def test_preset_should_come_back_whole_and_be_replaced(presets: StoragePresets) -> None:
    wanted = target(encryption={"type": "SSE-KMS", "kms_key_id": "k"}, metadata={"a": "b"}, tags={"c": "d"})
    presets.put("acme", "archive", wanted)
    assert presets.get("acme", "archive") == wanted
    presets.put("acme", "archive", target(bucket="other"))
    assert presets.get("acme", "archive") == target(bucket="other")


def test_secrets_should_be_kept_sealed_and_not_be_shown(
    presets: StoragePresets, redis_client: redis.Redis
) -> None:
    presets.put("acme", "archive", target(path="{date}"))
    shown = {"type": "aws", "bucket": "films", "region": "eu-west-1", "path": "{date}"}
    assert presets.shown("acme", "archive") == shown
    assert presets.list("acme") == {"archive": shown}
    kept = redis_client.hvals("farm:storage_presets:acme")
    assert len(kept) == 1
    assert SECRET not in str(kept)
    assert "AKEY" not in str(kept)


def test_preset_should_be_no_other_organizations_and_no_other_names(
    presets: StoragePresets, redis_client: redis.Redis
) -> None:
    presets.put("acme", "archive", target())
    for act in (presets.get, presets.shown, presets.delete):
        with pytest.raises(NotFoundError):
            act("other", "archive")
        with pytest.raises(NotFoundError):
            act("acme", "another")
    assert presets.list("other") == {}
    value = redis_client.hget("farm:storage_presets:acme", "archive")
    assert isinstance(value, bytes)
    redis_client.hset("farm:storage_presets:other", "archive", value)
    redis_client.hset("farm:storage_presets:acme", "another", value)
    for organization_id, name in (("other", "archive"), ("acme", "another")):
        with pytest.raises(SettingsError) as raised:
            presets.get(organization_id, name)
        assert SECRET not in str(raised.value)


def test_presets_should_be_listed_by_name_and_be_gone_once_deleted(presets: StoragePresets) -> None:
    for name in ("b", "a", "c"):
        presets.put("acme", name, target(bucket=name))
    assert list(presets.list("acme")) == ["a", "b", "c"]
    presets.delete("acme", "b")
    assert list(presets.list("acme")) == ["a", "c"]
    with pytest.raises(NotFoundError):
        presets.delete("acme", "b")


def test_organization_should_have_so_many_presets_at_most(presets: StoragePresets) -> None:
    for number in range(MAX_PRESETS):
        presets.put("acme", str(number), target())
    with pytest.raises(TooManyPresetsError, match="delete one first"):
        presets.put("acme", "one more", target())
    presets.put("acme", "7", target(bucket="other"))
    presets.put("other", "7", target())
    presets.delete("acme", "8")
    presets.put("acme", "one more", target())
