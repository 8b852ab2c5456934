"""Cloudflare's R2, where all parts but the last have the same size: the head is padded to whole parts."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recording_farm.encoder.cut.growing_cut import CutFile
from recording_farm.encoder.formats import Codec, Format
from recording_farm.encoder.journal import Journal, Lag, write_journal
from recording_farm.encoder.mux.padding import NO_PADDING
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.progressive import following, sent_parts
from recording_farm.farm.progressive.following import Following, end_takes
from recording_farm.farm.progressive.places import Place, place_of
from recording_farm.farm.progressive.sending import Sender, finish_ahead
from recording_farm.farm.progressive.sent_parts import part_bytes_of, read_ahead
from recording_farm.farm.recording.transfers import STORE
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.spool import Spool
from recording_farm.farm.storage.backends import s3_parts
from testkit.encoder.beeps import make_take
from testkit.encoder.films import decoded_seconds
from testkit.recordings import new_recording, sealed_target
from testkit.settings import settings_with
from testkit.storage.buckets import bucket_at
from testkit.storage.servers import S3_KEY, S3_SECRET, s3_server

MIB = 1 << 20
SECONDS = {Codec.H264: 4, Codec.VP8: 10}


@pytest.fixture(scope="module")
def r2_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("r2"), "testkit.storage.r2_server") as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_parts, "_R2", "127.0.0.1")
    monkeypatch.setattr(sent_parts, "LEAST_PART_BYTES", 5 * MIB)
    monkeypatch.setattr(following, "SETTLE_US", 500_000)


@pytest.fixture
def settings(tmp_path: Path, redis_address: str, r2_endpoint: str) -> Settings:
    return settings_with(
        tmp_path / "data",
        redis_address,
        allow_private_addresses="127.0.0.0/8",
        store_url=f"s3://store?endpoint={r2_endpoint}",
        store_access_key=S3_KEY,
        store_secret=S3_SECRET,
    )


@pytest.fixture(scope="module")
def take(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Spool:
    """A spool with one take, of more than three parts."""
    spool = Spool(tmp_path_factory.mktemp("take"), Format(request.param, 320, 180))
    make_take(spool.media(0), 3.4, 3.5 + SECONDS[spool.format.codec], picture_from=3.5, noise=True)
    return spool


@pytest.fixture
def spool(take: Spool, tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", take.format)
    Outbox.of(spool).make()
    spool.media(0).hardlink_to(take.media(0))
    began_us = time.monotonic_ns() // 1000 - 60_000_000
    journal = Journal(0, 1_790_000_000, 1_790_000_003_500_000, began_us, 0, lags=(Lag(0, 0),))
    write_journal(spool.media(0).with_suffix(".json"), journal)
    return spool


@dataclass(frozen=True)
class Cut:
    """A finished file, and the places that got parts of it before."""

    file: CutFile
    places: dict[str, Place]

    def finish(self, outbox: Outbox, target: str) -> bool:
        place, file = self.places[target], self.file
        return bool(finish_ahead(outbox, target, place, file.path, file.body_bytes, file.identity))


def cut_and_sent(spool: Spool, settings: Settings, endpoint: str) -> Cut:
    """Follow the take, send two parts of it to the store and to a customer, and end it."""
    recording = new_recording(output_file_name=f"out{spool.format.take_suffix}")
    storage: dict[str, Any] = {
        "type": "s3", "bucket": "films", "access_key": S3_KEY, "secret": S3_SECRET, "endpoint": endpoint,
    }  # fmt: skip
    outbox = Outbox.of(spool)
    growing = Following(spool, recording.output_file_name, "title", lambda: False)
    sealed = sealed_target(settings, recording, storage).sealed
    places, senders, files = {}, [], []
    for target in (STORE, "s3"):
        place = place_of(recording, target, sealed, settings)
        assert place is not None
        places[target] = place
        part_bytes = part_bytes_of(recording, 0, place.rules)
        senders.append(Sender(outbox, target, place, part_bytes, growing.identity, growing.read_body))
    thread = threading.Thread(target=lambda: files.append(growing.run()))
    for each in (thread, *senders):
        each.start()
    try:
        deadline = time.monotonic() + 60
        while any((ahead := read_ahead(outbox, target)) is None or len(ahead.parts) < 2 for target in places):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        end_takes(Outbox.of(spool))
        for sender in senders:
            sender.stop()
        for each in (thread, *senders):
            each.join(60)
    return Cut(files[0], places)


@pytest.mark.parametrize(
    ("take", "room"),
    [(Codec.H264, MIB), (Codec.H264, 512), (Codec.VP8, MIB)],
    ids=["the head fits", "the head needs a part more", "WebM"],
    indirect=["take"],
)
def test_file_should_be_of_the_parts_that_were_sent_before(
    spool: Spool, settings: Settings, r2_endpoint: str, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sent_parts, "HEAD_ROOM", room)
    with bucket_at(r2_endpoint, "store") as store, bucket_at(r2_endpoint, "films") as films:
        cut = cut_and_sent(spool, settings, r2_endpoint)
        for target, bucket in ((STORE, store), ("s3", films)):
            assert cut.finish(Outbox.of(spool), target)
            (stored,) = bucket.objects.all()
            assert stored.get()["Body"].read() == cut.file.path.read_bytes()
            assert list(bucket.multipart_uploads.all()) == []
    assert decoded_seconds(cut.file.path) == pytest.approx(SECONDS[spool.format.codec], abs=0.2)
    padding = cut.file.path.stat().st_size - cut.file.body_bytes
    assert padding == (room if room == MIB else room + 5 * MIB)


@pytest.mark.parametrize("take", [Codec.H264], indirect=True)
def test_upload_that_began_when_the_head_was_made_should_be_dropped_for_the_whole_file(
    spool: Spool, settings: Settings, r2_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Following, "_padding", lambda _: NO_PADDING)
    with bucket_at(r2_endpoint, "store"), bucket_at(r2_endpoint, "films") as films:
        cut = cut_and_sent(spool, settings, r2_endpoint)
        assert len(list(films.multipart_uploads.all())) == 1
        assert not cut.finish(Outbox.of(spool), "s3")
        assert list(films.multipart_uploads.all()) == []
        assert read_ahead(Outbox.of(spool), "s3") is None
