"""What the box of a stage keeps a page from, and what it sees of its use."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from recording_farm.browser_bot.errors import StageLimitError
from recording_farm.browser_bot.stage import enter_box
from recording_farm.browser_bot.stage.box import (
    NO_LIMITS,
    Box,
    BoxUse,
    Resource,
    StageLimits,
    box_command,
    broken_limit,
    directory_size,
    is_near,
    storage_switches,
)
from recording_farm.browser_bot.stage.stage import Stage, open_stage
from testkit.browser_bot.sites import Site, open_site

LIMITS = StageLimits(disk=64 << 20, memory=4 << 30, tasks=1000)
UNMOUNTED = "no mounts are allowed here"

OPFS = """async () => {
  const root = await navigator.storage.getDirectory();
  let written = 0;
  try {
    const stream = await (await root.getFileHandle("f", {create: true})).createWritable();
    while (written < 300) { await stream.write(new Uint8Array(1 << 20).fill(1)); written++; }
    await stream.close();
  } catch (error) { return [written, error.name]; }
  return [written, ""];
}"""
ALLOCATE = """() => {
  window.kept = [];
  const more = () => { kept.push(new Uint8Array(1 << 25).fill(1)); setTimeout(more, 20); };
  more();
}"""
FORK = """() => {
  window.workers = [];
  const url = URL.createObjectURL(new Blob(["setInterval(() => 1, 1000)"]));
  const more = () => { for (let i = 0; i < 5; i++) workers.push(new Worker(url)); setTimeout(more, 20); };
  more();
}"""


def can_mount() -> bool:
    check = [sys.executable, "-I", "-S", enter_box.__file__, "--check"]
    return subprocess.run(check, capture_output=True, timeout=10, check=False).returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason=UNMOUNTED)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with open_stage(320, 180, 30, limits=LIMITS) as stage:
        yield stage


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site() -> AsyncIterator[Site]:
    async with open_site() as site:
        yield site


@needs_mounts
@pytest.mark.asyncio(loop_scope="module")
async def test_page_that_stores_without_end_should_get_an_error_and_leave_the_disk_alone(
    stage: Stage, site: Site
) -> None:
    assert stage.box.is_mounted, stage.box.reason
    await stage.browser.page.goto(site.add("/", "<p>stores"))
    written, error = await stage.browser.page.evaluate(OPFS)
    assert (written < 64, error) == (True, "QuotaExceededError")
    use = stage.box_use()
    assert 4 << 20 < use.disk < LIMITS.disk
    assert use.memory > use.disk
    # On the machine's own disk is what the farm itself wrote.
    assert directory_size(stage.directory, 1000)[0] < 2 << 20


@needs_mounts
@pytest.mark.asyncio(loop_scope="module")
async def test_browser_should_be_able_to_write_nowhere_but_in_its_box(stage: Stage) -> None:
    root = Path(f"/proc/{stage.browser.pid}/root")
    home = stage.directory / enter_box.HOME
    assert os.statvfs(f"{root}{home}").f_blocks * os.statvfs(f"{root}{home}").f_frsize == LIMITS.disk
    for directory in (stage.directory, "/tmp", "/var/tmp", "/usr"):
        assert os.statvfs(f"{root}{directory}").f_flag & os.ST_RDONLY, directory
    assert not os.statvfs(stage.directory).f_flag & os.ST_RDONLY


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("script", "limits", "resource"),
    [
        (ALLOCATE, StageLimits(memory=500 << 20), "memory"),
        (FORK, StageLimits(tasks=200), "tasks"),
    ],
)
async def test_page_that_takes_too_much_should_be_the_death_of_its_stage(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch, script: str, limits: StageLimits, resource: str
) -> None:
    await stage.browser.page.goto(site.add(f"/{resource}", "<p>takes"))
    dying = asyncio.ensure_future(stage.died())
    await asyncio.sleep(0)
    monkeypatch.setattr(stage.box, "limits", limits)
    await stage.browser.page.evaluate(script)
    async with asyncio.timeout(20):
        error = await dying
    await stage.browser.page.goto("about:blank")
    assert isinstance(error, StageLimitError)
    assert error.resource == resource


async def test_stage_without_mounts_should_look_at_its_directory(tmp_path: Path) -> None:
    (tmp_path / enter_box.REPORT).write_text(UNMOUNTED)
    home = tmp_path / enter_box.HOME
    (home / "below").mkdir(parents=True)
    (home / "below" / "file").write_bytes(bytes(100_000))
    (home / "link").symlink_to("/usr")
    box = Box(tmp_path, LIMITS, os.getpid())
    use = box.use([os.getpid()])
    assert (box.is_mounted, box.reason, use.files) == (False, UNMOUNTED, 3)
    assert 100_000 <= use.disk < 200_000
    assert use.memory > 1 << 20
    assert use.tasks >= 1


def test_look_at_a_directory_of_many_files_should_end_soon(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / str(number)).touch()
    assert directory_size(tmp_path, 20)[1] == 21
    assert directory_size(tmp_path / "missing", 20) == (0, 0)


@pytest.mark.parametrize(
    ("use", "broken"),
    [
        (BoxUse(disk=90, files=10, memory=1000, tasks=20), None),
        (BoxUse(disk=95, files=10, memory=10, tasks=1), Resource.DISK),
        (BoxUse(disk=1, files=19_500, memory=10, tasks=1), Resource.DISK),
        (BoxUse(disk=1, files=10, memory=1001, tasks=1), Resource.MEMORY),
        (BoxUse(disk=1, files=10, memory=10, tasks=21), Resource.TASKS),
    ],
)
def test_limit_should_be_broken_by_what_is_above_it(use: BoxUse, broken: Resource | None) -> None:
    limits = StageLimits(disk=100, memory=1000, tasks=20)
    assert broken_limit(use, limits) is broken
    assert broken_limit(use, NO_LIMITS) is None


def test_stage_should_be_looked_at_more_often_near_a_limit() -> None:
    limits = StageLimits(disk=100, memory=1000, tasks=20)
    assert not is_near(BoxUse(50, 1, 500, 10), limits)
    assert is_near(BoxUse(51, 1, 1, 1), limits)
    assert is_near(BoxUse(1, 1, 501, 1), limits)
    assert is_near(BoxUse(1, 1, 1, 11), limits)
    assert not is_near(BoxUse(1 << 40, 1, 1 << 40, 99), NO_LIMITS)


def test_stage_without_a_limit_of_its_disk_should_have_chromiums_own() -> None:
    assert storage_switches(NO_LIMITS) == ([], [])


PROGRAM = """
import os, resource, sys, threading, time
home, outside = sys.argv[1:]
print(open(home + "/profile/kept").read(), oct(os.stat(home + "/profile").st_mode & 0o777))
for path in (home + "/big", outside + "/big"):
    try:
        with open(path, "wb") as file:
            for _ in range(100):
                file.write(bytes(1 << 20))
    except OSError as error:
        print(error.strerror)
