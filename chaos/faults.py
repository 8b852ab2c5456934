"""What can break. Victims are found in the process trees of one farm, never by name over the machine."""

import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil


@dataclass(frozen=True)
class Seen:
    """A process as it was when the tree was looked at."""

    process: psutil.Process
    parent: int
    name: str
    words: tuple[str, ...]


Tree = Sequence[Seen]
"""`farm up` and all processes below it, the farm first, and the same of the farm's other nodes."""

Group = Sequence[Seen]
"""Processes that are hit together."""


def look_at(farm: psutil.Process, *nodes: psutil.Process) -> Tree:
    """The tree of a farm. Raises psutil.NoSuchProcess when the farm or a node has ended."""
    tree = []
    for top in (farm, *nodes):
        for process in (top, *top.children(recursive=True)):
            with suppress(psutil.NoSuchProcess), process.oneshot():
                tree.append(Seen(process, process.ppid(), process.name(), tuple(process.cmdline())))
    return tree


@dataclass(frozen=True)
class Fault:
    """A signal to one of the groups that `find` finds in a tree.

    What is stopped for a while continues. With `loses_disk` the group is a node, whose data directory is
    deleted.
    """

    find: Callable[[Tree], Sequence[Group]]
    sign: signal.Signals
    for_seconds: float | None = None
    loses_disk: bool = False


def _named(name: str) -> Callable[[Tree], Sequence[Group]]:
    return lambda tree: [(each,) for each in tree if each.name == name]


def _browsers(tree: Tree) -> Sequence[Group]:
    chromium = (each for each in tree if each.name.startswith("chrom"))
    # All others that Chromium has say what they are.
    return [(each,) for each in chromium if not any(word.startswith("--type=") for word in each.words)]


def _pages(tree: Tree) -> Sequence[Group]:
    return [(each,) for each in tree if "--type=renderer" in each.words]


def _recorders(tree: Tree) -> Sequence[Group]:
    """RQ's work horses that record: the displays are their children."""
    return _parents(tree, _named("Xorg")(tree))


def _slots(tree: Tree) -> Sequence[Group]:
    return _parents(tree, _recorders(tree))


def _parents(tree: Tree, groups: Sequence[Group]) -> Sequence[Group]:
    wanted = {each.parent for group in groups for each in group}
    return [(each,) for each in tree if each.process.pid in wanted]


def _part(name: str) -> Callable[[Tree], Sequence[Group]]:
    """A part of `farm up`, with everything below it."""
    return lambda tree: [
        _with_all_below(tree, each)
        for each in tree
        if each.parent == tree[0].process.pid and name in (each.name, *each.words)
    ]


def _workers(tree: Tree) -> Sequence[Group]:
    return [*_part("worker")(tree), *_nodes(tree)]


def _nodes(tree: Tree) -> Sequence[Group]:
    """The other nodes: what started the farm started them, too."""
    farm = tree[0]
    return [_with_all_below(tree, each) for each in tree if each.parent == farm.parent and each is not farm]


def _recording_nodes(tree: Tree) -> Sequence[Group]:
    """Other nodes with an encoder."""
    return [node for node in _nodes(tree) if any(each.name == "ffmpeg" for each in node)]


def _whole(tree: Tree) -> Sequence[Group]:
    return [_with_all_below(tree, tree[0])]


def _with_all_below(tree: Tree, top: Seen) -> Group:
    children = [each for each in tree if each.parent == top.process.pid]
    return [top, *(each for child in children for each in _with_all_below(tree, child))]


FAULTS: Final[Mapping[str, Fault]] = {
    "encoder killed": Fault(_named("ffmpeg"), signal.SIGKILL),
    "encoder stopped": Fault(_named("ffmpeg"), signal.SIGSTOP),
    "display killed": Fault(_named("Xorg"), signal.SIGKILL),
    "display stopped": Fault(_named("Xorg"), signal.SIGSTOP),
    "sound killed": Fault(_named("pulseaudio"), signal.SIGKILL),
    "sound stopped": Fault(_named("pulseaudio"), signal.SIGSTOP),
    "browser killed": Fault(_browsers, signal.SIGKILL),
    "browser stopped": Fault(_browsers, signal.SIGSTOP),
    "page killed": Fault(_pages, signal.SIGKILL),
    "page stopped": Fault(_pages, signal.SIGSTOP),
    "recorder killed": Fault(_recorders, signal.SIGKILL),
    "slot killed": Fault(_slots, signal.SIGKILL),
    "worker killed": Fault(_workers, signal.SIGKILL),
    "API killed": Fault(_part("recording_farm.api"), signal.SIGKILL),
    "API stopped for 10 s": Fault(_part("recording_farm.api"), signal.SIGSTOP, 10),
    "Redis killed": Fault(_part("redis-server"), signal.SIGKILL),
    "Redis stopped for 10 s": Fault(_part("redis-server"), signal.SIGSTOP, 10),
    "farm killed": Fault(_whole, signal.SIGKILL),
    "node lost with its disk": Fault(_recording_nodes, signal.SIGKILL, loses_disk=True),
}


def strike(group: Group, sign: signal.Signals) -> None:
    """Send a signal to all of a group; some may have ended meanwhile."""
    for each in group:
        with suppress(psutil.NoSuchProcess):
            each.process.send_signal(sign)


def recordings_hit(tree: Tree, group: Group, spools: Sequence[Path]) -> frozenset[str]:
    """The ids of the recordings whose recorder is in the group, above one of it or below."""
    struck = {each.process.pid for each in group}
    hit: set[str] = set()
    for (recorder,) in _recorders(tree):
        with suppress(psutil.NoSuchProcess):
            above = {parent.pid for parent in recorder.process.parents()}
            below = {each.process.pid for each in _with_all_below(tree, recorder)}
            if struck & (above | below):
                hit |= _recordings_of(recorder.process, spools)
    return frozenset(hit)


def _recordings_of(recorder: psutil.Process, spools: Sequence[Path]) -> set[str]:
    """A recorder holds a file in the spool of its recording open."""
    files = [Path(file.path) for file in recorder.open_files()]
    return {
        file.relative_to(spool).parts[0] for file in files for spool in spools if file.is_relative_to(spool)
    }
