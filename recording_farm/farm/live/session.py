"""The live session of a running recording: its live outputs, and replies to live requests.

Nothing here can end or block a recording; errors are logged.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import redis
import redis.asyncio

from recording_farm.encoder.formats import Codec
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.live.hls import HlsSpec
from recording_farm.farm.live.output_records import RecordedOutputs
from recording_farm.farm.live.outputs import LiveOutputs, OutputDependencies, Takes
from recording_farm.farm.live.requests import answer_requests, save_preview
from recording_farm.farm.live.view import (
    OUTPUTS,
    PREVIEW_NAME,
    PREVIEW_SECONDS,
    PREVIEW_WINDOW,
    LiveView,
    Shown,
)
from recording_farm.farm.recording.model import Recording
from recording_farm.farm.recording.records import Records
from recording_farm.farm.recording.targets import open_target
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.storage.host_keys import HostKeys
from recording_farm.farm.storage.targets import SftpTarget, with_secrets

logger = logging.getLogger(__name__)

HLS_SECONDS: Final = 4


@asynccontextmanager
async def live_session(
    recording: Recording,
    settings: Settings,
    client: redis.Redis,
    waiting_client: redis.asyncio.Redis,
    shown: Shown,
) -> AsyncIterator[Callable[[], None]]:
    """Run a recording's live outputs and preview while the block runs; then wait for the outputs to end.

    Yields a function to call when the last take is closed. `shown` returns the current display.
    """
    takes = takes_of(recording, settings)
    sealer = Sealer(load_secret_key(settings))
    directory = settings.live_dir / str(recording.id)
    book = RecordedOutputs(recording, Records(client), sealer)
    dependencies = OutputDependencies(
        takes, book, settings.address_rule, partial(hls_spec, recording, settings, client)
    )
    outputs = LiveOutputs(dependencies, directory / "outputs")
    is_followed = recording.codec is Codec.H264
    keep = partial(save_preview, waiting_client, recording.id)
    view = LiveView(shown, directory / "preview", partial(preview_spec, takes) if is_followed else None, keep)

    async def answer(what: str) -> bytes:
        if what == OUTPUTS:
            outputs.reload()
            return b""
        return await view.answer(what)

    def end() -> None:
        outputs.end()
        view.end()

    answering = asyncio.create_task(answer_requests(waiting_client, recording.id, answer))
    viewing = asyncio.create_task(view.run())
    following = asyncio.create_task(outputs.run())
    try:
        yield end
    finally:
        end()
        await asyncio.wait((viewing,))
        answering.cancel()
        for problem in await asyncio.gather(viewing, answering, following, return_exceptions=True):
            if isinstance(problem, Exception):
                logger.error("recording %s: its live session failed", recording.id, exc_info=problem)


def takes_of(recording: Recording, settings: Settings) -> Takes:
    """The takes of a recording, for programs that follow them."""
    spool = spool_of(recording, settings)
    return Takes(spool.directory, spool.format.fps, audio_only=spool.format.audio_only is not None)


def preview_spec(takes: Takes, directory: Path) -> HlsSpec:
    """The HLS preview: the newest seconds, in short segments."""
    return HlsSpec(
        spool=str(takes.directory),
        fps=takes.fps,
        audio_only=takes.audio_only,
        directory=str(directory),
        name=PREVIEW_NAME,
        seconds=PREVIEW_SECONDS,
        window=PREVIEW_WINDOW,
    )


def hls_spec(recording: Recording, settings: Settings, client: redis.Redis, directory: Path) -> HlsSpec:
    """The HLS output: all of the recording, uploaded to its targets."""
    takes = takes_of(recording, settings)
    target, host_key = None, None
    name = next((each.target for each in recording.transfers if each.target != STORE), None)
    sealed = Records(client).sealed_target(recording.id, name) if name is not None else None
    if name is not None and sealed is not None:
        opened = open_target(Sealer(load_secret_key(settings)), recording.id, name, sealed)
        target = with_secrets(opened)
        if isinstance(opened, SftpTarget):
            host_key = HostKeys(client).known(recording.organization_id, opened)
    texts = spool_of(recording, settings).texts if recording.timed_texts else None
    return HlsSpec(
        spool=str(takes.directory),
        fps=takes.fps,
        audio_only=takes.audio_only,
        directory=str(directory),
        name=Path(recording.output_file_name).stem,
        seconds=HLS_SECONDS,
        texts=str(texts) if texts is not None else None,
        recording=recording.model_dump(mode="json"),
        transfer=name,
        target=target,
        host_key=host_key,
    )
