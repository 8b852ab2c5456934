from fractions import Fraction
from pathlib import Path

import psutil
import pytest

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.host.resources import Free, Processors, cores, memory, slots_for, what_is_free
from recording_farm.farm.worker.admission import refusal

GIB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "memory", "slots"),
    [
        (Fraction(2), 24 * GIB, 2),
        (Fraction(1), 4 * GIB, 1),
        (Fraction(1, 2), 4 * GIB, 1),
        (Fraction(4), 16 * GIB, 5),
        (Fraction(16), 8 * GIB, 7),
        (Fraction(16), GIB // 2, 1),
    ],
)
def test_slots_should_be_as_many_as_cores_and_memory_are_good_for(
    cores: Fraction, memory: int, slots: int
) -> None:
    assert slots_for(cores, memory) == slots


def test_container_should_count_with_what_it_was_given(tmp_path: Path) -> None:
    whole = cores(tmp_path), memory(tmp_path)
    assert whole == (cores(), psutil.virtual_memory().total)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert (cores(tmp_path), memory(tmp_path)) == whole
    (tmp_path / "cpu.max").write_text("75000 100000\n")
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    assert (cores(tmp_path), memory(tmp_path)) == (Fraction(3, 4), GIB)
    (tmp_path / "memory.current").write_text(f"{GIB - 300}\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 200\nactive_file 7\n")
    assert what_is_free(tmp_path, Processors(), tmp_path).memory == 500


def test_free_should_be_what_the_machine_has() -> None:
    free = what_is_free(Path("/tmp"), Processors())
    assert 0 <= free.processors <= 1
    assert 0 < free.memory < psutil.virtual_memory().total
    assert free.disk > 0


@pytest.mark.parametrize(
    ("free", "records_already", "reason"),
    [
        (Free(3 * GIB, 2 * GIB, 0.5), True, None),
        (Free(GIB, 2 * GIB, 0.5), False, "1024 MiB of disk are free; FARM_DISK_RESERVE is 2048"),
        (Free(3 * GIB, GIB - 1, 0.5), False, "1023 MiB of memory are free; a recording takes 1024"),
        (
            Free(3 * GIB, 2 * GIB, 0.05),
            True,
            "the processors are busy for 95% of the time; FARM_MAX_LOAD is 90%",
        ),
        # Nothing would ever come to its end here that would make it better.
        (Free(3 * GIB, 2 * GIB, 0.0), False, None),
    ],
)
def test_recording_should_wait_while_the_node_has_no_room(
    free: Free, records_already: bool, reason: str | None
) -> None:
    assert refusal(free, Settings(), records_already=records_already) == reason


def test_recording_should_wait_while_the_disk_is_needed_to_cut_others() -> None:
    free = Free(3 * GIB, 2 * GIB, 0.5)
    assert refusal(free, Settings(), records_already=True, room_for_cuts=GIB) is None
    assert (
        refusal(free, Settings(), records_already=True, room_for_cuts=GIB + 1)
        == "3072 MiB of disk are free, 1024 are needed to cut what is recorded; FARM_DISK_RESERVE is 2048"
    )
