"""The command `farm`: what it refuses before it starts anything."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from testkit.network.ports import free_port


def farm(*words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FARM_")}
    return subprocess.run(
        [sys.executable, "-m", "recording_farm.farm.cli", *words],
        env=environment | settings, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message", "code"),
    [
        ({"FARM_STOR_URL": "x"}, "FARM_STOR_URL: unknown setting; did you mean FARM_STORE_URL?", 78),
        ({"FARM_DATA_DIR": "/proc/farm"}, "FARM_DATA_DIR: cannot write to /proc/farm", 78),
        ({"FARM_REDIS_URL": "redis://127.0.0.1:1/0"}, "FARM_REDIS_URL: Redis cannot be reached", 1),
        ({"FARM_SLOTS": "two"}, "FARM_SLOTS: must be a whole number", 78),
    ],
)
def test_up_should_end_at_once_with_what_is_wrong(
    wrong: dict[str, str], message: str, code: int, tmp_path: Path
) -> None:
    settings = {"FARM_DATA_DIR": str(tmp_path / "data"), "FARM_PORT": str(free_port())} | wrong
    ended = farm("up", **settings)
    assert ended.returncode == code, ended.stderr
    assert f"farm: {message}" in ended.stderr
    assert not (tmp_path / "data" / "redis").exists()


@pytest.mark.parametrize("command", ["up", "api"])
def test_files_of_tls_that_cannot_be_used_should_end_it_at_once(command: str, tmp_path: Path) -> None:
    settings = {"FARM_DATA_DIR": str(tmp_path / "data"), "FARM_PORT": str(free_port())}
    missing = tmp_path / "missing.pem"
    ended = farm(command, **settings, FARM_TLS_CERTIFICATE=str(missing), FARM_TLS_KEY=str(missing))
    assert ended.returncode == 78, ended.stderr
    problem = f"farm: FARM_TLS_CERTIFICATE: {missing} cannot be read: No such file or directory"
    assert ended.stderr.splitlines()[-1] == problem
    assert "started" not in ended.stderr


@pytest.mark.parametrize("command", ["up", "api"])
def test_port_in_use_should_end_it_at_once(command: str, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ended = farm(command, FARM_DATA_DIR=str(tmp_path), FARM_PORT=str(port))
    assert ended.returncode == 78, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith(f"farm: FARM_PORT: port {port} of 127.0.0.1 is in use")


def test_other_commands_should_only_warn_of_an_unknown_setting(tmp_path: Path) -> None:
    listed = farm("keys", "list", "--json", FARM_DATA_DIR=str(tmp_path), FARM_SLOT="1", FARM_API_KEYS="a:b")
    assert listed.returncode == 0
    assert listed.stderr == "farm: ignoring FARM_SLOT: unknown setting; did you mean FARM_SLOTS?\n"


def test_version_should_be_reported() -> None:
    assert farm("--version").stdout.startswith("farm 0.")


def test_up_should_say_something_before_it_imports_the_farm() -> None:
    program = (
        "import sys\n"
        "from recording_farm.farm.cli.main import main\n"
        "heavy = {'redis', 'pydantic', 'rq', 'playwright'} & sys.modules.keys()\n"
        "sys.exit(f'imported at once: {heavy}' if heavy else 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
