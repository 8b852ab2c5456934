"""systemd accepts the units, and they stop the farm in the way that it expects."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recording_farm.api.server import SHUTDOWN_SECONDS
from recording_farm.farm.cli.up import STOP_TIMEOUT
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import SettingsError

DIRECTORY = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(path.name for path in DIRECTORY.glob("*.service"))
RECORDING = ["recording-farm-worker.service", "recording-farm.service"]


def directives(name: str) -> list[tuple[str, str]]:
    """The directives of a unit, in order; some stand there more than once."""
    found = re.findall(r"^(\w+)=(.*)$", (DIRECTORY / name).read_text(), re.MULTILINE)
    return [(str(key), str(value)) for key, value in found]


def environment(name: str) -> dict[str, str]:
    return dict(value.split("=", 1) for key, value in directives(name) if key == "Environment")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_units_should_be_accepted_by_systemd(tmp_path: Path) -> None:
    for name in UNITS:
        text = (DIRECTORY / name).read_text()
        # It looks whether the program is there.
        (tmp_path / name).write_text(re.sub(r"(?<=ExecStart=)\S+", sys.executable, text))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in UNITS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", UNITS)
def test_unit_should_run_as_an_ordinary_user_and_restart_unless_its_settings_are_wrong(name: str) -> None:
    unit = dict(directives(name))
    assert unit["User"] == "recording-farm"
    assert unit["Restart"] == "always"
    assert int(unit["RestartPreventExitStatus"]) == SettingsError.exit_code
    # A second signal ends recordings at once, so only the first process gets one.
    assert (unit["KillMode"], unit["KillSignal"]) == ("mixed", "SIGTERM")
    assert environment(name).keys() <= {f"FARM_{field.upper()}" for field in Settings.model_fields}
    state = unit["StateDirectory"].split()[-1]
    assert environment(name)["FARM_DATA_DIR"] == f"/var/lib/{state}"


@pytest.mark.parametrize("name", RECORDING)
def test_unit_should_give_recordings_time_to_end(name: str) -> None:
    unit = dict(directives(name))
    drain = int(environment(name)["FARM_DRAIN_SECONDS"])
    assert int(unit["TimeoutStopSec"]) >= drain + 2 * STOP_TIMEOUT
    assert unit["OOMPolicy"] == "continue"


def test_api_should_have_time_for_requests_under_way() -> None:
    assert int(dict(directives("recording-farm-api.service"))["TimeoutStopSec"]) > SHUTDOWN_SECONDS


@pytest.mark.parametrize("name", RECORDING)
def test_unit_should_leave_chromium_its_sandbox_and_real_time(name: str) -> None:
    unit = dict(directives(name))
    assert unit["LimitRTPRIO"] == "1"
    broken = {
        "RestrictNamespaces",
        "MemoryDenyWriteExecute",
        "RestrictRealtime",
        "SystemCallFilter",
        "PrivateNetwork",
        "PrivateUsers",
        "ProcSubset",
    }
    assert broken & unit.keys() == set()
    assert {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"} == set(unit["RestrictAddressFamilies"].split())


def test_environment_file_should_have_settings_that_exist() -> None:
    text = (DIRECTORY / "farm.env").read_text()
    names = set(re.findall(r"^#?(FARM_\w+)=", text, re.MULTILINE))
    assert names <= {f"FARM_{field.upper()}" for field in Settings.model_fields}
    values = dict(re.findall(r"^FARM_(\w+)=(.*)$", text, re.MULTILINE))
    assert Settings.model_validate({name.lower(): value for name, value in values.items()}).public_url
