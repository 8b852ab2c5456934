"""What tests of all rooms share: a real Redis, empty for each test, and settings that point at it."""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.embedded import embedded_redis
from recording_farm.farm.recording.records import Records
from recording_farm.farm.webhooks.signature import load_signing_key
from testkit.farm import Farm
from testkit.machine.processes import wait_until_none
from testkit.settings import settings_with

BROWSERS_FIRST = (
    *("end_to_end", "browser_bot", "api/portal/test_page", "layouts", "api/meeting/test_page"),
    *("farm/host", "farm/cli", "farm/recorder", "farm/live", "farm/storage"),
)
"""Files whose tests take seconds each begin first, so that at the end no worker is left alone with one."""

pytest_plugins = ["testkit.running_farm", "testkit.storage.servers"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by `BROWSERS_FIRST`, and leave the others as they are."""

    def place(item: pytest.Item) -> int:
        file = item.nodeid.removeprefix("tests/")
        return next(
            (i for i, name in enumerate(BROWSERS_FIRST) if file.startswith(name)), len(BROWSERS_FIRST)
        )

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Spare the garbage collector all that was imported, or it walks through that again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("FARM_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session", autouse=True)
def _stages_of_their_own() -> Iterator[None]:
    """Stages in a directory of this run's own, so that it sees and sweeps no other farm's on this machine."""
    # Not below pytest's directory: the sockets in it may have no more than 107 bytes of path.
    directory = tempfile.TemporaryDirectory(prefix="farm-test-", dir="/tmp")
    with directory as path, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", path)
        patch.setattr(tempfile, "tempdir", path)
        yield


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis of the tests' own."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("redis"), redis_url=None)
    with embedded_redis(settings) as server:
        yield server.address


@pytest.fixture
def redis_client(redis_address: str) -> Iterator[redis.Redis]:
    """A client of that Redis, which is empty."""
    with connect(redis_address) as client:
        client.flushall()
        yield client


@pytest.fixture
def records(redis_client: redis.Redis) -> Records:
    """Records in an empty Redis."""
    return Records(redis_client)


@pytest.fixture(scope="session")
def webhook_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key that signs webhooks; to make one takes longer than most tests."""
    directory = tmp_path_factory.mktemp("key")
    load_signing_key(settings_with(directory, None))
    (file,) = directory.iterdir()
    return file


@pytest.fixture
def settings(
    redis_address: str,
    redis_client: redis.Redis,  # noqa: ARG001
    webhook_key: Path,
    tmp_path: Path,
) -> Settings:
    """Settings with an empty data directory, an empty Redis and two organizations, `acme` and `other`."""
    return settings_with(tmp_path / "data", redis_address, webhook_key=webhook_key)


@pytest.fixture
def farm(settings: Settings, redis_client: redis.Redis, records: Records) -> Farm:
    """A farm with those settings, of which nothing runs but that Redis."""
    return Farm(settings, redis_client, records)


@pytest.fixture
def nothing_is_left_behind() -> Iterator[None]:
    """At the end no program of a stage runs that the test has opened."""
    yield
    assert wait_until_none() == []
