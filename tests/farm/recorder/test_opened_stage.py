"""A driver that is handed on goes with the stage that gets it, also when that does not come up."""

import asyncio
import tempfile
from pathlib import Path

import pytest

from recording_farm.browser_bot.errors import StageError
from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.browser_bot.stage.browser import Driver
from recording_farm.farm.recorder.opened_stage import StageNeeds, open_for
from testkit.machine.processes import below

NEEDS = StageNeeds(320, 180, 30, address_rule=AddressRule())


def drivers() -> int:
    """How many drivers of browsers run below this process."""
    return sum(Path(process.exe()).name == "node" for process in below())


@pytest.fixture(params=["gateway", "directory"])
def broken(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no gateway can listen, or no directory can be made."""

    async def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    if request.param == "gateway":
        monkeypatch.setattr(asyncio, "start_server", refuse)
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))


@pytest.mark.usefixtures("broken")
async def test_driver_should_be_closed_when_its_new_stage_fails() -> None:
    before, driver = drivers(), Driver()
    await driver.start()
    assert drivers() == before + 1
    with pytest.raises(StageError):
        await open_for(NEEDS, driver)
    assert drivers() == before
