"""Which nodes accept recordings, and what a client is told about a recording that waits."""

import pytest

from recording_farm.farm.clock import now
from recording_farm.farm.nodes.availability import (
    LivingNode,
    NodeState,
    Wait,
    WaitReason,
    living,
    why_waiting,
)
from recording_farm.farm.nodes.registry import Beat, Condition, Gone, Node, NoRoom

DISK = NoRoom(reason="disk", message="299 MiB of disk free, 2048 MiB required (FARM_DISK_RESERVE)")
LOAD = NoRoom(reason="load", message="processors 99% busy, the limit is 90% (FARM_MAX_LOAD)")


def node(
    slots: int, no_room: NoRoom | None = None, state: NodeState | None = None, used: int = 0
) -> LivingNode:
    state = state or (NodeState.NO_ROOM if no_room else NodeState.ALIVE)
    return LivingNode("n", slots, state, no_room, used)


DRAINED = node(2, state=NodeState.DRAINED)


@pytest.mark.parametrize(
    ("nodes", "position", "reason", "message"),
    [
        ([], 1, "no_node", "No node is running."),
        ([node(2)], 2, "starting", "A slot is free; the recording starts shortly."),
        ([node(2)], 3, "slots", "All 2 slots are in use."),
        ([node(1, used=1)], 1, "slots", "The only slot is in use."),
        (
            [node(2, used=2), node(2, used=1), node(4, DISK), DRAINED],
            2,
            "slots",
            "All 4 slots are in use; other nodes: 1 short of disk space, 1 drained.",
        ),
        ([node(2, DISK)], 1, "disk", "No node accepts recordings: 1 short of disk space."),
        (
            [DRAINED, DRAINED, node(2, LOAD)],
            1,
            "load",
            "No node accepts recordings: 2 drained, 1 too busy.",
        ),
        ([DRAINED, DRAINED], 1, "drained", "No node accepts recordings: 2 drained."),
        (
            [node(2, state=NodeState.DRAINING)],
            1,
            "drained",
            "No node accepts recordings: 1 shutting down.",
        ),
        # Of a newer version.
        (
            [node(2, NoRoom(reason="heat", message=""))],
            1,
            "no_room",
            "No node accepts recordings: 1 without room.",
        ),
    ],
)
def test_recording_that_waits_should_say_why(
    nodes: list[LivingNode], position: int, reason: str, message: str
) -> None:
    assert why_waiting(position, nodes) == Wait(WaitReason(reason), message)


def test_message_to_clients_should_not_have_the_numbers_of_a_machine() -> None:
    assert "MiB" not in why_waiting(1, [node(2, DISK)]).message


def test_state_should_follow_from_beat_and_drain() -> None:
    condition = Condition(recordings=1, warm_stages=0, load=0, disk_free=0, disk_size=1, memory_free=0)
    beat = Beat(time=now(), slots=2, condition=condition)
    ends = beat.model_copy(update={"draining": True})
    full = beat.model_copy(update={"no_room": DISK})
    nodes = [
        Node("alive", beat, None, drained=False),
        Node("drained", full, None, drained=True),
        Node("ends", ends, None, drained=True),
        Node("full", full, None, drained=False),
        Node("gone", beat, Gone(heard=now(), since=now()), drained=False),
    ]
    found = [(each.name, each.state, each.refusal, each.recordings) for each in living(nodes)]
    assert found == [
        ("alive", "alive", None, 1),
        ("drained", "drained", "drained", 1),
        ("ends", "draining", "draining", 1),
        ("full", "no_room", "disk", 1),
    ]
