import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from recording_farm.farm.db import embedded as module
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.embedded import embedded_redis
from recording_farm.farm.errors import ProgramMissingError, RedisUnavailableError, SettingsError
from testkit.settings import settings_with


def test_redis_should_keep_what_it_held_and_end_with_the_block(tmp_path: Path) -> None:
    settings = settings_with(tmp_path / "with a space", None)
    with embedded_redis(settings) as server:
        assert server.address == settings.redis_address
        with connect(server.address) as client:
            client.set("a", "b")
            mode = stat.S_IMODE(settings.redis_socket.stat().st_mode)
    assert mode == 0o700
    assert server.process.poll() == 0
    with embedded_redis(settings) as server, connect(server.address) as client:
        assert client.get("a") == b"b"


def test_second_farm_in_the_same_directory_should_be_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.2)
    settings = settings_with(tmp_path, None)
    with embedded_redis(settings) as server, connect(server.address) as client:
        with pytest.raises(SettingsError, match="another farm is running"), embedded_redis(settings):
            pass
        assert client.ping()


def test_missing_program_should_be_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(ProgramMissingError, match="apt-get install redis-server"),
        embedded_redis(settings_with(tmp_path, None)),
    ):
        pass


def test_long_data_directory_should_get_a_short_socket(tmp_path: Path) -> None:
    settings = settings_with(tmp_path / ("x" * 100), None)
    with embedded_redis(settings) as server, connect(server.address) as client:
        assert client.ping()
        assert stat.S_IMODE(settings.redis_socket.parent.stat().st_mode) == 0o700
    assert (settings.data_dir / "redis").is_dir()
    assert not settings.redis_socket.parent.exists()


def test_socket_directory_of_somebody_else_should_be_refused(tmp_path: Path) -> None:
    settings = settings_with(tmp_path / ("y" * 100), None)
    directory = settings.redis_socket.parent
    directory.symlink_to(tmp_path)
    try:
        with pytest.raises(SettingsError, match="belongs to another user"), embedded_redis(settings):
            pass
    finally:
        directory.unlink()


def test_redis_that_cannot_start_should_say_why(tmp_path: Path) -> None:
    (tmp_path / "redis" / "appendonlydir").mkdir(parents=True)
    (tmp_path / "redis" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with (
        pytest.raises(RedisUnavailableError, match="manifest"),
        embedded_redis(settings_with(tmp_path, None)),
    ):
        pass


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_redis_should_end_when_its_farm_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    program = (
        "import sys, time\n"
        "from recording_farm.farm.db.embedded import embedded_redis\n"
        "from recording_farm.farm.config.settings import load_settings\n"
        "with embedded_redis(load_settings()) as server:\n"
        "    print(server.process.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    environment = {**os.environ, "FARM_DATA_DIR": str(tmp_path)}
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment, cwd=root
    ) as farm:
        assert farm.stdout is not None
        child = psutil.Process(int(farm.stdout.readline()))
        farm.send_signal(number)
        farm.wait(10)
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    # The next farm starts at once in the same directory.
    with embedded_redis(settings_with(tmp_path, None)) as server, connect(server.address) as client:
        assert client.ping()
