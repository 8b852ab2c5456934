"""The wheel and the sdist: what is in them, and the wheel in a project of somebody else's."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path
from venv import EnvBuilder
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "recording_farm"
PAGE = "<!doctype html><title>outside</title><body style='background: #2f54d6'><h1>Outside</h1>"
SUITE = """
import api, encoder, farm, layouts

def test_page(layout_snapshot):
    assert api.MINE and encoder.MINE and farm.MINE and layouts.MINE
    layout_snapshot("page.html", viewport="320x180")
"""


def run(
    command: Sequence[str | Path], directory: Path, *, expected: int = 0
) -> "subprocess.CompletedProcess[str]":
    """Run a program without anything of this checkout in its environment."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))
    }
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == expected, f"{done.stdout}\n{done.stderr}"
    return done


def leftovers() -> set[str]:
    return {name for name in os.listdir(ROOT) if name in ("build", "dist") or name.endswith(".egg-info")}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    before = leftovers()
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT], directory)
    assert leftovers() == before
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def outside(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with packages of its own that are named like ours, and the wheel in a virtual environment.

    Dependencies come from this checkout's environment, by a path: of it no `.pth` is read, so the project
    itself is not among them.
    """
    project = tmp_path_factory.mktemp("outside")
    EnvBuilder(symlinks=True, with_pip=False).create(project / "venv")
    python = project / "venv" / "bin" / "python"
    run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel],
        project,
    )
    (packages,) = (project / "venv" / "lib").glob("python3*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for name in ("api", "encoder", "farm", "layouts"):
        (project / name).mkdir()
        (project / name / "__init__.py").write_text("MINE = True\n")
    (project / "page.html").write_text(PAGE)
    (project / "test_page.py").write_text(SUITE)
    return project


def test_wheel_should_have_all_files_of_the_package_and_no_others(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    there = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / PACKAGE).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert names == there
    assert f"{PACKAGE}/py.typed" in names


def test_wheel_should_tell_its_version_license_and_programs(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (folder,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        metadata = HeaderParser().parsestr(archive.read(f"{folder}/METADATA").decode())
        license_text = archive.read(f"{folder}/licenses/LICENSE")
        programs = archive.read(f"{folder}/entry_points.txt").decode()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (metadata["Name"], metadata["Version"]) == (project["name"], project["version"])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert license_text == (ROOT / "LICENSE").read_bytes()
    assert "farm=recording_farm.farm.cli.main:main" in programs
    assert "[pytest11]" in programs


def test_sdist_should_have_what_a_build_needs_and_what_people_read(built: Path) -> None:
    (file,) = built.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert top == {PACKAGE, "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def test_wheel_should_work_beside_packages_that_are_named_like_its_own(outside: Path) -> None:
    binaries = outside / "venv" / "bin"
    where = f"import {PACKAGE}; print({PACKAGE}.__file__)"
    assert run([binaries / "python", "-c", where], outside).stdout.startswith(str(outside))
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version in run([binaries / "farm", "--version"], outside).stdout

    pytest_there = (binaries / "python", "-m", "pytest", "-p", "no:schemathesis", "-p", "no:cacheprovider")
    collected = run([*pytest_there, "--collect-only", "-q"], outside)

    assert "1 test collected" in collected.stdout


@pytest.mark.long
@pytest.mark.timeout(600)
def test_wheel_should_check_a_machine_record_a_page_and_picture_one(outside: Path) -> None:
    binaries = outside / "venv" / "bin"
    assert "Everything is in place." in run([binaries / "farm", "doctor"], outside).stdout

    page = (outside / "page.html").as_uri()
    run(
        [binaries / "farm", "record", page, "--out", "page.mp4", "--seconds", "2", "--size", "320x180"],
        outside,
    )
    assert (outside / "page.mp4").stat().st_size > 1000

    suite = (binaries / "python", "-m", "pytest", "-q", "-p", "no:schemathesis", "-p", "no:cacheprovider")
    run([*suite, "--layouts-approve"], outside)
    assert "1 passed" in run(suite, outside).stdout
    (outside / "page.html").write_text(PAGE.replace("Outside", "Changed"))
    assert "pixels differ" in run(suite, outside, expected=1).stdout
