"""`farm up` and its embedded Redis; the rest of it the end-to-end tests show."""

import time
from pathlib import Path

import pytest

from testkit.machine.processes import below
from testkit.running_farm import running_farm, wait_until_healthy


@pytest.mark.long
def test_redis_that_dies_should_be_started_again_with_what_it_held(tmp_path: Path) -> None:
    with running_farm(tmp_path / "data") as farm:
        config = {"max_seconds": 60}
        assert farm.client.put("/v2/recording_config", json=config).status_code == 200
        time.sleep(1.5)  # Redis writes to its disk each second
        (server,) = below(farm.process.pid, name="redis-server")
        server.kill()
        server.wait(5)
        wait_until_healthy(farm)
        assert farm.client.get("/v2/recording_config").json()["data"] == config
    assert farm.process.returncode == 0
