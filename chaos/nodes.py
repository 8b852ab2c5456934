"""The nodes of a farm besides that of `farm up`: workers with data directories of their own.

A node that was killed is started again. One that lost its disk, too, never comes back; another one with an
empty disk takes its place, as a new machine or pod would.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_END_SECONDS = 60


@dataclass
class Node:
    """A running worker."""

    name: str
    data_dir: Path
    process: "subprocess.Popen[bytes]"
    is_lost: bool = False

    @property
    def spool(self) -> Path:
        """Where its takes are."""
        return self.data_dir / "spool"

    def lose_disk(self) -> frozenset[str]:
        """Delete the disk, once the node is killed; returns the ids of the recordings that were on it."""
        self.process.wait(_END_SECONDS)
        spools: frozenset[str] = frozenset()
        with suppress(FileNotFoundError):
            spools = frozenset(spool.name for spool in self.spool.iterdir())
        shutil.rmtree(self.data_dir)
        return spools


class Nodes:
    """Runs one node at a time."""

    def __init__(self, directory: Path, settings: Mapping[str, str]) -> None:
        """Nothing starts yet. `settings` are those of all machines, with the address of Redis."""
        self._directory = directory
        self._settings = settings
        self.all: list[Node] = []
        """Also those that are lost, the present one last."""

    def keep(self) -> str | None:
        """Start a node if none runs; returns its name if so."""
        last = self.all[-1] if self.all else None
        if last is not None and last.process.poll() is None:
            return None
        if last is not None and not last.is_lost:
            last.process = self._start(last.name, last.data_dir)
            return last.name
        name = f"node-{len(self.all) + 2}"
        data_dir = self._directory / name
        self.all.append(Node(name, data_dir, self._start(name, data_dir)))
        return name

    def give_up(self, pid: int) -> Node:
        """Start the node with this process no more, once it is killed; another one takes its place."""
        (node,) = (node for node in self.all if node.process.pid == pid)
        node.is_lost = True
        return node

    def end(self) -> None:
        """End the present one."""
        for node in self.all:
            node.process.send_signal(signal.SIGTERM)
            try:
                node.process.wait(_END_SECONDS)
            finally:
                node.process.kill()

    def _start(self, name: str, data_dir: Path) -> "subprocess.Popen[bytes]":
        data_dir.mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FARM_")}
        own = {"FARM_NODE": name, "FARM_DATA_DIR": str(data_dir)}
        with (self._directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "recording_farm.farm.cli", "-v", "worker"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=inherited | dict(self._settings) | own, start_new_session=True,
            )  # fmt: skip
