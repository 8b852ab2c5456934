"""A run: the recordings of a plan on a real farm, while what the plan says breaks."""

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import av
import httpx
import psutil

from chaos.client import Client, Recording
from chaos.faults import FAULTS, Fault, Group, Tree, look_at, recordings_hit, strike
from chaos.plan import PAUSE_SECONDS, Plan, PlannedFault, PlannedRecording
from chaos.report import Result, Struck
from testkit.network.ports import free_port
from testkit.running_farm import RunningFarm, running_farm

GRACE_SECONDS = 240.0
"""How long everything may take beyond what was planned, before it counts as stuck."""

VICTIM_SECONDS = 10.0
_LOOK_SECONDS = 0.2


class Run:
    """One run, in a data directory of its own."""

    def __init__(self, plan: Plan, data_dir: Path, slots: int) -> None:
        """Nothing starts yet."""
        self._plan = plan
        self._data_dir = data_dir
        self._settings = {
            # The same through all of its lives, for the pages that are at it.
            "FARM_PORT": str(free_port()),
            "FARM_SLOTS": str(slots),
            "FARM_INVOKE_TIMEOUT": str(round(plan.seconds * 2 + GRACE_SECONDS)),
            "FARM_RATE_LIMIT": "0",
        }
        self._began = 0.0
        self._seen: dict[str, Recording] = {}
        self.struck: list[Struck] = []

    async def results(self) -> Sequence[Result]:
        """Start the farm, make the recordings, end the farm, and look at what came of them."""
        with ExitStack() as lives:
            self._lives = lives
            self._farm = await asyncio.to_thread(self._start_farm)
            self._began = time.monotonic()
            async with httpx.AsyncClient(
                base_url=self._farm.client.base_url, auth=("acme", "key"), timeout=15
            ) as http:
                client = Client(http)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._plan.seconds * 1.5 + GRACE_SECONDS):
                        await self._play(client)
                for meeting, recording in self._seen.items():
                    self._seen[meeting] = await client.recording(recording["id"])
            await asyncio.to_thread(lives.close)
        return [await asyncio.to_thread(self._result, planned) for planned in self._plan.recordings]

    def _start_farm(self) -> RunningFarm:
        return self._lives.enter_context(running_farm(self._data_dir, **self._settings))

    async def _play(self, client: Client) -> None:
        """Make all recordings; what breaks, breaks until they are over."""
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(self._break(fault)) for fault in self._plan.faults]
            beside.append(group.create_task(self._keep_farm()))
            await asyncio.gather(*(self._record(planned, client) for planned in self._plan.recordings))
            for task in beside:
                task.cancel()

    async def _record(self, planned: PlannedRecording, client: Client) -> None:
        """One recording, from its start to its end."""
        limit = {} if planned.by_order else {"max_seconds": planned.seconds}
        recording = await client.start(planned.meeting, meeting_id=planned.meeting, **limit)
        recording_id = recording["id"]
        self._seen[planned.meeting] = recording
        await client.wait_for(recording_id, "RECORDING")
        left = float(planned.seconds)
        if planned.pause_after is not None:
            left -= planned.pause_after
            await asyncio.sleep(planned.pause_after)
            await client.order(recording_id, "pause")
            await client.wait_for(recording_id, "PAUSED")
            await asyncio.sleep(PAUSE_SECONDS)
            await client.order(recording_id, "resume")
        if planned.by_order:
            await asyncio.sleep(left)
            await client.order(recording_id, "stop")
        recording = await client.wait_for(recording_id)
        self._say(f"{planned.meeting} is {recording['status']}")

    async def _break(self, planned: PlannedFault) -> None:
        await asyncio.sleep(self._began + planned.at - time.monotonic())
        fault = FAULTS[planned.name]
        tree, groups = await self._victims(fault)
        if not groups:
            self._say(f"{planned.name}: there was none")
            return
        group = groups[int(planned.choice * len(groups))]
        hit = recordings_hit(tree, group, self._data_dir / "spool")
        strike(group, fault.sign)
        self.struck.append(Struck(time.monotonic() - self._began, planned.name, hit))
        names = [name for name, recording in self._seen.items() if recording["id"] in hit]
        self._say(f"{planned.name} {', '.join(sorted(names))}")
        if fault.for_seconds is not None:
            try:
                await asyncio.sleep(fault.for_seconds)
            finally:
                strike(group, signal.SIGCONT)

    async def _victims(self, fault: Fault) -> tuple[Tree, Sequence[Group]]:
        """Whom the fault can hit; between two recordings there may be nobody for a while."""
        end = time.monotonic() + VICTIM_SECONDS
        while True:
            try:
                tree = look_at(psutil.Process(self._farm.process.pid))
                groups = fault.find(tree)
            except psutil.NoSuchProcess:
                tree, groups = [], []
            if groups or time.monotonic() > end:
                return tree, groups
            await asyncio.sleep(_LOOK_SECONDS)

    async def _keep_farm(self) -> None:
        """Start the farm again when it was killed, as a service manager does."""
        while True:
            if self._farm.process.poll() is not None:
                self._farm = await asyncio.to_thread(self._start_farm)
                self._say("the farm is started again")
            await asyncio.sleep(_LOOK_SECONDS)

    def _result(self, planned: PlannedRecording) -> Result:
        recording = self._seen.get(planned.meeting)
        if recording is None or recording["status"] != "UPLOADED":
            return Result(planned, recording, None)
        file = self._data_dir / "store" / recording["id"] / recording["output_file_name"]
        return Result(planned, recording, played_seconds(file))

    def _say(self, words: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {words}", flush=True)


def played_seconds(file: Path) -> float | None:
    """How long a file plays, every frame of it decoded; None if it does not."""
    try:
        with av.open(str(file)) as media:
            frames = sum(1 for _ in media.decode(media.streams.video[0]))
            duration = media.duration
    except (OSError, av.FFmpegError):
        return None
    return duration / av.time_base if frames and duration is not None else None