os.truncate(home + "/big", 0)
started = 0
try:
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(0.5,), daemon=True).start()
        started += 1
except RuntimeError:
    pass
print(started < 60, resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_DATA)[0])
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")])
"""


@needs_mounts
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a program as somebody else")
def test_ordinary_user_should_have_the_same_box_and_a_limit_of_processes(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    stage, outside = tmp_path / "stage", tmp_path / "outside"
    (stage / "home" / "profile").mkdir(parents=True)
    (stage / "home" / "profile").chmod(0o700)
    (stage / "home" / "profile" / "kept").write_text("kept")
    outside.mkdir()
    for path in (outside, stage, *stage.rglob("*")):
        os.chown(path, 12345, 12345)
    # Not the interpreter of a virtual environment, which the other user may be unable to reach.
    _, *words = box_command(stage, StageLimits(disk=8 << 20, memory=1 << 30, tasks=50))
    words[2] = "/proc/self/fd/0"
    with Path(enter_box.__file__).open("rb") as program:
        done = subprocess.run(
            ["/usr/bin/python3", *words, "/usr/bin/python3", "-c", PROGRAM, f"{stage}/home", str(outside)],
            stdin=program, capture_output=True, text=True, timeout=30, check=False, user=12345, group=12345,
            extra_groups=[], cwd="/",
        )  # fmt: skip
    assert done.stdout.splitlines() == [
        "kept 0o700",
        "No space left on device",
        "Read-only file system",
        f"True (0, 0) {1 << 30}",
        "['0000000000000000']",
    ], done.stderr
    assert (stage / enter_box.REPORT).read_text() == ""
    assert not (stage / "home" / "big").exists()
