import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from recording_farm.browser_bot.stage import cleanup
from recording_farm.browser_bot.stage.cleanup import (
    OWNER,
    PREFIX,
    UNOWNED_SECONDS,
    Sweeper,
    clean_up_stages,
    write_owner,
)

DEAD = "4194303 1"  # the largest process id that Linux gives


def stage_of(owner: str | None, root: Path, name: str = "stage") -> Path:
    directory = root / f"{PREFIX}{name}"
    (directory / "profile").mkdir(parents=True)
    (directory / "profile" / "file").write_text("x")
    if owner is not None:
        (directory / OWNER).write_text(owner)
    return directory


@pytest.fixture
def sleeper() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Programs of a test, which are gone after it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for program in started:
        program.kill()
        program.wait()


def test_stage_of_a_dead_owner_should_be_swept_with_its_programs(
    tmp_path: Path, sleeper: list[subprocess.Popen[bytes]]
) -> None:
    directory = stage_of(DEAD, tmp_path)
    by_environment = subprocess.Popen(["sleep", "60"], env=os.environ | {"HOME": str(directory)})
    by_words = subprocess.Popen(["bash", "-c", "sleep 60; true", f"--profile={directory}/profile"])
    stranger = subprocess.Popen(["sleep", "60"])
    sleeper.extend([by_environment, by_words, stranger])

    assert clean_up_stages(tmp_path) == 1
    assert not directory.exists()
    # Waiting for them, the sweep has buried them too.
    assert not psutil.pid_exists(by_environment.pid)
    assert not psutil.pid_exists(by_words.pid)
    assert stranger.poll() is None
    assert clean_up_stages(tmp_path) == 0


def test_stage_of_a_process_that_has_died_should_be_found_until_it_is_swept(tmp_path: Path) -> None:
    stage_of(None, tmp_path, "nobody's")
    write_owner(stage_of(None, tmp_path, "mine"))
    pid = int(DEAD.split()[0])
    assert cleanup.find_orphan(pid, tmp_path) is None
    older = stage_of(DEAD, tmp_path, "older")
    os.utime(older, (1, 1))
    newest = stage_of(DEAD, tmp_path, "newest")
    assert cleanup.find_orphan(pid, tmp_path) == newest
    assert cleanup.find_orphan(os.getpid(), tmp_path) is None
    clean_up_stages(tmp_path)
    assert cleanup.find_orphan(pid, tmp_path) is None


def test_stage_of_a_living_owner_should_be_left_alone(
    tmp_path: Path, sleeper: list[subprocess.Popen[bytes]]
) -> None:
    directory = stage_of(None, tmp_path)
    write_owner(directory)
    program = subprocess.Popen(["sleep", "60"], env=os.environ | {"HOME": str(directory)})
    sleeper.append(program)

    assert clean_up_stages(tmp_path) == 0
    assert (directory / "profile" / "file").exists()
    assert program.poll() is None


def test_owner_whose_number_another_process_has_now_should_count_as_dead(tmp_path: Path) -> None:
    stage_of(f"{os.getpid()} 12345", tmp_path)
    assert clean_up_stages(tmp_path) == 1


def test_owner_that_is_dead_but_not_buried_should_count_as_dead(tmp_path: Path) -> None:
    directory = stage_of(None, tmp_path)
    owner = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sys; from pathlib import Path; "
            "from recording_farm.browser_bot.stage.cleanup import write_owner;"
            "write_owner(Path(sys.argv[1]))",
            str(directory),
        ],
        cwd=Path(cleanup.__file__).parents[2],
    )
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    assert clean_up_stages(tmp_path) == 1
    assert owner.wait(5) == 0


def test_owner_should_live_on_when_the_clock_is_set(tmp_path: Path) -> None:
    directory = stage_of(None, tmp_path)
    write_owner(directory)
    # The time of day in it would move with the clock; ticks since boot do not.
    started = int((directory / OWNER).read_text().split()[1])
    ticks = os.sysconf("SC_CLK_TCK")
    assert 0 < started / ticks <= time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize("owner", [None, "", "nonsense", "1", "1 2 3", "x y"])
def test_stage_without_a_readable_owner_should_be_swept_when_it_is_not_being_made(
    owner: str | None, tmp_path: Path
) -> None:
    directory = stage_of(owner, tmp_path)
    assert clean_up_stages(tmp_path) == 0
    before = time.time() - UNOWNED_SECONDS - 1
    os.utime(directory, (before, before))
    assert clean_up_stages(tmp_path) == 1
    assert not directory.exists()


def test_what_is_no_stage_of_this_user_should_be_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / OWNER).write_text(DEAD)
    (tmp_path / f"{PREFIX}link").symlink_to(target)
    (tmp_path / f"{PREFIX}file").write_text(DEAD)
    (tmp_path / f"{PREFIX}broken").symlink_to(tmp_path / "missing")
    if os.geteuid() == 0:
        os.chown(stage_of(DEAD, tmp_path, "foreign"), 12345, 12345)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert clean_up_stages(tmp_path) == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_symlink_in_a_swept_stage_should_not_be_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "precious").write_text("x")
    (stage_of(DEAD, tmp_path) / "link").symlink_to(target)
    assert clean_up_stages(tmp_path) == 1
    assert (target / "precious").exists()


def test_missing_root_should_hold_no_stages(tmp_path: Path) -> None:
    assert clean_up_stages(tmp_path / "missing") == 0


def test_all_stages_of_dead_owners_should_be_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage_of(DEAD, tmp_path, "one")
    stage_of(DEAD, tmp_path, "two")
    with caplog.at_level(logging.INFO):
        clean_up_stages(tmp_path)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "removed 2 stages of dead recorders, killed 0 programs")
    ]


def test_sweep_should_remove_an_orphaned_stage_at_the_second_pass_and_never_a_living_one(
    tmp_path: Path,
) -> None:
    orphan, living = stage_of(DEAD, tmp_path, "orphan"), stage_of(None, tmp_path, "living")
    write_owner(living)
    sweeper = Sweeper(tmp_path, tmp_path)
    sweeper.sweep()
    assert orphan.exists()
    sweeper.sweep()
    assert not orphan.exists()
    assert living.exists()


def test_sweep_should_remove_the_socket_of_a_killed_x_server_and_never_a_living_one(tmp_path: Path) -> None:
    dead, young, living, other = (tmp_path / name for name in ("X1", "X2", "X3", "pulse"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(living))
        server.listen(0)
        for path in (dead, young, other):
            with socket.socket(socket.AF_UNIX) as gone:
                gone.bind(str(path))
        before = time.time() - UNOWNED_SECONDS - 1
        for path in (dead, living, other):
            os.utime(path, (before, before))
        sweeper = Sweeper(tmp_path, tmp_path)
        for _ in range(3):  # the living one's queue is full then
            sweeper.sweep()
    assert {path.name for path in tmp_path.iterdir()} == {"X2", "X3", "pulse"}
