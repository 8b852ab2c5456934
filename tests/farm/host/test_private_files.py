import os
import stat
import subprocess
import sys
from pathlib import Path

from recording_farm.farm.config.settings import Settings
from recording_farm.farm.host.private_files import open_to_others

MAKE = """
import os, subprocess, sys
from pathlib import Path
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.host.private_files import keep_files_private

os.umask(0)
root = Path(sys.argv[1])
(root / "store").mkdir(mode=0o755)
(root / "store").chmod(0o755)
keep_files_private([root / "store", root / "missing"])
(root / "store" / "a").mkdir()
(root / "store" / "a" / "film").write_bytes(b"x")
subprocess.run(["sh", "-c", 'echo x > "$1/child"', "sh", str(root / "store")], check=True)
"""


def test_files_should_be_private_whatever_the_umask(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", MAKE, str(tmp_path)], check=True)
    modes = {
        str(each.relative_to(tmp_path)): stat.S_IMODE(each.stat().st_mode) for each in tmp_path.rglob("*")
    }
    assert modes == {"store": 0o700, "store/a": 0o700, "store/a/film": 0o600, "store/child": 0o600}


def test_all_directories_of_the_farm_should_be_known(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path})
    known = settings.own_directories
    assert {settings.store_location.directory, settings.redis_socket.parent, settings.spool_dir} <= {*known}
    assert all(directory.parent == tmp_path for directory in known)


def test_directories_that_others_can_enter_should_be_found(tmp_path: Path) -> None:
    private, shared = tmp_path / "private", tmp_path / "shared"
    for directory, mode in ((private, 0o700), (shared, 0o750)):
        directory.mkdir()
        os.chmod(directory, mode)
    assert open_to_others([private, shared, tmp_path / "missing"]) == [shared]
