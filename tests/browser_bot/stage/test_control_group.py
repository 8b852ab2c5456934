"""Control groups, against a tree of files like the kernel's (cgroup-v2.rst): few test machines have one."""

import os
from pathlib import Path

import pytest

from recording_farm.browser_bot.stage import control_group
from recording_farm.browser_bot.stage.control_group import (
    broken_limit,
    make_group,
    prepare,
    remove_groups_without_stage,
    stages_group,
    why_not_divisible,
)

SERVICE = "system.slice/recording-farm.service"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine's cgroup v2 on which the farm is a service, with two processes."""
    group = tmp_path / "cgroup" / SERVICE
    group.mkdir(parents=True)
    for name, content in {
        "cgroup.events": "populated 1\nfrozen 0\n",
        "cgroup.controllers": "cpuset cpu io memory pids\n",
        "cgroup.subtree_control": "",
        "cgroup.procs": "10\n11\n",
    }.items():
        (group / name).write_text(content)
    (tmp_path / "own").write_text(f"1:name=systemd:/other\n0::/{SERVICE}\n")
    return tmp_path / "cgroup"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Everything that is written, by file and content: the kernel's files add to what they have."""
    written: list[tuple[str, str]] = []
    write = Path.write_text

    def note(path: Path, content: str, *arguments: str) -> int:
        written.append((f"{path.parent.name}/{path.name}", content))
        return write(path, content, *arguments)

    monkeypatch.setattr(Path, "write_text", note)
    return written


def delegate(monkeypatch: pytest.MonkeyPatch, *, name: str = "user.delegate") -> None:
    """Have the attribute that systemd gives a group with Delegate=yes; a test's disk may have none."""

    def getxattr(_: Path, asked: str) -> bytes:
        if asked == name:
            return b"1"
        raise OSError

    monkeypatch.setattr(os, "getxattr", getxattr)


@pytest.mark.parametrize("attribute", ["user.delegate", "trusted.delegate"])
def test_delegated_group_should_be_divided_into_the_farm_and_stages(
    root: Path, monkeypatch: pytest.MonkeyPatch, written: list[tuple[str, str]], attribute: str
) -> None:
    delegate(monkeypatch, name=attribute)
    own = root.parent / "own"
    assert (why_not_divisible(root, own), stages_group(root, own)) == ("", None)
    assert prepare(root, own) == ""
    assert written == [
        ("farm/cgroup.procs", "10"),
        ("farm/cgroup.procs", "11"),
        ("recording-farm.service/cgroup.subtree_control", "+memory"),
        ("recording-farm.service/cgroup.subtree_control", "+pids"),
        ("recording-farm.service/cgroup.subtree_control", "+cpu"),
        ("farm/cpu.weight", "500"),
    ]


def test_stage_should_get_a_group_beside_the_farms(root: Path, written: list[tuple[str, str]]) -> None:
    own = root.parent / "own"
    (root / SERVICE / "farm").mkdir()
    (root / SERVICE / "farm" / "cgroup.events").touch()
    (root / SERVICE / "cgroup.subtree_control").write_text("cpu memory pids\n")
    own.write_text(f"0::/{SERVICE}/farm\n")
    parent = stages_group(root, own)
    assert parent == root / SERVICE
    # A restarted worker, and doctor in the farm's group, find it divided.
    assert (why_not_divisible(root, own), prepare(root, own)) == ("", "")
    written.clear()
    group = make_group(parent, "farm-stage-a", memory=1 << 30, tasks=2000)
    assert group == parent / "farm-stage-a"
    assert dict(written) == {
        "farm-stage-a/pids.max": "2000",
        "farm-stage-a/memory.max": str(1 << 30),
        "farm-stage-a/memory.swap.max": "0",
        "farm-stage-a/memory.oom.group": "1",
    }


@pytest.mark.parametrize(
    ("is_delegated", "controllers", "lines", "reason"),
    [
        (False, "memory pids", f"0::/{SERVICE}", "is not delegated (Delegate=yes)"),
        (True, "cpu memory", f"0::/{SERVICE}", "has no controllers for memory and pids"),
        (True, "memory pids", "0::/", "the farm has no control group of its own (cgroup v2)"),
        (True, "memory pids", "4:memory:/x", "the farm has no control group of its own (cgroup v2)"),
    ],
)
def test_group_that_is_not_the_farms_should_be_left_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, is_delegated: bool, controllers: str, lines: str, reason: str
) -> None:
    delegate(monkeypatch, name="user.delegate" if is_delegated else "other")
    (root / SERVICE / "cgroup.controllers").write_text(controllers)
    (root.parent / "own").write_text(lines)
    before = sorted(root.rglob("*"))
    assert prepare(root, root.parent / "own").endswith(reason)
    assert stages_group(root, root.parent / "own") is None
    assert sorted(root.rglob("*")) == before


def test_limit_that_the_kernel_enforced_should_be_known(tmp_path: Path) -> None:
    assert broken_limit(tmp_path) is None
    (tmp_path / "pids.events").write_text("max 0\n")
    (tmp_path / "memory.events").write_text("low 0\nmax 7\noom 1\noom_kill 0\n")
    assert broken_limit(tmp_path) is None
    (tmp_path / "pids.events").write_text("max 3\n")
    assert broken_limit(tmp_path) == "tasks"
    (tmp_path / "memory.events").write_text("oom_kill 9\n")
    assert broken_limit(tmp_path) == "memory"


def test_groups_of_stages_that_are_gone_should_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    monkeypatch.setattr(control_group, "remove_group", lambda group: removed.append(group.name))
    for name in ("farm", "farm-stage-a", "farm-stage-b"):
        (tmp_path / name).mkdir()
    remove_groups_without_stage(tmp_path, "farm-stage-", {"farm-stage-a"})
    assert removed == ["farm-stage-b"]


def test_group_that_cannot_be_made_should_be_none(tmp_path: Path) -> None:
    assert make_group(tmp_path / "missing", "farm-stage-a", 1, 1) is None
    control_group.remove_group(tmp_path / "missing")
