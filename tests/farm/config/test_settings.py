import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.farm.config.settings import (
    Settings,
    load_settings,
    refuse_unknown_settings,
    unknown_settings,
)
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.errors import SettingsError
from testkit.settings import settings_with


def test_settings_should_work_without_any_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert settings.data_dir == tmp_path / "data"
    assert (settings.host, settings.port, settings.slots >= 1) == ("127.0.0.1", 8000, True)
    assert settings.redis_address == f"unix://{settings.redis_socket}"
    assert settings.page_of("a b/c?d") == "http://127.0.0.1:8000/meet/a%20b%2Fc%3Fd"
    assert settings.base_url == "http://127.0.0.1:8000"
    assert settings.address_rule == AddressRule()


def test_redis_socket_should_be_in_the_data_directory_unless_its_path_is_too_long() -> None:
    assert settings_with(Path("/srv/farm"), None).redis_socket == Path("/srv/farm/redis/redis.sock")
    far = settings_with(Path("/srv") / ("x" * 100), None).redis_socket
    assert len(bytes(far)) < 100
    assert far != settings_with(Path("/srv") / ("y" * 100), None).redis_socket


def test_settings_should_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "FARM_PORT": "9000",
        "FARM_HOST": "0.0.0.0",
        "FARM_API_KEYS": "acme:one, acme:t:wo ,other:three",
        "FARM_REDIS_URL": "redis://db:6379/2",
        "FARM_MEETING_URL": "https://meet.example/{meeting_id}/?from=farm",
        "FARM_PUBLIC_URL": "https://farm.example/",
        "FARM_ALLOW_PRIVATE_ADDRESSES": "10.0.0.0/8, fd00::/8",
        "FARM_PARTICIPANT_JWKS_URL": "https://issuer.example/keys/",
        "FARM_PARTICIPANT_ORGANIZATIONS": "0e3b-aa=acme, Other Ltd=other,",
        "FARM_SLOTS": "",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    keys = [(organization, key.get_secret_value()) for organization, key in settings.api_keys]
    assert keys == [("acme", "one"), ("acme", "t:wo"), ("other", "three")]
    assert settings.redis_address == "redis://db:6379/2"
    assert settings.page_of("a/b") == "https://meet.example/a%2Fb/?from=farm"
    assert settings.local_url == "http://127.0.0.1:9000"
    assert settings.base_url == "https://farm.example"
    assert len(settings.address_rule.allowed) == 2
    assert settings.participant_jwks_url == "https://issuer.example/keys/"
    assert settings.participant_organizations == (("0e3b-aa", "acme"), ("Other Ltd", "other"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FARM_PORT", "eighty"),
        ("FARM_LOCALE", "en-UK"),
        ("FARM_TIMEZONE", "Vienna"),
        ("FARM_FAKE_DEVICES", "some"),
        ("FARM_PORT", "70000"),
        ("FARM_SLOTS", "0"),
        ("FARM_REDIS_URL", "http://secret-user@db"),
        ("FARM_API_KEYS", "secret-without-organization"),
        ("FARM_API_KEYS", "or g:secret"),
        ("FARM_API_KEYS", "org:"),
        ("FARM_API_KEYS", "a:secret,b:secret"),
        ("FARM_RATE_LIMIT", "-1"),
        ("FARM_FAILURE_LIMIT", "many"),
        ("FARM_TRUSTED_PROXIES", "127.0.0.1,10.0.0.0/33"),
        ("FARM_MEETING_URL", "https://meet.example/secret"),
        ("FARM_MEETING_URL", "file:///{meeting_id}"),
        ("FARM_PUBLIC_URL", "farm.secret"),
        ("FARM_ALLOW_PRIVATE_ADDRESSES", "10.0.0.0/33"),
        ("FARM_SECRET_KEY", "secret"),
        ("FARM_PARTICIPANT_JWKS_URL", "file:///secret"),
        ("FARM_PARTICIPANT_ORGANIZATIONS", "secret"),
        ("FARM_PARTICIPANT_ORGANIZATIONS", "id=a secret"),
        ("FARM_NODE", "a node"),
        ("FARM_MAX_SECONDS", "86401"),
    ],
)
def test_bad_setting_should_give_one_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: ") as caught:
        load_settings()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("FARM_FAKE_DEVICES", "maybe", "must be on or off"),
        ("FARM_PAGE_SECRET", "short", "must have at least 16 characters"),
        ("FARM_SLOTS", "two", "must be a whole number"),
        ("FARM_MAX_LOAD", "much", "must be a number"),
        ("FARM_PORT", "65536", "must be less than or equal to 65535"),
    ],
)
def test_bad_setting_should_be_reported_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value) == f"{name}: {words}"


