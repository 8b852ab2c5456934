import json
import os
import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from recording_farm.farm.cli.keys import keys as keys_command
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials import api_keys as module
from recording_farm.farm.credentials.api_keys import (
    ApiKeys,
    create_api_key,
    list_api_keys,
    load_api_keys,
    revoke_api_key,
)
from recording_farm.farm.db.embedded import embedded_redis
from recording_farm.farm.errors import NotFoundError, SettingsError
from testkit.network.ports import free_port
from testkit.settings import settings_with

FILE = "api-keys.json"


def hash_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def write_old_format(directory: Path) -> None:
    """The file of the time before keys had ids."""
    (directory / FILE).write_text(
        json.dumps({"default": [hash_of("first"), hash_of("second")], "b": [hash_of("third")]})
    )


def organization_with(keys: ApiKeys, text: str) -> str | None:
    key = keys.find(text)
    return key.organization_id if key else None


@pytest.fixture
def empty(tmp_path: Path) -> Settings:
    """Settings without keys, and an empty data directory."""
    return settings_with(tmp_path, None, api_keys="")


def test_key_should_be_made_once_and_kept_as_a_hash(tmp_path: Path, empty: Settings) -> None:
    first, made = load_api_keys(empty)
    assert made is not None
    organization, text = made.split(":", 1)
    assert organization_with(first, text) == organization == "default"
    again, made_again = load_api_keys(empty)
    assert made_again is None
    assert organization_with(again, text) == organization
    assert again.find(text + "x") is None
    assert text not in (tmp_path / FILE).read_text()
    assert {path.name for path in tmp_path.iterdir()} == {FILE, "api-keys.lock"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_first_key_should_be_made_by_one_of_several_processes_that_start_at_once(empty: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [loaded.made for loaded in pool.map(load_api_keys, [empty] * 8)]
    assert sum(each is not None for each in made) == 1
    assert len(list_api_keys(empty)) == 1


def test_keys_of_the_settings_should_be_added_to_those_of_the_file(tmp_path: Path, empty: Settings) -> None:
    text = create_api_key(empty, "made").text
    keys, made = load_api_keys(settings_with(tmp_path, None, api_keys="a:1,a:2,b:3"))
    assert made is None
    assert [organization_with(keys, each) for each in ("1", "2", "3", text)] == ["a", "a", "b", "made"]
    assert [organization_with(keys, each) for each in ("", "4", "a:1")] == [None] * 3


def test_no_first_key_should_be_made_beside_keys_of_the_settings(tmp_path: Path) -> None:
    assert load_api_keys(settings_with(tmp_path / "data", None, api_keys="a:1")).made is None
    assert not (tmp_path / "data").exists()


def test_two_organizations_with_the_same_key_should_be_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="b has the same key as another organization"):
        settings_with(tmp_path, None, api_keys="a:same,b:same")


def test_made_key_should_be_random_and_known_by_its_beginning(empty: Settings) -> None:
    new = [create_api_key(empty, "acme") for _ in range(50)]
    assert len({text for _, text in new}) == len({key.id for key, _ in new}) == 50
    assert all(re.fullmatch(r"farm_[A-Za-z0-9_-]{43}", text) for _, text in new)
    assert all(re.fullmatch(r"[0-9a-f]{16}", key.id) for key, _ in new)


def test_list_should_have_what_create_was_told(empty: Settings) -> None:
    one = create_api_key(empty, "acme", "for CI").key
    two = create_api_key(empty, "other").key
    assert list_api_keys(empty) == [one, two]
    assert (one.organization_id, one.name, two.name) == ("acme", "for CI", "")


def test_old_file_should_be_read_and_changed(tmp_path: Path, empty: Settings) -> None:
    write_old_format(tmp_path)
    keys = load_api_keys(empty).keys
    organizations = [organization_with(keys, each) for each in ("first", "second", "third")]
    assert organizations == ["default", "default", "b"]
    before = list_api_keys(empty)
    assert len({key.id for key in before}) == 3
    new = create_api_key(empty, "c")
    assert list_api_keys(empty) == [*before, new.key]
    revoke_api_key(empty, before[0].id)
    assert list_api_keys(empty) == [*before[1:], new.key]
    assert keys.find("first") is None
    assert organization_with(keys, "second") == "default"


def test_running_api_should_know_a_change_at_once(empty: Settings) -> None:
    keys = load_api_keys(empty).keys
    for _ in range(20):
        new = create_api_key(empty, "acme")
        assert keys.find(new.text) == new.key
        revoke_api_key(empty, new.key.id)
        assert keys.find(new.text) is None


def test_revoked_key_should_open_nothing_while_another_thread_reads_the_file(
    empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = create_api_key(empty, "acme")
    keys = ApiKeys(empty)
    revoke_api_key(empty, new.key.id)
    read = module._read
    found_meanwhile = []

    def read_slowly(path: Path) -> module._KeySet:
        monkeypatch.setattr(module, "_read", read)
        found_meanwhile.append(keys.find(new.text))
        return read(path)

    monkeypatch.setattr(module, "_read", read_slowly)
    assert keys.find(new.text) is None
    assert found_meanwhile == [None]


def test_deleted_file_should_open_nothing(tmp_path: Path, empty: Settings) -> None:
    text = create_api_key(empty, "acme").text
    keys = ApiKeys(empty)
    (tmp_path / FILE).unlink()
    assert keys.find(text) is None


def test_last_key_revoked_should_stay_so_over_a_start(empty: Settings) -> None:
    key = create_api_key(empty, "acme").key
    revoke_api_key(empty, key.id)
    assert load_api_keys(empty).made is None
    assert list_api_keys(empty) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"default": "x"}',
        '{"default": ["short"]}',
        '{"a:b": []}',
        '{"version": 3, "keys": []}',
        '{"version": 2, "keys": [{"id": "1"}]}',
        "\x00",
    ],
)
def test_damaged_file_should_be_a_clear_error(tmp_path: Path, empty: Settings, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    for use in (
        lambda: load_api_keys(empty),
        lambda: create_api_key(empty, "acme"),
        lambda: list_api_keys(empty),
        lambda: revoke_api_key(empty, "x"),
    ):
        with pytest.raises(SettingsError, match=r"api-keys\.json is damaged"):
            use()
    assert (tmp_path / FILE).read_text() == content


def test_file_damaged_under_a_running_api_should_leave_the_keys_as_they_were(
    tmp_path: Path, empty: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    text = create_api_key(empty, "acme").text
    keys = ApiKeys(empty)
    good = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text("half a fi")
    assert [organization_with(keys, text) for _ in range(3)] == ["acme"] * 3
    assert len(caplog.records) == 1
    (tmp_path / FILE).write_text(good + "\n")
    assert organization_with(keys, text) == "acme"
    revoke_api_key(empty, list_api_keys(empty)[0].id)
    assert keys.find(text) is None


def test_unknown_key_should_not_be_revoked(tmp_path: Path, empty: Settings) -> None:
    with pytest.raises(NotFoundError, match="no key has the id 1234"):
        revoke_api_key(settings_with(tmp_path / "absent", None, api_keys=""), "1234")
    assert not (tmp_path / "absent").exists()
    create_api_key(empty, "acme")
    with pytest.raises(NotFoundError, match="no key has the id 1234"):
        revoke_api_key(empty, "1234")
    assert len(list_api_keys(empty)) == 1


def test_key_of_the_settings_should_not_be_revoked(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, None, api_keys="a:1")
    (key,) = list_api_keys(settings)
    assert (key.organization_id, key.from_settings) == ("a", True)
    with pytest.raises(SettingsError, match="FARM_API_KEYS"):
        revoke_api_key(settings, key.id)


def test_data_directory_that_cannot_be_made_should_be_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = settings_with(tmp_path / "file" / "data", None, api_keys="")
    with pytest.raises(SettingsError, match="FARM_DATA_DIR"):
        create_api_key(settings, "acme")


# The command


def farm_keys(data_dir: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "recording_farm.farm.cli", "keys", *arguments],
        env={**os.environ, "FARM_DATA_DIR": str(data_dir), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_command_should_make_list_and_revoke_a_key(tmp_path: Path) -> None:
    made = farm_keys(tmp_path, "create", "acme", "--name", "for CI")
    assert made.returncode == 0, made.stderr
    text = made.stdout.removesuffix("\n")
    keys = ApiKeys(settings_with(tmp_path, None, api_keys=""))
    key = keys.find(text)
    assert key is not None
    assert key.id in made.stderr

    listed = farm_keys(tmp_path, "list", FARM_API_KEYS="other:hunter2")
    assert listed.returncode == 0, listed.stderr
    heading, of_settings, of_file = listed.stdout.splitlines()
    assert heading.split() == ["ID", "ORGANIZATION", "CREATED", "NAME"]
    assert of_settings.split()[1:] == ["other", "-", "(from", "FARM_API_KEYS)"]
    assert key.created is not None
    assert of_file.split(maxsplit=3) == [key.id, "acme", key.created.isoformat(), "for CI"]
    as_json = farm_keys(tmp_path, "list", "--json", FARM_API_KEYS="other:hunter2").stdout
    assert [each["source"] for each in json.loads(as_json)] == ["FARM_API_KEYS", "file"]
    for secret in (text, "hunter2", hash_of(text), hash_of("hunter2")):
        assert secret not in listed.stdout + as_json

    refused = farm_keys(tmp_path, "revoke", of_settings.split()[0], FARM_API_KEYS="other:hunter2")
    assert (refused.returncode, refused.stdout) == (78, "")
    assert "FARM_API_KEYS" in refused.stderr
    revoked = farm_keys(tmp_path, "revoke", key.id)
    assert (revoked.returncode, revoked.stdout) == (0, "")
    assert keys.find(text) is None
    again = farm_keys(tmp_path, "revoke", key.id)
    assert again.returncode == 1
    assert again.stderr == f"farm: no key has the id {key.id}; `farm keys list` shows them all\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("create",),
        ("create", "a:b"),
        ("create", ""),
        ("create", "x" * 65),
        ("create", "acme", "--name", "a\nb"),
        ("create", "acme", "--name", "x" * 101),
        ("revoke",),
    ],
)
def test_command_should_refuse_bad_arguments(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    refused = CliRunner().invoke(keys_command, arguments, env={"FARM_DATA_DIR": str(tmp_path / "data")})
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "Error:" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_command_should_say_so_when_the_file_is_damaged(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("?")
    refused = farm_keys(tmp_path, "list")
    assert (refused.returncode, refused.stdout) == (78, "")
    assert "is damaged" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_commands_at_the_same_time_should_lose_no_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda number: farm_keys(tmp_path, "create", f"org-{number}"), range(4)))
    assert [each.returncode for each in made] == [0] * 4
    found = list_api_keys(settings_with(tmp_path, None, api_keys=""))
    assert sorted(key.organization_id for key in found) == [f"org-{number}" for number in range(4)]


def test_command_should_work_with_the_redis_of_a_farm_that_runs(tmp_path: Path) -> None:
    before = farm_keys(tmp_path, "create", "before").stdout.strip()
    settings = settings_with(tmp_path, None, api_keys="")
    with embedded_redis(settings) as server:
        made = farm_keys(tmp_path, "create", "acme").stdout.strip()
        shared = settings_with(tmp_path / "elsewhere", server.address, api_keys="")
        keys = load_api_keys(shared).keys
        assert [organization_with(keys, each) for each in (before, made)] == ["before", "acme"]
        key = keys.find(made)
        assert key is not None
        assert farm_keys(tmp_path, "revoke", key.id).returncode == 0
        assert organization_with(load_api_keys(shared).keys, made) is None


def test_command_should_say_so_when_redis_is_away(tmp_path: Path) -> None:
    refused = farm_keys(tmp_path, "create", "acme", FARM_REDIS_URL=f"redis://127.0.0.1:{free_port()}")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Redis cannot be reached" in refused.stderr
