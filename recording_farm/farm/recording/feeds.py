"""Feeds: an organization's changes as they come, read once from Redis for any number of followers.

A feed keeps the last changes in memory, and a follower is only a place among them. One that falls behind, or
comes back after a while, reads what it has missed from the stream (see `farm.recording.changes`) in small
pieces; so a slow follower costs no more memory than a quick one. While Redis is away followers wait, and lose
nothing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar, cast

import redis
import redis.asyncio
from pydantic import ValidationError

from recording_farm.browser_bot.waiting import first_of
from recording_farm.farm.db.streams import BEGINNING, EntryId, entries
from recording_farm.farm.errors import RedisUnavailableError, TooManyStreamsError
from recording_farm.farm.recording.changes import events_key, recording_of
from recording_farm.farm.recording.model import Recording

logger = logging.getLogger(__name__)

_KEPT: Final = 200
"""How many changes a feed keeps in memory."""

_PIECE: Final = 50
"""How many changes are read in one go."""

_BLOCK_MILLISECONDS: Final = 2000
"""How long one read waits in Redis."""

_READ_SECONDS: Final = 5.0
"""How long one read may take altogether before the connection counts as dead."""

_FIRST_PAUSE: Final = 0.1
_MAX_PAUSE: Final = 2.0
"""Seconds between tries while Redis is away."""

Render = Callable[[Recording], str]
Stopped = Callable[[], Coroutine[Any, Any, object]]
_Entries = list[tuple[bytes, dict[bytes, bytes]]]
_T = TypeVar("_T")


class Change(NamedTuple):
    """A change of a recording, and the recording after it as its feed renders it.

    Without a text it is a gap: changes after this id, nobody knows how many, are not kept any more.
    """

    id: EntryId
    text: str | None


class Feed:
    """The changes of one organization."""

    def __init__(self, client: redis.asyncio.Redis, organization_id: str, render: Render) -> None:
        """`client` comes from `farm.db.clients.connect_async`, so that cancelling always works."""
        self._client = client
        self._key = events_key(organization_id)
        self._render = render
        self._changes: deque[Change] = deque()
        self._before = BEGINNING
        """All changes after this one are in memory."""
        self._last = BEGINNING
        self._changed = asyncio.Event()

    async def begin(self) -> None:
        """Find the place from which on changes are read. Raises RedisUnavailableError."""
        try:
            async with asyncio.timeout(_READ_SECONDS):
                _, self._last = await self._ends()
        except (redis.RedisError, OSError, TimeoutError) as error:
            raise RedisUnavailableError("the farm's database cannot be reached; try again later") from error
        self._before = self._last

    async def run(self) -> None:
        """Read changes as they come; never ends by itself."""
        while True:
            found = await self._retry_until_available(self._read)
            if found:
                oldest, _ = await self._retry_until_available(self._ends)
                self._add(found, lost=BEGINNING < self._last < oldest)

    def follow(self, after: EntryId | None, stopped: Stopped) -> AsyncIterator[Change]:
        """The changes after that one, or from this call on, until `stopped` returns.

        When changes after that one are not kept any more, a gap comes first.
        """
        return self._follow(self._last if after is None else after, stopped)

    async def _follow(self, place: EntryId, stopped: Stopped) -> AsyncIterator[Change]:
        if place > self._last:
            _, newest = await self._retry_until_available(self._ends)
            if place > newest:
                # Redis has lost its data since, or the id is from elsewhere.
                yield Change(place, None)
                place = newest
        while True:
            changed = self._changed
            if place < self._before:
                changes = await self._retry_until_available(partial(self._missed, place))
                if not changes:
                    place = self._before
                    continue
            else:
                changes = self._after(place)
            for change in changes:
                yield change
                place = change.id
            if not changes and await first_of(stopped=stopped(), changed=changed.wait()) == "stopped":
                return

    def _after(self, place: EntryId) -> list[Change]:
        """The first of the changes in memory after that one."""
        newer = 0
        for change in reversed(self._changes):
            if change.id <= place:
                break
            newer += 1
        start = len(self._changes) - newer
        return [self._changes[index] for index in range(start, min(start + _PIECE, len(self._changes)))]

    async def _missed(self, place: EntryId) -> list[Change]:
        """The first of the changes in the stream after that one, and a gap before them if there is one."""
        oldest, _ = await self._ends()
        answer = await self._client.xrange(self._key, min=f"({place}", max="+", count=_PIECE)
        changes = [self._change(*entry) for entry in cast("_Entries", answer)]
        lost = BEGINNING < place < oldest
        return [Change(place, None), *changes] if lost and changes else changes

    async def _ends(self) -> tuple[EntryId, EntryId]:
        """The ids of the oldest and the newest entry of the stream."""
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.xrange(self._key, count=1)
            pipeline.xrevrange(self._key, count=1)
            ends = await pipeline.execute()
        oldest, newest = (EntryId.parse(end[0][0].decode()) if end else BEGINNING for end in ends)
        return oldest, newest

    async def _read(self) -> _Entries:
        answer = await self._client.xread(
            {self._key: str(self._last)}, count=_PIECE, block=_BLOCK_MILLISECONDS
        )
        return entries(answer)

    def _add(self, found: _Entries, lost: bool) -> None:
        """Take changes in, and wake the followers.

        If the stream has dropped others before them unread, all is left to the followers: each reads from the
        stream for itself, and so finds its own gap.
        """
        self._changes.extend(self._change(*entry) for entry in found)
        self._last = self._changes[-1].id
        if lost:
            self._changes.clear()
            self._before = self._last
        while len(self._changes) > _KEPT:
            self._before = self._changes.popleft().id
        self._changed.set()
        self._changed = asyncio.Event()

    def _change(self, entry_id: bytes, fields: dict[bytes, bytes]) -> Change:
        place = EntryId.parse(entry_id.decode())
        try:
            return Change(place, self._render(recording_of(fields)))
        except (KeyError, ValidationError) as error:
            logger.warning("%s: the change %s cannot be read: %s", self._key, place, error)
            return Change(place, None)

    async def _retry_until_available(self, read: Callable[[], Awaitable[_T]]) -> _T:
        """What is read, as soon as Redis answers."""
        pause = _FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(_READ_SECONDS):
                    return await read()
            except (redis.RedisError, OSError, TimeoutError) as error:
                logger.warning("%s cannot be read, trying again: %r", self._key, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE)


class Feeds:
    """The feeds that are followed just now, one for each organization."""

    def __init__(self, client: redis.asyncio.Redis, limit: int) -> None:
        """`limit` is how many may follow one feed at the same time."""
        self._client = client
        self._limit = limit
        self._feeds: dict[str, _Shared] = {}

    @asynccontextmanager
    async def feed(self, organization_id: str, render: Render) -> AsyncIterator[Feed]:
        """The feed of an organization; it is read for as long as anybody has it.

        Raises TooManyStreamsError, RedisUnavailableError.
        """
        shared = self._feeds.get(organization_id) or _Shared(Feed(self._client, organization_id, render))
        if shared.followers >= self._limit:
            raise TooManyStreamsError(
                f"{self._limit} event streams of this organization are open, the maximum; close one first"
            )
        self._feeds[organization_id] = shared
        shared.followers += 1
        try:
            yield await shared.begun()
        finally:
            shared.followers -= 1
            if not shared.followers:
                del self._feeds[organization_id]
                await shared.end()


class _Shared:
    """A feed and those who have it."""

    def __init__(self, feed: Feed) -> None:
        self.followers = 0
        self._feed = feed
        self._beginning = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None

    async def begun(self) -> Feed:
        async with self._beginning:
            if self._running is None:
                await self._feed.begin()
                self._running = asyncio.create_task(self._feed.run(), name="feed")
        return self._feed

    async def end(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
