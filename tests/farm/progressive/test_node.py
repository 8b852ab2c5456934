import threading
import time
from pathlib import Path

from recording_farm.encoder.journal import Journal, write_journal
from recording_farm.farm.clock import now
from recording_farm.farm.progressive.following import cut_directory
from recording_farm.farm.progressive.node import _Follower, _Node
from recording_farm.farm.progressive.ownership import Ownership
from recording_farm.farm.progressive.replica_format import PieceName
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import Status, TimelineEntry
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.record_copy import save_record
from recording_farm.farm.spool.spool import Spool
from recording_farm.farm.storage.host_keys import HostKeys
from recording_farm.farm.storage.store import open_store
from testkit.encoder.beeps import make_take
from testkit.farm import Farm
from testkit.settings import settings_with
from testkit.waiting import wait_until


def test_recording_should_be_followed_as_soon_as_its_first_take_begins(farm: Farm, tmp_path: Path) -> None:
    recording = farm.add(status=Status.RECORDING, node=farm.settings.node)
    spool = Spool(farm.settings.spool_dir / str(recording.id), format_of(recording))
    spool.make()
    stopping = threading.Event()
    node = _Node(
        farm.settings, stopping, Ownership(farm.redis, farm.settings.node), farm.records, HostKeys(farm.redis)
    )
    follower = _Follower(spool.directory, node)
    try:
        follower.run_if_due()
        follower.join()
        save_record(spool, recording, {})
        for _ in range(3):
            follower.run_if_due()
            follower.join()
        assert follower.part_bytes is None
        spool.media(0).write_bytes(make_take(tmp_path / "take.mp4", 3.5, 5.5, picture_from=3.5).read_bytes())
        follower.run_if_due()
        wait_until(cut_directory(Outbox.of(spool)).exists, what="the take is followed")
        # A store in the data directory gets no parts.
        assert follower.part_bytes == {}
    finally:
        stopping.set()
        follower.join()


def test_node_should_continue_without_a_replica_that_cannot_be_read(farm: Farm, tmp_path: Path) -> None:
    settings = settings_with(
        tmp_path / "data", farm.settings.redis_address, store_url=f"file://{tmp_path}/store"
    )
    recording = farm.add(status=Status.RECORDING, node=settings.node)
    farm.records.note(recording.id, TimelineEntry(event="take_began", take=0, time=now()))
    farm.records.note(recording.id, TimelineEntry(event="fault", fault="gone", node="node-2", time=now()))
    store = open_store(settings)
    damaged = str(PieceName(1, "00000000", 1, is_complete=True))
    store.put_bytes(recording.id, damaged, b"damaged")
    spool = Spool(settings.spool_dir / str(recording.id), format_of(recording))
    spool.make()
    save_record(spool, farm.records.get(None, recording.id), {})
    take = spool.media(1)
    take.write_bytes(make_take(tmp_path / "take.mp4", 3.5, 5.5, picture_from=3.5).read_bytes())
    write_journal(
        take.with_suffix(".json"), Journal(1, time.time_ns() // 10**9, time.time_ns() // 1000, 0, 0)
    )
    stopping = threading.Event()
    node = _Node(settings, stopping, Ownership(farm.redis, settings.node), farm.records, HostKeys(farm.redis))
    follower = _Follower(spool.directory, node)
    try:
        for _ in range(2):
            follower._run()
            # An object may just have been replaced: it is tried again.
            assert not cut_directory(Outbox.of(spool)).exists()
        follower.run_if_due()
        wait_until(
            lambda: any(
                entry.event == "missing" and "its replica cannot be read" in (entry.message or "")
                for entry in farm.records.get(None, recording.id).timeline
            ),
            what="the timeline says so",
        )
        wait_until(lambda: len(list(store.list_names(recording.id))) > 1, what="the node has its own replica")
        assert damaged in store.list_names(recording.id)
    finally:
        stopping.set()
        follower.join()
