import threading
from pathlib import Path

from recording_farm.farm.progressive.following import cut_directory
from recording_farm.farm.progressive.node import _Follower, _Node
from recording_farm.farm.progressive.ownership import Ownership
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import Status
from recording_farm.farm.spool.outbox import Outbox
from recording_farm.farm.spool.record_copy import save_record
from recording_farm.farm.spool.spool import Spool
from recording_farm.farm.storage.host_keys import HostKeys
from testkit.encoder.beeps import make_take
from testkit.farm import Farm
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
