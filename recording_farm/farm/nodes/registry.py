"""The nodes of the farm: each says again and again that it lives, and each looks whether the others do.

Keys
    farm:nodes    hash: the last beat of each node by the node's name, as JSON
    farm:gone     hash: of each node that is gone by its name, since when; its next beat takes it out
    farm:drained  set: nodes that somebody wants to begin no recordings; they go on with what they have

A node is gone when another one, which has seen Redis all the time, saw no new beat of it for 15 s. Neither
clocks nor keys that expire decide it: when Redis was away or has lost everything, all beats are missing at
once, and no node may be taken for gone because of that. One that Redis does not know is not gone.
"""

from collections.abc import Mapping
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
"""Seconds without a new beat after which a node is gone. The process that beats is started again within two,
and a command to Redis may take ten; who waits much longer loses more of the meeting."""

MAX_BREAK: Final = 6.0
"""Seconds between two looks after which a watcher starts anew: it stood still itself."""

# KEYS nodes, gone; ARGV node, its last beat, what to note of it
# Answers whether it is gone since now.
_MARK: Final = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[3])
"""

_FORGET: Final = """
if redis.call('HDEL', KEYS[2], ARGV[1]) == 1 then redis.call('HDEL', KEYS[1], ARGV[1]) end
"""
"""KEYS nodes, gone; ARGV node"""


class Condition(BaseModel):
    """How a node is: recordings under way, stages that wait for one, and what of its machine is free."""

    model_config = ConfigDict(frozen=True)

    recordings: int
    warm_stages: int
    load: float
    """The share of the processors' time that is in use, 0 to 1."""
    disk_free: int
    """Bytes of the spool's disk."""
    disk_size: int
    memory_free: int
    """Bytes."""


class Beat(BaseModel):
    """What a node says of itself: its time, how many recordings it can make at once, and how it is."""

    model_config = ConfigDict(frozen=True)

    time: AwareDatetime
    slots: int
    condition: Condition | None = None
    """None when it has just begun, or cannot tell."""
    draining: bool = False
    """Whether its worker was told to end and waits for its recordings."""


class Gone(BaseModel):
    """Of a node that is gone: when it was last heard, by its own clock, and when it was found to be gone."""

    model_config = ConfigDict(frozen=True)

    heard: AwareDatetime
    since: AwareDatetime


class Node(NamedTuple):
    """A node as the others know it."""

    name: str
    beat: Beat
    gone: Gone | None
    drained: bool
    """Whether somebody wants it to begin no recordings."""


class Watch:
    """What one process has heard of the nodes: their last beats, and for how long it has known each."""

    def __init__(self) -> None:
        """Know of no node yet."""
        self._known: dict[str, tuple[bytes, float]] = {}
        self._looked = float("-inf")

    def look(self, beats: Mapping[str, bytes], moment: float) -> list[str]:
        """Those nodes that are gone, from what was just read; `moment` is in seconds of CLOCK_MONOTONIC."""
        if moment - self._looked > MAX_BREAK:
            self.start_anew()
        self._looked = moment
        known = {name: self._known.get(name, (beat, moment)) for name, beat in beats.items()}
        self._known = {
            name: before if before[0] == beats[name] else (beats[name], moment)
            for name, before in known.items()
        }
        return [name for name, (_, since) in self._known.items() if moment - since >= GONE_AFTER]

    def start_anew(self) -> None:
        """Forget what was heard: a look has failed, so a beat may have been missed."""
        self._known = {}


class Nodes:
    """The nodes in Redis. Every method raises redis.RedisError when Redis cannot be reached."""

    def __init__(self, client: redis.Redis) -> None:
        """`client` must return bytes (see `farm.db.clients`)."""
        self._redis = client
        self._mark = client.register_script(_MARK)
        self._forget = client.register_script(_FORGET)

    def beat(
        self, node: str, slots: int, condition: Condition | None = None, *, draining: bool = False
    ) -> None:
        """Say that a node lives; whatever was noted of its end is void."""
        beat = Beat(time=now(), slots=slots, condition=condition, draining=draining)
        with self._redis.pipeline() as pipeline:
            pipeline.hset(NODES_KEY, node, beat.model_dump_json())
            pipeline.hdel(GONE_KEY, node)
            pipeline.execute()

    def expect(self, node: str) -> None:
        """Have a node known that is not, as if it had just been heard; one that is silent is found gone.

        Nobody would take one that Redis does not know for gone.
        """
        self._redis.hsetnx(NODES_KEY, node, Beat(time=now(), slots=0).model_dump_json())

    def beats(self) -> dict[str, bytes]:
        """The last beat of each node by its name."""
        beats = cast("dict[bytes, bytes]", self._redis.hgetall(NODES_KEY))
        return {name.decode(): beat for name, beat in beats.items()}

    def all(self) -> list[Node]:
        """All nodes that are known, by their names."""
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
        """Have a node begin no recordings, until `undrain`; also when its worker is started again."""
        self._redis.sadd(_DRAINED_KEY, node)

    def undrain(self, node: str) -> None:
        """Have a node begin recordings again; harmless if it does."""
        self._redis.srem(_DRAINED_KEY, node)

    def is_drained(self, node: str) -> bool:
        """Whether a node is to begin no recordings."""
        return bool(self._redis.sismember(_DRAINED_KEY, node))

    def mark_gone(self, node: str, beat: bytes) -> bool:
        """Note that a node is gone, unless `beat` is not its last one; whether that is new."""
        gone = Gone(heard=Beat.model_validate_json(beat).time, since=now())
        return bool(self._mark(keys=[NODES_KEY, GONE_KEY], args=[node, beat, gone.model_dump_json()]))

    def gone(self, node: str) -> Gone | None:
        """Since when a node is gone; None if it is not, or not known."""
        gone = cast("bytes | None", self._redis.hget(GONE_KEY, node))
        return None if gone is None else Gone.model_validate_json(gone)

    def forget(self, node: str) -> None:
        """Know nothing of a node any more, if it is still gone."""
        self._forget(keys=[NODES_KEY, GONE_KEY], args=[node])
