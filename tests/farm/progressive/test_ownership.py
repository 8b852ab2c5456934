from uuid import uuid4

import pytest

from recording_farm.farm.clock import now
from recording_farm.farm.db.clients import connect
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.progressive.ownership import Ownership
from recording_farm.farm.recording.model import TimelineEntry
from testkit.farm import Farm
from testkit.network.ports import free_port


class Clock:
    """Seconds of CLOCK_MONOTONIC, as a test wants them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1000.0
        monkeypatch.setattr("recording_farm.farm.progressive.ownership.time.monotonic", lambda: self.seconds)


def test_node_should_own_what_it_has_claimed_until_another_one_does(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    recording = farm.records.claim(farm.add(), "one")
    one, two = Ownership(farm.redis, "one"), Ownership(farm.redis, "two")
    assert (one.is_mine(recording.id), one.is_lost(recording.id)) == (True, False)
    assert (two.is_mine(recording.id), two.is_lost(recording.id)) == (False, True)
    Nodes(farm.redis).beat("one", 1)
    assert Nodes(farm.redis).mark_gone("one", Nodes(farm.redis).beats()["one"])
    farm.records.claim(recording, "two", TimelineEntry(event="fault", fault="gone", node="one", time=now()))
    clock.seconds += 3
    assert (one.is_mine(recording.id), one.is_lost(recording.id)) == (False, True)
    assert (two.is_mine(recording.id), two.is_lost(recording.id)) == (True, False)


def test_answer_should_be_good_for_seconds_while_redis_is_away(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    recording = farm.records.claim(farm.add(), "one")
    node = Ownership(farm.redis, "one")
    assert node.is_mine(recording.id)
    with connect(f"redis://127.0.0.1:{free_port()}/0", retries=0) as nobody:
        monkeypatch.setattr(node, "_records", Ownership(nobody, "one")._records)
        clock.seconds += 7
        assert node.is_mine(recording.id)
        clock.seconds += 1
        assert not node.is_mine(recording.id)
        # Nobody has said that it is another's.
        assert not node.is_lost(recording.id)


def test_recording_that_was_deleted_should_be_nobodys(farm: Farm) -> None:
    node = Ownership(farm.redis, "one")
    assert (node.is_mine(uuid4()), node.is_lost(uuid4())) == (False, True)
