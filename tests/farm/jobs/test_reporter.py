"""What Redis is told of a recording, and what its recorder is told when Redis knows better."""

import asyncio
from dataclasses import replace

import pytest
import redis

from recording_farm.browser_bot.page.rejoining import PageEvent
from recording_farm.encoder.journal import Journal, write_journal
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.jobs.reporter import Reporter
from recording_farm.farm.queues.transfers import transfers_queue
from recording_farm.farm.recorder.listener import EndReason, Outcome
from recording_farm.farm.recording.findings import Finding
from recording_farm.farm.recording.model import (
    ReasonKind,
    Recording,
    Status,
    TimelineEntry,
    is_cancelled,
    stop_reason_of,
)
from recording_farm.farm.recording.records import Records, record_key
from recording_farm.farm.spool.spool import spool_of
from testkit.farm import Farm
from testkit.recordings import new_recording


def in_slot_3(
    settings: Settings, records: Records, redis_client: redis.Redis, recording: Recording
) -> tuple[Recording, Reporter]:
    """A recording that is being made in slot 3 of this node, and its recorder's reporter."""
    recording = records.claim(records.add(recording), settings.node, slot=3)
    records.change_state(recording.id, Status.RECORDING)
    spool_of(recording, settings).make()
    return recording, Reporter(recording, settings, records, redis_client)


@pytest.mark.parametrize("started", [True, False])
async def test_recorder_of_a_deleted_recording_should_be_told_and_not_keep_its_slot(
    farm: Farm, *, started: bool
) -> None:
    recording = farm.add()
    spool_of(recording, farm.settings).make()
    farm.stop_and_delete(recording)
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    refused = asyncio.Event()
    reporter.when_refused = refused.set
    telling = asyncio.create_task(reporter.run())
    await reporter.ended(Outcome(EndReason.STOPPED, None, started=started))
    async with asyncio.timeout(5):
        await reporter.flush(60)
    assert refused.is_set()
    assert not telling.done()
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    # Takes are left: a record can also be missing because Redis has lost it.
    assert spool_of(recording, farm.settings).directory.exists() == started


