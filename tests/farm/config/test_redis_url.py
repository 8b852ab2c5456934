import pytest

from recording_farm.farm.config.redis_url import Sentinels, parse_redis_address
from recording_farm.farm.config.settings import load_settings
from recording_farm.farm.errors import SettingsError


@pytest.mark.parametrize(
    "address", ["redis://h/0", "rediss://u:p@h:6380?ssl_ca_certs=/ca.pem", "unix:///run/redis.sock"]
)
def test_one_server_should_need_no_sentinels(address: str) -> None:
    assert parse_redis_address(address) is None


def test_sentinels_should_be_read_with_what_the_servers_want() -> None:
    found = parse_redis_address(
        "rediss+sentinel://farm:p%40ss@one:1,two,[::1]:3/the%20master/2?ssl_ca_certs=/ca.pem"
        "&sentinel_username=watch&sentinel_password=word"
    )
    assert found == Sentinels(
        hosts=(("one", 1), ("two", 26379), ("::1", 3)),
        master="the master",
        tls=True,
        servers={"username": "farm", "password": "p@ss", "db": 2, "ssl_ca_certs": "/ca.pem"},
        credentials={"ssl_ca_certs": "/ca.pem", "username": "watch", "password": "word"},
    )


def test_sentinels_should_need_no_credentials() -> None:
    found = parse_redis_address("redis+sentinel://one/farm")
    assert found == Sentinels((("one", 26379),), "farm", tls=False, servers={"db": 0}, credentials={})


def test_secrets_should_not_be_shown() -> None:
    address = "redis+sentinel://farm:hunter2@one/farm?sentinel_password=hunter2"
    assert "hunter2" not in repr(parse_redis_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "http://h",
        "redis://h:port-hunter2",
        "redis+sentinel://u:hunter2@/farm",
        "redis+sentinel://u:hunter2@one",
        "redis+sentinel://u:hunter2@one:x/farm",
        "redis+sentinel://u:hunter2@one,,two/farm",
        "redis://u:hunter2@[::1/0",
        "redis://h?db=hunter2",
    ],
)
def test_bad_address_should_be_refused_without_repeating_it(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("FARM_REDIS_URL", address)
    with pytest.raises(SettingsError, match="FARM_REDIS_URL") as refusal:
        load_settings()
    assert "hunter2" not in str(refusal.value)
