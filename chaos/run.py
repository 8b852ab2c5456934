"""A run: the recordings of a plan on a real farm, while what the plan says breaks."""

import asyncio
import json
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import av
import httpx
import psutil

from chaos.client import Client, Recording
from chaos.faults import FAULTS, Fault, Group, Tree, look_at, recordings_hit, strike
from chaos.nodes import Nodes
from chaos.plan import PAUSE_SECONDS, Plan, PlannedFault, PlannedRecording
from chaos.report import Result, Struck
from chaos.storages import Storages
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.webhooks.signature import load_signing_key
from testkit.network.ports import free_port
from testkit.running_farm import RunningFarm, running_farm

HOME = "home"
"""The node of `farm up`."""

GRACE_SECONDS = 240.0
"""How long everything may take beyond what was planned, before it counts as stuck."""

VICTIM_SECONDS = 10.0
_LOOK_SECONDS = 0.2


class Run:
    """One run: a farm of two nodes in a directory, each with a data directory of its own there."""

    def __init__(self, plan: Plan, directory: Path, slots: int) -> None:
        """Nothing starts yet. `farm up` has the half of the slots, the other node the rest."""
        self._plan = plan
        self._directory = directory
        self._data_dir = directory / HOME
        self._slots = slots
        self._port = str(free_port())
        self._began = 0.0
        self._seen: dict[str, Recording] = {}
        self.struck: list[Struck] = []
        self.unfinished: list[str] = []
        """What is left in the storages at the end that nobody will finish."""

    async def results(self) -> Sequence[Result]:
        """Start the farm, make the recordings, end the farm, and look at what came of them."""
        with ExitStack() as servers, ExitStack() as lives:
            self._lives = lives
            self._storages = Storages(self._directory / "storages", self._plan.store, servers)
            settings = self._settings()
            redis_url = Settings(data_dir=self._data_dir, redis_url=None).embedded_redis_address
            self._nodes = Nodes(self._directory, settings | {"FARM_REDIS_URL": redis_url})
            lives.callback(self._nodes.end)
            self._farm_settings = settings
            self._farm = await asyncio.to_thread(self._start_farm)
            self._nodes.keep()
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
            (self._directory / "recordings.json").write_text(json.dumps(self._seen, indent=1))
            self.unfinished = await asyncio.to_thread(lambda: list(self._storages.unfinished()))
            return [await asyncio.to_thread(self._result, planned) for planned in self._plan.recordings]

    def _settings(self) -> dict[str, str]:
        """The settings of all machines."""
        key_dir = self._directory / "key"
        load_signing_key(Settings(data_dir=key_dir, redis_url=None))
        (key,) = key_dir.iterdir()
        return {
            "FARM_WEBHOOK_KEY": str(key),
            "FARM_SECRET_KEY": token_hex(16),
            "FARM_ALLOW_PRIVATE_ADDRESSES": "all",
            "FARM_SLOTS": str(self._slots - self._slots // 2),
            "FARM_MAX_LOAD": "1",
            "FARM_INVOKE_TIMEOUT": str(round(self._plan.seconds * 2 + GRACE_SECONDS)),
            **self._storages.settings,
        }

    def _start_farm(self) -> RunningFarm:
        own = {
            "FARM_NODE": HOME,
            # The same through all of its lives, for the pages that are at it.
            "FARM_PORT": self._port,
            "FARM_SLOTS": str(self._slots // 2),
            "FARM_RATE_LIMIT": "0",
        }
        return self._lives.enter_context(running_farm(self._data_dir, **self._farm_settings | own))

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
        wanted = limit | self._storages.target(planned.customer)
        recording = await client.start(planned.meeting, meeting_id=planned.meeting, **wanted)
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
        spools = [self._data_dir / "spool", *(node.spool for node in self._nodes.all)]
        hit = recordings_hit(tree, group, spools)
        lost = datetime.now(UTC) if fault.loses_disk else None
        # Before the strike: otherwise it could be started again at once.
        node = self._nodes.give_up(group[0].process.pid) if fault.loses_disk else None
        strike(group, fault.sign)
        if node is not None:
            await asyncio.to_thread(psutil.wait_procs, [each.process for each in group], VICTIM_SECONDS)
            hit |= await asyncio.to_thread(node.lose_disk)
        self.struck.append(Struck(time.monotonic() - self._began, planned.name, hit, lost))
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
                nodes = [psutil.Process(node.process.pid) for node in self._nodes.all if not node.is_lost]
                tree = look_at(psutil.Process(self._farm.process.pid), *nodes)
                groups = fault.find(tree)
            except psutil.NoSuchProcess:
                tree, groups = [], []
            if groups or time.monotonic() > end:
                return tree, groups
            await asyncio.sleep(_LOOK_SECONDS)

    async def _keep_farm(self) -> None:
        """Start the farm and its other node again when they were killed, as a service manager does."""
        while True:
            if (name := self._nodes.keep()) is not None:
                self._say(f"{name} is started")
            if self._farm.process.poll() is not None:
                self._farm = await asyncio.to_thread(self._start_farm)
                self._say("the farm is started again")
            await asyncio.sleep(_LOOK_SECONDS)

    def _result(self, planned: PlannedRecording) -> Result:
        recording = self._seen.get(planned.meeting)
        if recording is None:
            return Result(planned, None, None)
        hits = tuple(each for each in self.struck if recording["id"] in each.recordings)
        if recording["status"] != "UPLOADED":
            return Result(planned, recording, None, hits)
        name = recording["output_file_name"]
        file = self._storages.fetch(recording["id"], name, self._directory / name)
        return Result(planned, recording, played_seconds(file), hits)

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
