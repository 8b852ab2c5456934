"""What a recorder is to do, made from the record."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.jobs.plan import plan_of
from recording_farm.farm.jobs.reporter import Reporter
from recording_farm.farm.nodes.registry import Nodes
from recording_farm.farm.pages.access import environment_of
from recording_farm.farm.recorder.recorder import Recorder
from recording_farm.farm.recording.commands import Command
from recording_farm.farm.recording.formats import format_of
from recording_farm.farm.recording.model import TimelineEntry
from recording_farm.farm.spool.spool import spool_of
from recording_farm.farm.worker.slot import needs_of
from testkit.farm import Farm
from testkit.recordings import new_recording


async def no_orders() -> AsyncIterator[Command]:
    return
    yield


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
    telling = asyncio.create_task(reporter.run())
    await reporter.participant_joined()
    async with asyncio.timeout(5):
        await reporter.flush(60)
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)
    nodes = Nodes(farm.redis)
    nodes.beat(farm.settings.node, 1)
    assert nodes.mark_gone(farm.settings.node, nodes.beats()[farm.settings.node])
    taken = farm.records.claim(farm.records.get(None, recording.id), "node-2")
    assert plan_of(taken, farm.settings.model_copy(update={"node": "node-2"})).had_company


@pytest.mark.parametrize("around", [{}, {"locale": "fr-CA", "timezone": "America/Toronto"}])
def test_stage_that_waits_should_be_what_a_recording_like_the_last_one_needs(
    settings: Settings, around: dict[str, str]
) -> None:
    recording = new_recording(**around)
    needs = needs_of(format_of(recording), environment_of(recording, settings), settings)
    assert plan_of(recording, settings).stage == needs
    environment = needs.environment
    assert (environment.devices, environment.locale, environment.timezone) == (
        *(True, around.get("locale"), around.get("timezone")),
    )
    # The first one waits as the farm is set.
    set_so = settings.model_copy(update={"fake_devices": False, **around})
    first = environment_of(None, set_so)
    assert (first.devices, first.locale) == (False, around.get("locale"))
    assert plan_of(recording, set_so).stage == needs_of(format_of(recording), first, set_so)
