"""Which nodes accept recordings, and why a recording waits: decided from the last beats, without I/O."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from recording_farm.farm.clock import now
from recording_farm.farm.nodes.registry import Node, NoRoom, Shortage

ALIVE_WITHIN: Final = timedelta(seconds=60)
"""How old the last beat of a living node may be by the clock of the reader; clocks differ a little."""


class NodeState(StrEnum):
    """Whether a living node accepts new recordings."""

    ALIVE = "alive"
    """It accepts them."""
    NO_ROOM = "no_room"
    """It lacks disk, memory or processor time for another one."""
    DRAINED = "drained"
    """An administrator has drained it."""
    DRAINING = "draining"
    """It is shutting down."""


@dataclass(frozen=True)
class LivingNode:
    """A node that lives: its name, its slots, and whether it accepts recordings."""

    name: str
    slots: int
    state: NodeState = NodeState.ALIVE
    no_room: NoRoom | None = None
    recordings: int = 0
    """Slots in use, by the last beat."""

    @property
    def refusal(self) -> str | None:
        """Why it accepts no recordings, in one word; None if it does."""
        if self.state is NodeState.ALIVE:
            return None
        return str(self.no_room.reason) if self.no_room and self.state is NodeState.NO_ROOM else self.state


def living(nodes: Iterable[Node]) -> list[LivingNode]:
    """The nodes that have sent a beat just now, and that the others have not found gone."""
    return [
        LivingNode(
            node.name,
            node.beat.slots,
            state_of(node),
            node.beat.no_room,
            node.beat.condition.recordings if node.beat.condition else 0,
        )
        for node in nodes
        if node.gone is None and abs(now() - node.beat.time) < ALIVE_WITHIN
    ]


def state_of(node: Node) -> NodeState:
    """The state of a node, if it lives."""
    if node.beat.draining:
        return NodeState.DRAINING
    if node.drained:
        return NodeState.DRAINED
    return NodeState.NO_ROOM if node.beat.no_room else NodeState.ALIVE


class WaitReason(StrEnum):
    """Why a recording waits in the queue."""

    STARTING = "starting"
    """A slot is free: one takes it within seconds."""
    SLOTS = "slots"
    """All slots of the nodes that accept recordings are in use."""
    DISK = "disk"
    MEMORY = "memory"
    LOAD = "load"
    """No node has room; this is what most of them lack."""
    NO_ROOM = "no_room"
    """No node has room, for a reason that this version does not know."""
    DRAINED = "drained"
    """All nodes are drained or shutting down."""
    NO_NODE = "no_node"
    """No node is running."""
    QUOTA = "quota"
    """The organization runs as many recordings as it may."""


@dataclass(frozen=True)
class Wait:
    """Why a recording waits, as a word and as a sentence for the client."""

    reason: WaitReason
    message: str


_PHRASES: Final[dict[str, str]] = {
    Shortage.DISK: "short of disk space",
    Shortage.MEMORY: "short of memory",
    Shortage.LOAD: "too busy",
    NodeState.DRAINED: "drained",
    NodeState.DRAINING: "shutting down",
}


def why_waiting(position: int, nodes: Sequence[LivingNode], *, is_held_back: bool = False) -> Wait:
    """Why the recording at `position` of the queue (1 is the next) waits, given the nodes that live.

    `is_held_back` is whether its organization runs, or is about to run, as many recordings as it may.
    """
    if not nodes:
        return Wait(WaitReason.NO_NODE, "No node is running.")
    accepting = [node for node in nodes if node.state is NodeState.ALIVE]
    others = _others([node for node in nodes if node.state is not NodeState.ALIVE])
    if not accepting:
        return Wait(_main_reason(nodes), f"No node accepts recordings: {others}.")
    if is_held_back:
        return Wait(
            WaitReason.QUOTA,
            "It waits for another recording of your organization to end (quota of running ones).",
        )
    slots = sum(node.slots for node in accepting)
    if position <= slots - sum(node.recordings for node in accepting):
        return Wait(WaitReason.STARTING, "A slot is free; the recording starts shortly.")
    in_use = "The only slot is in use" if slots == 1 else f"All {slots} slots are in use"
    return Wait(WaitReason.SLOTS, f"{in_use}; other nodes: {others}." if others else f"{in_use}.")


def _main_reason(nodes: Sequence[LivingNode]) -> WaitReason:
    shortages = Counter(node.refusal for node in nodes if node.state is NodeState.NO_ROOM)
    if not shortages:
        return WaitReason.DRAINED
    ((most_common, _),) = shortages.most_common(1)
    return WaitReason(most_common) if most_common in list(Shortage) else WaitReason.NO_ROOM


def _others(nodes: Sequence[LivingNode]) -> str:
    """How many nodes accept no recordings, by reason, such as `2 drained, 1 too busy`."""
    refusals = Counter(node.refusal or "" for node in nodes).most_common()
    return ", ".join(f"{count} {_PHRASES.get(refusal, 'without room')}" for refusal, count in refusals)
