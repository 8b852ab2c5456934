from fractions import Fraction
from pathlib import Path

import psutil
import pytest

from recording_farm.farm.host.resources import Processors, cores, free_resources, memory, slots_for

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
    assert free_resources(tmp_path, Processors(), tmp_path).memory == 500


def test_free_should_be_what_the_machine_has() -> None:
    free = free_resources(Path("/tmp"), Processors())
    assert 0 <= free.processors <= 1
    assert 0 < free.memory < psutil.virtual_memory().total
    assert free.disk > 0


def test_machine_should_not_be_busier_than_busy_when_a_counter_of_idle_time_decreases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = psutil.cpu_times()
    moments = iter([before, before._replace(user=before.user + 1000, iowait=before.iowait - 1)])
    monkeypatch.setattr(psutil, "cpu_times", lambda: next(moments))
    assert Processors().free() == 0
