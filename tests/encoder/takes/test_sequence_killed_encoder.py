"""What is left of a take of a real page when ffmpeg is killed, or its journal cannot be written."""

import asyncio
from pathlib import Path

import pytest

from recording_farm.browser_bot.page.bot import Bot
from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.browser_bot.stage.stage import open_stage
from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.takes import sequence as takes_module
from recording_farm.encoder.takes.command import Source
from recording_farm.encoder.takes.sequence import TakeSequence
from recording_farm.farm.spool.spool import Spool
from testkit.machine.processes import below
from testkit.pages import FIDELITY_PAGE

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")


async def test_take_whose_journal_cannot_be_written_should_be_recorded_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine it may begin out of phase. To be tried again its files would be removed, and what
    # keeps the journal from being written cannot be.
    monkeypatch.setattr(takes_module, "PHASE_TRIES", 1)
    fmt = Format(Codec.H264, 640, 360)
    async with open_stage(640, 360, 30) as stage:
        await Bot(stage.browser, PageContract.AUTO).join(f"file://{FIDELITY_PAGE}", seconds=30, tries=1)
        source = Source(stage.display.name, stage.display.authority, stage.audio.server, stage.audio.source)
        # A directory that is not empty lies where the journal would be written.
        (tmp_path / "take-000.json" / "full").mkdir(parents=True)
        takes = TakeSequence(source, tmp_path, fmt)
        await takes.begin()
        await asyncio.sleep(1)
        takes.shown_after(0, 2)
        await takes.close()
        assert Spool(tmp_path, fmt).cut(tmp_path / "out.mp4").duration_us >= 900_000


@pytest.mark.parametrize("codec", list(Codec))
async def test_killed_encoder_should_leave_all_but_the_very_end(codec: Codec, tmp_path: Path) -> None:
    # WebM is written from key frame to key frame, MP4 each quarter of a second.
    lost = 0.75 if codec is Codec.H264 else 2.1
    fmt = Format(codec, 640, 360)
    async with open_stage(640, 360, 30) as stage:
        await Bot(stage.browser, PageContract.AUTO).join(f"file://{FIDELITY_PAGE}", seconds=30, tries=1)
        source = Source(stage.display.name, stage.display.authority, stage.audio.server, stage.audio.source)
        # The picture hardly moves, so the file grows slowly: nothing may wait for a buffer to fill.
        for seconds, left in ((1.0, 0.25), (4.5, 4.5 - lost)):
            directory = tmp_path / str(seconds)
            directory.mkdir()
            takes = TakeSequence(source, directory, fmt)
            await takes.begin()
            await asyncio.sleep(seconds)
            (encoder,) = below(name="ffmpeg")
            encoder.kill()
            await takes.died()
            await takes.close()
            file = Spool(directory, fmt).cut(directory / f"out{codec.suffix}")
            assert file.duration_us / 1e6 >= left
