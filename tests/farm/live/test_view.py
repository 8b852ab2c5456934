"""The preview of a recording, made by its real program."""

import asyncio
from pathlib import Path

from recording_farm.encoder.live.hls import segments_in
from recording_farm.farm.live.outputs import Takes
from recording_farm.farm.live.session import preview_spec
from recording_farm.farm.live.view import PREVIEW, LiveView
from testkit.encoder.takes import start_take


async def test_preview_should_be_kept_with_its_end_when_the_recording_is_over(tmp_path: Path) -> None:
    spool, kept = tmp_path / "spool", dict[str, bytes]()
    spool.mkdir()

    async def keep(files: dict[str, bytes]) -> None:
        kept.update(files)

    takes = Takes(spool, 30, audio_only=False)
    view = LiveView(
        lambda: None, tmp_path / "preview", lambda directory: preview_spec(takes, directory), keep
    )
    take = start_take(spool, seconds=300)
    running = asyncio.create_task(view.run())
    try:
        async with asyncio.timeout(60):
            first = await view.answer(f"{PREVIEW}index.m3u8")
    finally:
        take.terminate()
        take.wait()
        view.end()
        await asyncio.wait_for(running, 30)
    assert b"#EXT-X-ENDLIST" not in first
    playlist = kept["index.m3u8"].decode()
    assert playlist.rstrip().endswith("#EXT-X-ENDLIST")
    assert set(segments_in(playlist)) == kept.keys() - {"index.m3u8"}
    assert all(kept[name] for name in segments_in(playlist))
    assert not (tmp_path / "preview").exists()
