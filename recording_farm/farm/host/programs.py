"""The programs that the farm runs: found before anything starts."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from recording_farm.browser_bot.errors import ProgramNotFoundError
from recording_farm.browser_bot.stage.programs import chromium_path, program_path, xcb_library, xorg_path
from recording_farm.farm.errors import ProgramMissingError

NSS_PACKAGE: Final = "libnss3-tools"
"""The Debian package of `certutil`, which makes an NSS database."""


def require_programs(*, redis: bool = False) -> None:
    """See that everything a worker starts is installed, without running any of it.

    `redis` asks for redis-server too, which only a farm with its embedded Redis needs.
    Raises ProgramMissingError that names everything that is missing and its packages.
    """
    searches: list[tuple[Callable[[], Path], str]] = [
        (lambda: chromium_path(configured_chromium()), "chromium"),
        (lambda: program_path("ffmpeg", "ffmpeg"), "ffmpeg"),
        (xorg_path, "xserver-xorg-core"),
        (dummy_driver_path, "xserver-xorg-video-dummy"),
        (xcb_library, "libxcb1"),
        (lambda: program_path("pulseaudio", "pulseaudio"), "pulseaudio"),
        (lambda: program_path("setpriv", "util-linux"), "util-linux"),
    ]
    if configured_ca_file() is not None:
        searches.append((lambda: program_path("certutil", NSS_PACKAGE), NSS_PACKAGE))
    if redis:
        searches.append((lambda: program_path("redis-server", "redis-server"), "redis-server"))
    missing: dict[str, str] = {}
    for search, package in searches:
        try:
            search()
        except ProgramNotFoundError as error:
            missing[package] = error.program
    if missing:
        raise ProgramMissingError(", ".join(missing.values()), " ".join(missing))


def required_program(name: str, package: str) -> Path:
    """Where a program on PATH is. Raises ProgramMissingError when it is not."""
    try:
        return program_path(name, package)
    except ProgramNotFoundError as error:
        raise ProgramMissingError(error.program, error.package) from None


DRIVER_DIRECTORIES = (Path("/usr/lib/xorg/modules/drivers"), Path("/usr/lib64/xorg/modules/drivers"))
"""Where Xorg's drivers lie, besides `modules/drivers` next to its binary."""


def configured_chromium() -> Path | None:
    """The program of FARM_CHROMIUM, if it is set."""
    configured = os.environ.get("FARM_CHROMIUM")
    return Path(configured) if configured else None


def dummy_driver_path() -> Path:
    """Where Xorg's dummy driver is. Raises ProgramNotFoundError when it is not."""
    directories = list(DRIVER_DIRECTORIES)
    with suppress(ProgramNotFoundError):
        directories.insert(0, xorg_path().parent / "modules/drivers")
    for directory in directories:
        if (driver := directory / "dummy_drv.so").is_file():
            return driver
    raise ProgramNotFoundError("Xorg's dummy driver", "xserver-xorg-video-dummy")


def configured_ca_file() -> Path | None:
    """The file of FARM_CA_FILE, if it is set."""
    configured = os.environ.get("FARM_CA_FILE")
    return Path(configured).expanduser().absolute() if configured else None
