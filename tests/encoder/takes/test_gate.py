"""Gates before a reader that opens them as ffmpeg does."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from recording_farm.encoder.takes.gate import Gate


async def test_reader_should_wait_until_the_gate_is_opened(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    reader = await asyncio.create_subprocess_exec("cat", tmp_path / "gate")
    try:
        await asyncio.wait_for(gate.reached(), 5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(reader.wait())), 0.2)
        gate.open()
        assert await asyncio.wait_for(reader.wait(), 5) == 0
    finally:
        if reader.returncode is None:
            reader.kill()
            await reader.wait()
        gate.remove()
    assert os.listdir(tmp_path) == []


async def test_gate_should_not_be_opened_before_it_is_reached(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    with pytest.raises(RuntimeError, match="before ffmpeg had reached it"):
        gate.open()
    gate.remove()
    gate.remove()
    assert os.listdir(tmp_path) == []


def test_program_should_be_able_to_end_although_nobody_reached_its_gate(tmp_path: Path) -> None:
    async def forget() -> None:
        waiting = asyncio.ensure_future(Gate(tmp_path / "gate").reached())
        await asyncio.sleep(0.1)
        waiting.cancel()

    # It waits for the threads of its executor, for as long as it takes.
    asyncio.run(forget())
    assert stat.S_ISFIFO((tmp_path / "gate").stat().st_mode)