async def test_what_the_watch_finds_should_be_in_the_timeline(farm: Farm) -> None:
    recording = farm.add(node=farm.settings.node)
    spool_of(recording, farm.settings).make()
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    telling = asyncio.create_task(reporter.run())
    await reporter.finding_began(Finding.PAGE_OFFLINE)
    await reporter.finding_ended(Finding.PAGE_OFFLINE, 12.5)
    async with asyncio.timeout(5):
        await reporter.flush(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    _, began, ended = farm.records.get(None, recording.id).timeline
    assert (began.event, began.finding, began.seconds) == ("finding_began", Finding.PAGE_OFFLINE, None)
    assert (ended.event, ended.finding, ended.seconds) == ("finding_ended", Finding.PAGE_OFFLINE, 12.5)


async def test_take_that_ended_should_tell_its_own_length(farm: Farm) -> None:
    recording = farm.add(node=farm.settings.node)
    spool = spool_of(recording, farm.settings)
    spool.make()
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    telling = asyncio.create_task(reporter.run())
    took = Journal(number=0, epoch=1_790_000_000, wall_us=1_790_000_000_000_000, monotonic_us=0, phase_us=0)
    write_journal(spool.directory / "take-000.json", replace(took, end_us=12_345_678))
    await reporter.take_ended(took)
    await reporter.take_ended(replace(took, number=1))
    async with asyncio.timeout(5):
        await reporter.flush(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    *_, first, second = farm.records.get(None, recording.id).timeline
    assert (first.event, first.take, first.seconds) == ("take_ended", 0, 12.346)
    assert (second.event, second.take, second.seconds) == ("take_ended", 1, None)


async def test_what_the_page_did_should_be_in_the_timeline(farm: Farm) -> None:
    recording = farm.add(node=farm.settings.node)
    spool_of(recording, farm.settings).make()
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    telling = asyncio.create_task(reporter.run())
    await reporter.page_event(PageEvent("rejoined", "the page reloaded itself"))
    async with asyncio.timeout(5):
        await reporter.flush(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    told = farm.records.get(None, recording.id).timeline[-1]
    assert (told.event, told.message) == ("rejoined", "the page reloaded itself")


async def test_meeting_that_all_have_left_should_have_its_reason(farm: Farm) -> None:
    recording = farm.add(node=farm.settings.node)
    spool_of(recording, farm.settings).make()
    farm.records.change_state(recording.id, Status.RECORDING)
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    telling = asyncio.create_task(reporter.run())
    await reporter.ended(Outcome(EndReason.ALL_PEERS_LEFT, None, started=True))
    async with asyncio.timeout(5):
        await reporter.flush(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    ended = farm.records.get(None, recording.id)
    assert (ended.status, ended.error) == (Status.UPLOADING, None)
    assert ended.stop_reason is not None
    assert ended.stop_reason.reason is ReasonKind.ALL_PEERS_LEFT


@pytest.mark.parametrize(
    ("reason", "code", "shown", "cancelled"),
    [
        (EndReason.STOPPED, "stopped_before_start", ReasonKind.STOPPED_BEFORE_START, True),
        (EndReason.SHUTDOWN, "node_shut_down", ReasonKind.NODE_SHUT_DOWN, False),
        (EndReason.PAGE_ENDED, "ended_before_start", ReasonKind.PAGE_ENDED, False),
    ],
)
async def test_recording_that_never_began_should_be_cancelled_only_if_it_was_stopped(
    farm: Farm, reason: EndReason, code: str, shown: ReasonKind, *, cancelled: bool
) -> None:
    recording = farm.add(node=farm.settings.node)
    spool_of(recording, farm.settings).make()
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    telling = asyncio.create_task(reporter.run())
    await reporter.ended(Outcome(reason, None, started=False))
    async with asyncio.timeout(5):
        await reporter.flush(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    after = farm.records.get(None, recording.id)
    assert (after.status, is_cancelled(after)) == (Status.ERRORED, cancelled)
    assert after.error is not None
    assert after.error.code == code
    told = stop_reason_of(after)
    assert told is not None
    assert told.reason is shown


async def test_recorder_should_say_again_which_slot_it_is_in(farm: Farm) -> None:
    recording, reporter = in_slot_3(farm.settings, farm.records, farm.redis, new_recording())
    telling = asyncio.create_task(reporter.run())
    # A second job took it, and then saw that it is being recorded; later Redis loses everything.
    for disturb in (lambda: farm.records.claim(recording, farm.settings.node, slot=1), farm.redis.flushall):
        disturb()
        await reporter.paused()
        async with asyncio.timeout(5):
            await reporter.flush(60)
        after = farm.records.get(None, recording.id)
        assert (after.status, after.node, after.slot) == (Status.PAUSED, farm.settings.node, 3)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)


async def test_recorder_should_go_on_while_its_record_cannot_be_read(farm: Farm) -> None:
    recording, reporter = in_slot_3(farm.settings, farm.records, farm.redis, new_recording())
    telling = asyncio.create_task(reporter.run())
    kept = farm.redis.hget(record_key(recording.id), "status")
    farm.redis.hset(record_key(recording.id), "status", b'"OF_A_LATER_VERSION"')
    await reporter.paused()
    await reporter.flush(2)
    assert not telling.done()
    assert kept is not None
    farm.redis.hset(record_key(recording.id), "status", kept)
    async with asyncio.timeout(5):
        await reporter.flush(60)
    assert farm.records.get(None, recording.id).status is Status.PAUSED
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)


async def test_recorder_should_give_way_to_another_node_and_say_nothing(farm: Farm) -> None:
    recording = farm.add()
    farm.records.change_state(recording.id, Status.RECORDING, node="node-2")
    spool_of(recording, farm.settings).make()
    before = farm.records.get(None, recording.id)
    reporter = Reporter(before, farm.settings, farm.records, farm.redis)
    refused = asyncio.Event()
    reporter.when_refused = refused.set
    telling = asyncio.create_task(reporter.run())
    await reporter.broken("it broke")
    await reporter.ended(Outcome(EndReason.STOPPED, None, started=True))
    async with asyncio.timeout(10):
        await reporter.flush(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    assert refused.is_set()
    assert farm.records.get(None, recording.id) == before
    assert transfers_queue(farm.redis, farm.settings.node).is_empty()
    # What was recorded waits there until it is set aside.
    assert spool_of(recording, farm.settings).directory.exists()


async def test_recorder_that_has_nothing_should_leave_the_end_to_the_node_that_has(farm: Farm) -> None:
    recording = farm.add()
    farm.records.change_state(recording.id, Status.RECORDING, node=farm.settings.node)
    farm.records.note(recording.id, TimelineEntry(event="take_began", take=0, time=now()))
    farm.records.note(recording.id, TimelineEntry(event="fault", fault="gone", node="node-2", time=now()))
    reporter = Reporter(farm.records.get(None, recording.id), farm.settings, farm.records, farm.redis)
    telling = asyncio.create_task(reporter.run())
    await reporter.ended(Outcome(EndReason.FAULT, "it cannot be joined", started=False))
    async with asyncio.timeout(10):
        await reporter.flush(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    after = farm.records.get(None, recording.id)
    assert (after.status, after.node) == (Status.UPLOADING, "node-2")
    assert transfers_queue(farm.redis, "node-2").count == 1
    assert transfers_queue(farm.redis, farm.settings.node).is_empty()
