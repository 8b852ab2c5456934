"""The nodes of the farm: each sends a heartbeat every two seconds and watches those of the others.

Keys
    farm:nodes    hash: the last beat of each node by the node's name, as JSON
    farm:gone     hash: nodes that are gone, by name, with the time; the node's next beat removes it
    farm:drained  set: nodes that an administrator has drained: they finish their recordings and start none

A node is gone when another one, which has reached Redis all the time, saw no new beat of it for 15 s. Neither
clocks nor expiring keys decide it: after an outage of Redis, or when Redis has lost its data, all beats are
missing at once, and that must not make any node gone. A node that Redis does not know is not gone.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple, cast

import redis
from pydantic import AwareDatetime, BaseModel, ConfigDict

from recording_farm.farm.clock import now

NODES_KEY: Final = "farm:nodes"
GONE_KEY: Final = "farm:gone"
_DRAINED_KEY: Final = "farm:drained"

BEAT_SECONDS: Final = 2.0
"""Between two beats of a node."""

GONE_AFTER: Final = 15.0
"""Seconds without a new beat after which a node is gone. The heartbeat process restarts within two, and a
command to Redis may take ten; a longer wait loses more of the meeting."""

MAX_BREAK: Final = 6.0
"""Seconds between two looks after which a watcher starts over: the watcher itself stood still."""

# Returns 1 if the node was not gone before.
_MARK: Final = """
local nodes, gone = KEYS[1], KEYS[2]
local node, last_beat, gone_entry = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HGET', nodes, node) ~= last_beat then return 0 end
return redis.call('HSETNX', gone, node, gone_entry)
"""

_FORGET: Final = """
local nodes, gone = KEYS[1], KEYS[2]
local node = ARGV[1]
if redis.call('HDEL', gone, node) == 1 then redis.call('HDEL', nodes, node) end
"""


class Shortage(StrEnum):
    """What a node lacks for another recording."""

    DISK = "disk"
    MEMORY = "memory"
    LOAD = "load"
    """Processor time."""


class NoRoom(BaseModel):
    """Why a node accepts no new recording although nobody has drained it."""

    model_config = ConfigDict(frozen=True)

    reason: Shortage | str
    """A newer version may know more reasons."""
    message: str
    """For the operator, with numbers and the name of the setting."""


class Condition(BaseModel):
    """The state of a node: its recordings, the warm stages, and the free resources of its machine."""

    model_config = ConfigDict(frozen=True)

    recordings: int
    warm_stages: int
    load: float
    """The share of processor time in use, 0 to 1."""
    disk_free: int
    """Bytes of the disk of the spool."""
    disk_size: int
    memory_free: int
    """Bytes."""


class Beat(BaseModel):
    """The heartbeat of a node: its time, its slots, and its state."""

    model_config = ConfigDict(frozen=True)

    time: AwareDatetime
    slots: int
    condition: Condition | None = None
    """None when the node has just started, or cannot tell."""
    draining: bool = False
    """Whether its worker is shutting down and waits for its recordings."""
    no_room: NoRoom | None = None
    """None when it has room for another recording."""


class Gone(BaseModel):
    """A node that is gone: the time of its last beat, by its own clock, and the time it was found gone."""

    model_config = ConfigDict(frozen=True)

    heard: AwareDatetime
    since: AwareDatetime


class Node(NamedTuple):
    """A node as the others know it."""

    name: str
    beat: Beat
    gone: Gone | None
    drained: bool
    """Whether an administrator has drained it."""


class Watch:
    """The last beat of each node as one process has read it, and for how long it has been the last."""

    def __init__(self) -> None:
        """No beat is known yet."""
        self._known: dict[str, tuple[bytes, float]] = {}
        self._looked = float("-inf")

    def look(self, beats: Mapping[str, bytes], moment: float) -> list[str]:
        """The nodes that are gone, by the beats just read; `moment` is in seconds of CLOCK_MONOTONIC."""
        if moment - self._looked > MAX_BREAK:
            self.reset()
        self._looked = moment
        known = {name: self._known.get(name, (beat, moment)) for name, beat in beats.items()}
        self._known = {
            name: before if before[0] == beats[name] else (beats[name], moment)
            for name, before in known.items()
        }
        return [name for name, (_, since) in self._known.items() if moment - since >= GONE_AFTER]

    def reset(self) -> None:
        """Forget all beats: a look has failed, so a beat may have been missed."""
        self._known = {}


class Nodes:
    """The nodes in Redis. Every method raises redis.RedisError when Redis cannot be reached."""

    def __init__(self, client: redis.Redis) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._redis = client
        self._mark = client.register_script(_MARK)
        self._forget = client.register_script(_FORGET)

    def beat(
        self,
        node: str,
        slots: int,
        condition: Condition | None = None,
        *,
        draining: bool = False,
        no_room: NoRoom | None = None,
    ) -> None:
        """Send the heartbeat of a node; the node is not gone any more."""
        beat = Beat(time=now(), slots=slots, condition=condition, draining=draining, no_room=no_room)
        with self._redis.pipeline() as pipeline:
            pipeline.hset(NODES_KEY, node, beat.model_dump_json())
            pipeline.hdel(GONE_KEY, node)
            pipeline.execute()

    def expect(self, node: str) -> None:
        """Register a node that Redis does not know, as if it had just sent a beat.

        If it stays silent it is found gone; a node that Redis does not know never is.
        """
        self._redis.hsetnx(NODES_KEY, node, Beat(time=now(), slots=0).model_dump_json())

    def beats(self) -> dict[str, bytes]:
        """The last beat of each node by its name."""
        beats = cast("dict[bytes, bytes]", self._redis.hgetall(NODES_KEY))
        return {name.decode(): beat for name, beat in beats.items()}

    def all(self) -> list[Node]:
        """All known nodes, sorted by name."""
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(NODES_KEY)
            pipeline.hgetall(GONE_KEY)
            pipeline.smembers(_DRAINED_KEY)
            beats, gone, drained = pipeline.execute()
        return [
            Node(
                name.decode(),
                Beat.model_validate_json(beat),
                Gone.model_validate_json(gone[name]) if name in gone else None,
                name in drained,
            )
            for name, beat in sorted(beats.items())
        ]

    def drain(self, node: str) -> None:
        """Let a node start no recordings until `undrain`, also after its worker restarts."""
        self._redis.sadd(_DRAINED_KEY, node)

    def undrain(self, node: str) -> None:
        """Let a node accept recordings again; harmless if it does."""
        self._redis.srem(_DRAINED_KEY, node)

    def is_drained(self, node: str) -> bool:
        """Whether an administrator has drained a node."""
        return bool(self._redis.sismember(_DRAINED_KEY, node))

    def mark_gone(self, node: str, beat: bytes) -> bool:
        """Record that a node is gone, unless `beat` is not its last one; true if it was not gone before."""
        gone = Gone(heard=Beat.model_validate_json(beat).time, since=now())
        return bool(self._mark(keys=[NODES_KEY, GONE_KEY], args=[node, beat, gone.model_dump_json()]))

    def gone(self, node: str) -> Gone | None:
        """Since when a node is gone; None if it is not gone, or not known."""
        gone = cast("bytes | None", self._redis.hget(GONE_KEY, node))
        return None if gone is None else Gone.model_validate_json(gone)

    def forget(self, node: str) -> None:
        """Remove a node, if it is still gone."""
        self._forget(keys=[NODES_KEY, GONE_KEY], args=[node])
