"""The embedded Redis, used without FARM_REDIS_URL: a child process on a Unix socket in the data directory."""

import fcntl
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import redis

from recording_farm.browser_bot.stage.programs import child_environment
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.errors import RedisUnavailableError, SettingsError
from recording_farm.farm.host.programs import required_program

_START_SECONDS: Final = 60.0
"""Time for Redis to load its append-only file."""

_STOP_SECONDS: Final = 5.0
_LOCK_SECONDS: Final = 6.0
"""How long a farm waits for the previous farm's Redis to exit; slightly longer than `_STOP_SECONDS`."""

_POLL_SECONDS: Final = 0.02


class EmbeddedRedis:
    """A running Redis: its address, and its process for supervision."""

    def __init__(self, address: str, start: Callable[[], "subprocess.Popen[bytes]"]) -> None:
        """`start` starts the process."""
        self.address = address
        self._start = start
        self.process = start()

    def start_again(self) -> None:
        """Restart Redis after its process has died; call it in the thread that entered the block.

        Does not wait until it is ready: clients retry.
        """
        self.process = self._start()


@contextmanager
def embedded_redis(settings: Settings) -> Iterator[EmbeddedRedis]:
    """Run a Redis in `settings.data_dir` until the block ends; its data is persistent.

    Enter it in the main thread: the kernel ends the child when the thread that started it ends.
    Raises ProgramMissingError, SettingsError when the data directory is in use, RedisUnavailableError when
    Redis does not start.
    """
    required_program("redis-server", "redis-server")
    directory = settings.data_dir / "redis"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock(directory / "lock") as lock:
        _make_private(settings.redis_socket.parent)
        log = directory / "redis.log"
        log.write_bytes(b"")
        server = EmbeddedRedis(
            settings.embedded_redis_address, partial(_start, settings.redis_socket, directory, log, lock)
        )
        try:
            _wait_until_ready(server.address, server.process, log)
            yield server
        finally:
            _stop(server.process)
            if settings.redis_socket.parent != directory:
                with suppress(OSError):  # not empty: somebody has put something there
                    settings.redis_socket.parent.rmdir()


def answers(settings: Settings) -> bool:
    """Whether the embedded Redis answers. A socket in /tmp that another user owns does not count."""
    directory = settings.redis_socket.parent
    try:
        if directory.parent == Path("/tmp") and directory.lstat().st_uid != os.geteuid():  # noqa: S108
            return False
        with connect(settings.embedded_redis_address, retries=0) as client:
            return bool(client.ping())
    except (OSError, redis.RedisError):
        return False


def _make_private(directory: Path) -> None:
    """Create the socket's directory, or check that this user owns it: in /tmp anybody can create it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise SettingsError(f"FARM_DATA_DIR: {directory}, for the socket of Redis, belongs to another user")
    directory.chmod(0o700)


@contextmanager
def _lock(path: Path) -> Iterator[int]:
    """Lock the data directory; yields the lock's file descriptor for the child to inherit.

    The child holds the lock too: after a crash of its parent, no second Redis can start beside it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SettingsError(
                        f"FARM_DATA_DIR: another farm is running in {path.parent.parent}; stop it, or give "
                        "this one another directory, or give both one FARM_REDIS_URL"
                    ) from None
                time.sleep(_POLL_SECONDS)
        yield descriptor
    finally:
        os.close(descriptor)


def _start(socket: Path, directory: Path, log: Path, lock: int) -> subprocess.Popen[bytes]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
    }
    command = ["setpriv", "--pdeathsig", "TERM", "--", "redis-server"]
    for name, value in options.items():
        command += [f"--{name}", value]
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            env=child_environment(),
            # Its own process group: Ctrl-C must reach only the farm, which still writes states as it stops.
            process_group=0,
        )


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with connect(address, retries=0) as client:
        while True:
            try:
                client.ping()
                return
            except redis.RedisError:
                pass
            if process.poll() is not None:
                raise RedisUnavailableError(f"redis-server did not start: {_last_lines(log)}")
            if time.monotonic() > deadline:
                raise RedisUnavailableError(f"redis-server does not answer; see {log}")
            time.sleep(_POLL_SECONDS)


def _last_lines(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:]) or "it logged nothing"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
