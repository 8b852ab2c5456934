"""A warm stage is closed, whatever becomes of the recording that it waited for."""

import asyncio
from contextlib import AsyncExitStack
from typing import cast

import pytest

from recording_farm.browser_bot.stage.stage import Stage
from recording_farm.farm.recorder import warm_stage
from recording_farm.farm.recorder.opened_stage import OpenedStage, StageNeeds
from recording_farm.farm.recorder.warm_stage import close_ready_stage, ready_stage


@pytest.fixture
def closings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets an entry each time the stage that this process has ready is closed."""
    closings: list[str] = []

    async def close() -> None:
        await asyncio.sleep(0)
        closings.append("closed")

    parts = AsyncExitStack()
    parts.push_async_callback(close)
    stage = OpenedStage(StageNeeds(320, 180, 30), cast(Stage, None), parts)
    monkeypatch.setattr(warm_stage, "_ready", (asyncio.Runner(), stage))
    return closings


def test_stage_that_no_job_used_should_be_closed_once(closings: list[str]) -> None:
    close_ready_stage()
    close_ready_stage()
    assert closings == ["closed"]


def test_stage_of_a_recording_that_fails_before_it_uses_it_should_be_closed(closings: list[str]) -> None:
    with pytest.raises(ValueError, match="no plan"), ready_stage():
        raise ValueError("no plan")
    assert closings == ["closed"]


def test_stage_that_its_recording_has_closed_should_not_be_closed_again(closings: list[str]) -> None:
    with ready_stage() as (runner, stage):
        assert stage is not None
        runner.run(stage.close())
    assert closings == ["closed"]
