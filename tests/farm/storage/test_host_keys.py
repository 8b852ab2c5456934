from typing import Any

import redis

from recording_farm.farm.storage.host_keys import HostKeys
from recording_farm.farm.storage.targets import SftpTarget

FIRST, SECOND = (f"SHA256:{letter * 43}" for letter in "AB")


def server(**fields: Any) -> SftpTarget:
    target = {
        "type": "sftp",
        "host": "Files.example",
        "username": "u",
        "auth_method": "PASSWORD",
        "password": "p",
    }
    return SftpTarget.model_validate(target | fields)


def test_host_key_of_the_first_use_should_be_expected_from_then_on(redis_client: redis.Redis) -> None:
    host_keys = HostKeys(redis_client)
    assert host_keys.known("acme", server()) is None
    host_keys.keep("acme", server(), FIRST)
    host_keys.keep("acme", server(), SECOND)
    assert host_keys.known("acme", server(host="files.EXAMPLE", username="other")) == FIRST
    assert host_keys.known("acme", server(port=2222)) is None
    assert host_keys.known("acme", server(host="other.example")) is None
    assert host_keys.known("other", server()) is None


def test_host_key_that_the_target_names_should_take_the_others_place_once_used(
    redis_client: redis.Redis,
) -> None:
    host_keys = HostKeys(redis_client)
    host_keys.keep("acme", server(), FIRST)
    assert host_keys.known("acme", server(host_key=SECOND)) == SECOND
    assert host_keys.known("acme", server()) == FIRST
    host_keys.keep("acme", server(host_key=SECOND), SECOND)
    assert host_keys.known("acme", server()) == SECOND
