"""Directories that look as the kernel's /sys does: no disk is encrypted for a test."""

from pathlib import Path

import pytest

from recording_farm.farm.host.disk_encryption import is_encrypted


class Machine:
    """A /sys and a mountinfo."""

    def __init__(self, root: Path) -> None:
        self.sysfs = root / "sys"
        self.mounts = root / "mountinfo"
        self.devices = self.sysfs / "dev" / "block"

    def add(self, number: str, *below: str, uuid: str | None = None, partition_of: str | None = None) -> None:
        place = self.sysfs / "devices" / number
        if partition_of is not None:
            place = self.sysfs / "devices" / partition_of / number
        (place / "slaves").mkdir(parents=True)
        if partition_of is not None:
            (place / "slaves").rmdir()
            (place / "partition").write_text("1\n")
        if uuid is not None:
            (place / "dm").mkdir()
            (place / "dm" / "uuid").write_text(f"{uuid}\n")
        self.devices.mkdir(parents=True, exist_ok=True)
        (self.devices / number).symlink_to(place)
        for other in below:
            (place / "slaves" / other).symlink_to(self.devices / other)

    def mount(self, *places: tuple[Path, str]) -> None:
        lines = [
            f"{30 + number} 1 {device} / {str(path).replace(' ', chr(92) + '040')} rw shared:1 - ext4 none rw"
            for number, (path, device) in enumerate([(Path("/"), "8:1"), *places])
        ]
        self.mounts.write_text("\n".join(lines) + "\n")

    def is_encrypted(self, directory: Path) -> bool:
        return is_encrypted(directory, self.sysfs, self.mounts)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.add("8:0")
    machine.add("8:1", partition_of="8:0")
    return machine


def test_plain_disk_should_not_count_as_encrypted(machine: Machine, tmp_path: Path) -> None:
    machine.mount()
    assert not machine.is_encrypted(tmp_path)


def test_luks_should_count_as_encrypted(machine: Machine, tmp_path: Path) -> None:
    machine.add("253:0", "8:1", uuid="CRYPT-LUKS2-0123-data")
    machine.mount((tmp_path / "my data", "253:0"))
    assert machine.is_encrypted(tmp_path / "my data" / "spool")
    assert not machine.is_encrypted(tmp_path)


def test_volume_on_luks_should_count_as_encrypted(machine: Machine, tmp_path: Path) -> None:
    machine.add("253:0", "8:1", uuid="CRYPT-LUKS2-0123-disk")
    machine.add("253:1", "253:0", uuid="LVM-abc")
    machine.mount((tmp_path, "253:1"))
    assert machine.is_encrypted(tmp_path)


def test_partition_of_an_encrypted_device_should_count_as_encrypted(machine: Machine, tmp_path: Path) -> None:
    machine.add("253:0", "8:1", uuid="CRYPT-PLAIN-disk")
    machine.add("259:1", partition_of="253:0")
    machine.mount((tmp_path, "259:1"))
    assert machine.is_encrypted(tmp_path)


def test_volume_that_is_encrypted_in_part_should_not_count_as_encrypted(
    machine: Machine, tmp_path: Path
) -> None:
    machine.add("253:0", "8:1", uuid="CRYPT-LUKS2-0123-disk")
    machine.add("253:1", "253:0", "8:0", uuid="LVM-abc")
    machine.mount((tmp_path, "253:1"))
    assert not machine.is_encrypted(tmp_path)


def test_later_mount_should_hide_the_earlier_one(machine: Machine, tmp_path: Path) -> None:
    machine.add("253:0", "8:1", uuid="CRYPT-LUKS2-0123-data")
    machine.mount((tmp_path, "253:0"), (tmp_path, "0:44"))
    assert not machine.is_encrypted(tmp_path)


def test_this_machine_should_have_an_answer(tmp_path: Path) -> None:
    assert is_encrypted(tmp_path) in {True, False}
