"""Files that are made of a film, sent in parts to a store on another disk while they grew."""

from pathlib import Path
from random import randbytes

import pytest

from recording_farm.encoder.cut.growing_audio import GrownFile
from recording_farm.encoder.formats import AudioCodec, AudioExport
from recording_farm.encoder.mux.checksums import Block, BodyChecksums
from recording_farm.farm.jobs.transfer_attempt import run_transfer
from recording_farm.farm.progressive.exports import save_grown
from recording_farm.farm.progressive.places import Place, place_of
from recording_farm.farm.progressive.sending import Sender, drop_leftovers
from recording_farm.farm.progressive.sent_parts import LEAST_PART_BYTES, export_key, exports_ahead
from recording_farm.farm.recording.model import FileKind, Recording
from recording_farm.farm.recording.transfers import STORE, TransferState, transfer_to
from recording_farm.farm.spool.finished_file import describe
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.storage.store import open_store
from testkit.farm import Farm
from testkit.recordings import new_recording
from testkit.storage.growing_body import BODY, IDENTITY, Growing, stop, wait_for_parts

BYTE = 12_000_000
"""In the first part that is sent, and in nothing that is sent at the end."""


@pytest.fixture
def apart(farm: Farm, tmp_path: Path) -> Farm:
    """A farm whose store is in no data directory."""
    (tmp_path / "store").mkdir()
    return farm.with_settings(store_url=f"file://{tmp_path}/store")


@pytest.fixture
def recording(apart: Farm, tmp_path: Path) -> Recording:
    """One that has ended, without its audio file."""
    film = tmp_path / "film.mp4"
    film.write_bytes(randbytes(1000))
    return apart.ended(new_recording(audio_file=AudioExport(AudioCodec.MP3)), film)


@pytest.fixture
def outbox(apart: Farm, recording: Recording) -> Outbox:
    return Outbox.of(spool_of(recording, apart.settings))


@pytest.fixture
def name(recording: Recording) -> str:
    return Path(recording.output_file_name).with_suffix(".mp3").name


@pytest.fixture
def body(apart: Farm, recording: Recording, outbox: Outbox, name: str) -> Growing:
    """A body of which the store has parts."""
    body = Growing(BODY)
    key = export_key(STORE, name)
    sender = Sender(outbox, key, place(apart, recording, name), LEAST_PART_BYTES, IDENTITY, body.read)
    sender.start()
    wait_for_parts(outbox, 2, target=key)
    stop(sender)
    assert exports_ahead(outbox) == [(STORE, name)]
    return body


def place(farm: Farm, recording: Recording, name: str) -> Place:
    found = place_of(recording, STORE, None, farm.settings, name=name)
    assert found is not None
    return found


def finish(farm: Farm, recording: Recording, outbox: Outbox, body: Growing, name: str) -> bytes:
    """Make the audio file, whose body is not that which was sent any more; returns what was to be sent."""
    file = body.finish(outbox, name)
    content = file.read_bytes()
    described = describe(file, FileKind.AUDIO)
    file.write_bytes(content[:BYTE] + bytes([content[BYTE] ^ 1]) + content[BYTE + 1 :])
    video, manifest = recording.files
    farm.records.update(recording.id, files=[video, described, manifest])
    return content


def test_transfer_should_finish_what_was_sent_of_an_audio_file(
    apart: Farm, recording: Recording, outbox: Outbox, body: Growing, name: str
) -> None:
    content = finish(apart, recording, outbox, body, name)
    blocks = (Block(len(body.content), ""),)
    save_grown(outbox, GrownFile(outbox.directory / name, BodyChecksums(0, blocks), IDENTITY))
    run_transfer(recording.id, STORE, apart.settings, apart.redis)
    check_stored(apart, recording, name, content)


def test_audio_that_was_made_again_should_be_sent_as_a_whole(
    apart: Farm, recording: Recording, outbox: Outbox, body: Growing, name: str
) -> None:
    finish(apart, recording, outbox, body, name)
    run_transfer(recording.id, STORE, apart.settings, apart.redis)
    check_stored(apart, recording, name, outbox.directory.joinpath(name).read_bytes())


def check_stored(farm: Farm, recording: Recording, name: str, content: bytes) -> None:
    transfer = transfer_to(farm.records.get(None, recording.id).transfers, STORE)
    assert transfer is not None
    assert transfer.state is TransferState.DONE, transfer.error
    directory = farm.settings.store_location.directory
    assert directory is not None
    stored = directory / str(recording.id)
    assert (stored / name).read_bytes() == content
    assert {file.name for file in stored.iterdir()} == {
        recording.output_file_name,
        name,
        Path(name).with_suffix(".json").name,
    }
    assert exports_ahead(Outbox.of(spool_of(recording, farm.settings))) == []


def test_parts_of_a_file_that_will_not_be_made_should_be_dropped(
    apart: Farm, recording: Recording, outbox: Outbox, body: Growing, name: str
) -> None:
    assert body.content
    store = open_store(apart.settings)
    assert [upload.name for upload in store.unfinished_parts(recording.id)] == [name]
    drop_leftovers(recording, {}, outbox, apart.settings)
    assert not list(store.unfinished_parts(recording.id))
    assert exports_ahead(outbox) == []