def test_variable_that_is_no_setting_should_be_found() -> None:
    environment = {"FARM_PORT": "1", "farm_slots": "1", "FARM_SLOT": "1", "FARMER": "1", "PATH": "/bin"}
    assert unknown_settings(environment) == ["FARM_SLOT"]


def test_variables_that_kubernetes_sets_for_a_service_should_be_no_unknown_settings() -> None:
    links = {
        "FARM_SERVICE_HOST": "10.0.0.1",
        "FARM_API_SERVICE_PORT_HTTP": "8000",
        "FARM_API_PORT": "tcp://10.0.0.1:8000",
        "FARM_API_PORT_8000_TCP_ADDR": "10.0.0.1",
    }
    assert unknown_settings(links) == []
    assert unknown_settings({"FARM_API_PORT": "8000"}) == ["FARM_API_PORT"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FARM_STOR_URL", "FARM_STOR_URL: unknown setting; did you mean FARM_STORE_URL?"),
        ("farm_retentoin", "farm_retentoin: unknown setting; did you mean FARM_RETENTION?"),
        ("FARM_COLOR", "FARM_COLOR: unknown setting"),
    ],
)
def test_unknown_setting_should_be_refused_with_the_one_that_was_meant(name: str, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        refuse_unknown_settings({name: "1"})
    assert str(refused.value) == message


def test_every_setting_should_have_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_secrets_should_not_show_in_the_settings_text(tmp_path: Path) -> None:
    settings = settings_with(
        tmp_path, "redis://:hunter2@db", api_keys="acme:hunter2", secret_key="hunter2hunter2hunter2"
    )
    assert "hunter2" not in f"{settings!r} {settings}"


def test_secret_key_should_stay_the_same_between_starts(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, None)
    secret = load_secret_key(settings)
    assert len(secret) >= 32
    assert load_secret_key(settings) == secret
    assert stat.S_IMODE((tmp_path / "secret-key").stat().st_mode) == 0o600


def test_data_directory_that_cannot_be_made_should_be_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="FARM_DATA_DIR"):
        load_secret_key(settings_with(tmp_path / "file" / "data", None))


def test_administrators_should_be_those_of_the_setting(settings: Settings, redis_address: str) -> None:
    assert settings.administrators == {"acme"}
    assert settings_with(settings.data_dir, redis_address, admins="other, third").administrators == {
        "other",
        "third",
    }
    assert settings_with(settings.data_dir, redis_address, api_keys="").administrators == {"default"}


def test_intervals_should_be_read_from_text(tmp_path: Path) -> None:
    assert settings_with(tmp_path, None, webhook_intervals="0.5, 2,30").webhook_intervals == (0.5, 2, 30)


@pytest.mark.parametrize("intervals", ["x", "0", "-1", "1,90000", "nan"])
def test_intervals_that_are_none_should_be_refused(tmp_path: Path, intervals: str) -> None:
    with pytest.raises(ValidationError, match="webhook_intervals"):
        settings_with(tmp_path, None, webhook_intervals=intervals)
