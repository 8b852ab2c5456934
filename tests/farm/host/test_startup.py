import socket
from pathlib import Path

import pytest

from recording_farm.farm.errors import SettingsError
from recording_farm.farm.host.startup import require_free_port, require_writable_directory


def test_port_in_use_should_be_refused_with_its_setting() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(SettingsError, match=f"FARM_PORT: port {port} of 127.0.0.1 is in use"):
            require_free_port("FARM", "127.0.0.1", port)
        with pytest.raises(SettingsError, match="FARM_NODE_PORT"):
            require_free_port("FARM_NODE", "0.0.0.0", port)
    require_free_port("FARM", "127.0.0.1", port)


@pytest.mark.parametrize("host", ["198.51.100.1", "no-such-host.invalid"])
def test_host_that_is_not_this_machine_should_be_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="FARM_HOST: "):
        require_free_port("FARM", host, 0)


def test_directory_that_cannot_be_written_should_be_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file" / "data", Path("/proc/farm")):
        with pytest.raises(SettingsError, match=f"FARM_DATA_DIR: cannot write to {directory}: "):
            require_writable_directory(directory, "FARM_DATA_DIR")


def test_directory_should_be_created_and_left_empty(tmp_path: Path) -> None:
    require_writable_directory(tmp_path / "a" / "b", "FARM_DATA_DIR")
    assert list((tmp_path / "a" / "b").iterdir()) == []
