import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from recording_farm.farm.cli.quotas import quotas
from recording_farm.farm.recording.quotas import Quota, Quotas
from testkit.settings import settings_with

Run = Callable[..., Result]


@pytest.fixture
def run(redis_client: redis.Redis, redis_address: str, tmp_path: Path) -> Run:  # noqa: ARG001
    """Runs `farm quotas` with arguments, on an empty Redis."""
    environment = {"FARM_DATA_DIR": str(tmp_path), "FARM_REDIS_URL": redis_address, "FARM_QUOTA_QUEUED": "7"}
    return lambda *arguments: CliRunner(env=environment).invoke(quotas, arguments)


def test_quota_should_be_set_value_by_value_and_reset(
    run: Run, redis_client: redis.Redis, redis_address: str, tmp_path: Path
) -> None:
    kept = Quotas(redis_client, settings_with(tmp_path, redis_address, quota_queued=7))
    assert run("set", "umbra", "--running", "3", "--high").exit_code == 0
    assert kept.of("umbra") == Quota(queued=7, running=3, weight=1, high_priority=True)
    shown = run("set", "umbra", "--weight", "2", "--no-high")
    assert shown.stdout.splitlines() == [
        "ORGANIZATION    QUEUED   RUNNING  WEIGHT  HIGH",
        "umbra                7         3       2  no",
    ]
    assert json.loads(run("list", "--json").stdout) == [
        {"organization": "umbra", "queued": 7, "running": 3, "weight": 2, "high_priority": False}
    ]
    assert run("reset", "umbra").exit_code == 0
    assert kept.of("umbra") == Quota(queued=7, running=0, weight=1, high_priority=False)
    assert run("list").stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [("set", "umbra"), ("set", "a:b", "--weight", "2"), ("set", "umbra", "--weight", "0"), ("reset", "a b")],
)
def test_quota_that_cannot_be_should_be_refused(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2
