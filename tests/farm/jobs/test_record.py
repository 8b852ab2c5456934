"""The job's edges; that it makes recordings, the end-to-end tests show."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from browser_bot.page.rejoining import PageEvent
from farm.clock import now
from farm.config.settings import Settings
from farm.evidence.collect import fault_directories
from farm.evidence.dead_recorder import describe_exit, keep_death, note_seen
from farm.evidence.directory import evidence_dir
from farm.jobs.plan import plan_of
from farm.jobs.record import record
from farm.jobs.reporter import Reporter
from farm.nodes.registry import Nodes
from farm.pages.access import surroundings_of
from farm.queues.recordings import has_live_job
from farm.queues.transfers import is_to_be_finished, transfers_queue
from farm.recorder.listener import EndReason, Outcome
from farm.recorder.recorder import Recorder
from farm.recording.commands import Order
from farm.recording.findings import Finding
from farm.recording.formats import format_of
from farm.recording.model import Failure, Reason, ReasonKind, Recording, Status, TimelineEntry
from farm.recording.records import Records, record_key
from farm.recovery.local_spool import recover_unqueued
from farm.spool.ending import kept_ending
from farm.spool.spool import BREAKS, Spool, spool_of
from farm.worker.slot import needs_of
from testkit.farm import Farm
from testkit.recordings import new_recording


def become(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Have the jobs that run here be those of this node."""
    assert settings.redis_url is not None
    monkeypatch.setenv("FARM_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("FARM_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("FARM_NODE", settings.node)


def stop_and_delete(records: Records, recording: Recording) -> None:
    """What a client does that has changed its mind while the page is being opened."""
    reason = Reason(reason=ReasonKind.STOPPED_BEFORE_START)
    records.delete(records.change_state(recording.id, Status.ERRORED, stop_reason=reason))


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
    stop_and_delete(farm.records, recording)
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    refused = asyncio.Event()
    reporter.when_refused = refused.set
    telling = asyncio.create_task(reporter.tell())
    await reporter.ended(Outcome(EndReason.STOPPED, None, started=started))
    async with asyncio.timeout(5):
        await reporter.told(60)
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
    telling = asyncio.create_task(reporter.tell())
    await reporter.finding_began(Finding.PAGE_OFFLINE)
    await reporter.finding_ended(Finding.PAGE_OFFLINE, 12.5)
    async with asyncio.timeout(5):
        await reporter.told(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    _, began, ended = farm.records.get(None, recording.id).timeline
    assert (began.event, began.finding, began.seconds) == ("finding_began", Finding.PAGE_OFFLINE, None)
    assert (ended.event, ended.finding, ended.seconds) == ("finding_ended", Finding.PAGE_OFFLINE, 12.5)


async def test_what_the_page_did_should_be_in_the_timeline(farm: Farm) -> None:
    recording = farm.add(node=farm.settings.node)
    spool_of(recording, farm.settings).make()
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    telling = asyncio.create_task(reporter.tell())
    await reporter.page_event(PageEvent("rejoined", "the page has loaded itself anew"))
    async with asyncio.timeout(5):
        await reporter.told(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    told = farm.records.get(None, recording.id).timeline[-1]
    assert (told.event, told.message) == ("rejoined", "the page has loaded itself anew")


async def test_meeting_that_all_have_left_should_have_its_reason(farm: Farm) -> None:
    recording = farm.add(node=farm.settings.node)
    spool_of(recording, farm.settings).make()
    farm.records.change_state(recording.id, Status.RECORDING)
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    telling = asyncio.create_task(reporter.tell())
    await reporter.ended(Outcome(EndReason.ALL_PEERS_LEFT, None, started=True))
    async with asyncio.timeout(5):
        await reporter.told(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    ended = farm.records.get(None, recording.id)
    assert (ended.status, ended.error) == (Status.UPLOADING, None)
    assert ended.stop_reason is not None
    assert ended.stop_reason.reason is ReasonKind.ALL_PEERS_LEFT


@pytest.mark.parametrize("told", [Status.INVOKED, Status.RECORDING, Status.PAUSED])
@pytest.mark.parametrize("through_a_job", [True, False])
async def test_recording_that_ended_while_redis_was_away_should_end_and_not_go_on(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, *, told: Status, through_a_job: bool
) -> None:
    recording = farm.add(node=farm.settings.node)
    if told is not Status.INVOKED:
        farm.records.change_state(recording.id, Status.RECORDING, started_time=now())
    if told is Status.PAUSED:
        farm.records.change_state(recording.id, Status.PAUSED)
    spool = spool_of(recording, farm.settings)
    spool.make()
    with spool.held():
        # Nothing of it reaches Redis.
        await Reporter(recording, farm.settings, farm.records, farm.redis).ended(
            Outcome(EndReason.STOPPED, None, started=True)
        )
    ended = now()
    if through_a_job:
        # Another node had taken this one for gone, and had it queued for any.
        become(monkeypatch, farm.settings)
        record(str(recording.id))
    else:
        assert recover_unqueued(farm.settings, farm.redis) == 1
    after = farm.records.get(None, recording.id)
    assert (after.status, after.node, after.error) == (Status.UPLOADING, farm.settings.node, None)
    assert after.stop_reason is not None
    assert after.stop_reason.reason is ReasonKind.API_CALL
    assert after.stopped_time is not None
    assert after.started_time is not None
    assert after.stopped_time <= ended
    assert not has_live_job(farm.redis, recording.id)
    assert is_to_be_finished(farm.redis, recording.id, farm.settings.node)


async def test_recording_that_recorded_nothing_while_redis_was_away_should_be_errored(farm: Farm) -> None:
    recording = farm.add(node=farm.settings.node)
    spool = spool_of(recording, farm.settings)
    spool.make()
    with spool.held():
        await Reporter(recording, farm.settings, farm.records, farm.redis).ended(
            Outcome(EndReason.FAULT, "it cannot be joined", started=False)
        )
    assert recover_unqueued(farm.settings, farm.redis) == 1
    after = farm.records.get(None, recording.id)
    assert after.status is Status.ERRORED
    assert after.error == Failure(code="recording_failed", message="it cannot be joined")
    assert not spool.directory.exists()


def test_ending_should_not_count_for_a_recorder_that_went_on_later(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = farm.add()
    farm.records.change_state(recording.id, Status.RECORDING, node="node-2")
    spool = spool_of(recording, farm.settings)
    spool.make()
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    asyncio.run(reporter.ended(Outcome(EndReason.STOPPED, None, started=True)))
    nodes = Nodes(farm.redis)
    nodes.beat("node-2", 1)
    nodes.mark_gone("node-2", nodes.beats()["node-2"])
    become(monkeypatch, farm.settings)
    monkeypatch.setattr(Spool, "is_held", lambda _: False)
    with spool.held():
        record(str(recording.id))
    after = farm.records.get(None, recording.id)
    assert (after.status, after.node) == (Status.RECORDING, farm.settings.node)
    assert kept_ending(spool) is None


def test_job_of_a_deleted_recording_should_do_nothing(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = farm.add()
    stop_and_delete(farm.records, recording)
    assert farm.settings.redis_url is not None
    monkeypatch.setenv("FARM_REDIS_URL", farm.settings.redis_url)
    monkeypatch.setenv("FARM_DATA_DIR", str(farm.settings.data_dir))
    record(str(recording.id))
    assert not Path(farm.settings.data_dir, "evidence").exists()


def test_second_job_for_a_recording_should_not_end_it(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = farm.add()
    farm.records.change_state(recording.id, Status.RECORDING, node=farm.settings.node)
    spool = spool_of(recording, farm.settings)
    spool.make()
    assert farm.settings.redis_url is not None
    monkeypatch.setenv("FARM_REDIS_URL", farm.settings.redis_url)
    monkeypatch.setenv("FARM_DATA_DIR", str(farm.settings.data_dir))
    monkeypatch.setenv("FARM_NODE", farm.settings.node)
    # The other one takes its hold between this one's look and its own try.
    monkeypatch.setattr(Spool, "is_held", lambda _: False)
    with spool.held():
        record(str(recording.id))
    assert farm.records.get(None, recording.id).status is Status.RECORDING


async def test_recorder_should_say_again_which_slot_it_is_in(farm: Farm) -> None:
    recording, reporter = in_slot_3(farm.settings, farm.records, farm.redis, new_recording())
    telling = asyncio.create_task(reporter.tell())
    # A second job took it, and then saw that it is being recorded; later Redis loses everything.
    for disturb in (lambda: farm.records.claim(recording, farm.settings.node, slot=1), farm.redis.flushall):
        disturb()
        await reporter.paused()
        async with asyncio.timeout(5):
            await reporter.told(60)
        after = farm.records.get(None, recording.id)
        assert (after.status, after.node, after.slot) == (Status.PAUSED, farm.settings.node, 3)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)


async def test_recorder_should_go_on_while_its_record_cannot_be_read(farm: Farm) -> None:
    recording, reporter = in_slot_3(farm.settings, farm.records, farm.redis, new_recording())
    telling = asyncio.create_task(reporter.tell())
    kept = farm.redis.hget(record_key(recording.id), "status")
    farm.redis.hset(record_key(recording.id), "status", b'"OF_A_LATER_VERSION"')
    await reporter.paused()
    await reporter.told(2)
    assert not telling.done()
    assert kept is not None
    farm.redis.hset(record_key(recording.id), "status", kept)
    async with asyncio.timeout(5):
        await reporter.told(60)
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
    telling = asyncio.create_task(reporter.tell())
    await reporter.broken("it broke")
    await reporter.ended(Outcome(EndReason.STOPPED, None, started=True))
    async with asyncio.timeout(10):
        await reporter.told(60)
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
    telling = asyncio.create_task(reporter.tell())
    await reporter.ended(Outcome(EndReason.FAULT, "it cannot be joined", started=False))
    async with asyncio.timeout(10):
        await reporter.told(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    after = farm.records.get(None, recording.id)
    assert (after.status, after.node) == (Status.UPLOADING, "node-2")
    assert transfers_queue(farm.redis, "node-2").count == 1
    assert transfers_queue(farm.redis, farm.settings.node).is_empty()


async def test_what_another_node_recorded_should_count_for_the_longest_time(farm: Farm) -> None:
    recording = farm.add(max_seconds=60)
    began = now() - timedelta(seconds=50)
    for entry in (
        TimelineEntry(event="take_began", take=3, time=began),
        TimelineEntry(event="fault", fault="gone", node="node-2", time=began + timedelta(seconds=40)),
    ):
        farm.records.note(recording.id, entry)
    plan = plan_of(farm.records.get(None, recording.id), farm.settings)
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    recorder = Recorder(
        plan, spool_of(recording, farm.settings), farm.settings.data_dir, no_orders(), reporter
    )
    assert recorder.recorded_ns == 40 * 10**9
    assert plan.elsewhere.next_take == 4


async def test_company_should_be_known_to_a_node_that_takes_the_recording_over(farm: Farm) -> None:
    recording = farm.add(node=farm.settings.node)
    assert not plan_of(farm.records.get(None, recording.id), farm.settings).had_company
    reporter = Reporter(recording, farm.settings, farm.records, farm.redis)
    telling = asyncio.create_task(reporter.tell())
    await reporter.company_came()
    async with asyncio.timeout(5):
        await reporter.told(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    nodes = Nodes(farm.redis)
    nodes.beat(farm.settings.node, 1)
    assert nodes.mark_gone(farm.settings.node, nodes.beats()[farm.settings.node])
    taken = farm.records.claim(farm.records.get(None, recording.id), "node-2")
    assert plan_of(taken, farm.settings.model_copy(update={"node": "node-2"})).had_company


def test_killed_recorder_should_leave_evidence_for_who_goes_on_and_only_once(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, farm.settings)
    # It is the third time, so nobody goes on and no stage is needed.
    for seen in (False, True):
        recording = farm.add(meeting_id=f"seen-{seen}")
        farm.records.change_state(recording.id, Status.RECORDING, node=farm.settings.node)
        spool = spool_of(recording, farm.settings)
        spool.make()
        with spool.held():
            pass
        for _ in range(BREAKS - 1):
            spool.breaks_too_often()
        evidence = evidence_dir(farm.settings, str(recording.id))
        if seen:
            evidence.mkdir(parents=True)
            place = keep_death(evidence, spool.directory, describe_exit(9))
            assert place is not None
            note_seen(evidence, place)
        record(str(recording.id))
        assert farm.records.get(None, recording.id).status is Status.ERRORED
        (fault,) = fault_directories(evidence)
        told = json.loads((fault / "fault.json").read_text())
        assert told["kind"] == ("RecorderKilled" if seen else "RecorderDied")


async def no_orders() -> AsyncIterator[Order]:
    return
    yield


@pytest.mark.parametrize("around", [{}, {"locale": "fr-CA", "timezone": "America/Toronto"}])
def test_stage_that_waits_should_be_what_a_recording_like_the_last_one_needs(
    settings: Settings, around: dict[str, str]
) -> None:
    recording = new_recording(**around)
    needs = needs_of(format_of(recording), surroundings_of(recording, settings), settings)
    assert plan_of(recording, settings).stage == needs
    surroundings = needs.surroundings
    assert (surroundings.devices, surroundings.locale, surroundings.timezone) == (
        *(True, around.get("locale"), around.get("timezone")),
    )
    # The first one waits as the farm is set.
    set_so = settings.model_copy(update={"fake_devices": False, **around})
    first = surroundings_of(None, set_so)
    assert (first.devices, first.locale) == (False, around.get("locale"))
    assert plan_of(recording, set_so).stage == needs_of(format_of(recording), first, set_so)
