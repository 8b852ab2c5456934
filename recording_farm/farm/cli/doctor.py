"""`farm doctor`: checks the settings, the programs, and the machine; names the Debian packages to install.

`run_checks` runs every program and reads its output. `farm.host.programs` only looks for them, because it
must not slow down the start of a worker.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import redis

from recording_farm.browser_bot.errors import ProgramNotFoundError
from recording_farm.browser_bot.network.udp_policy import UdpPolicy
from recording_farm.browser_bot.stage import control_group
from recording_farm.browser_bot.stage.box import why_not_mountable
from recording_farm.browser_bot.stage.network import namespace_problem
from recording_farm.browser_bot.stage.programs import (
    child_environment,
    chromium_path,
    program_path,
    xcb_library,
    xorg_path,
)
from recording_farm.farm.cli.health import check_health
from recording_farm.farm.config.settings import load_settings, refuse_unknown_settings
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.embedded import answers
from recording_farm.farm.db.faults import describe, evicts_message, probe, read_memory
from recording_farm.farm.errors import FarmError, SettingsError
from recording_farm.farm.host.ca_file import read_authorities
from recording_farm.farm.host.disk_encryption import is_encrypted
from recording_farm.farm.host.font_coverage import CJK, SCRIPTS, parse_charsets, uncovered_scripts
from recording_farm.farm.host.private_files import open_to_others
from recording_farm.farm.host.programs import (
    NSS_PACKAGE,
    configured_ca_file,
    configured_chromium,
    dummy_driver_path,
)
from recording_farm.farm.host.realtime import is_allowed, is_limited
from recording_farm.farm.host.startup import require_free_port, require_writable_directory
from recording_farm.farm.host.tls_files import open_tls_files

Status = Literal["ok", "warning", "missing", "broken"]

TIMEOUT = 10.0
"""Seconds a program has to answer before it counts as broken."""

MIN_FFMPEG = (5, 1)
MIN_REDIS = (6, 2)
MIN_FREE_DISK = 2 << 30
_NEARLY_FULL = 0.8
"""Of Redis' maxmemory; as the alert FarmRedisFull."""
MIN_FREE_MEMORY = 1 << 30
MIN_VALIDITY = timedelta(days=14)
"""Of the API's certificate; certbot renews 30 days before the end."""


SANDBOX_HELPER = Path("/usr/lib/chromium/chrome-sandbox")
"""Chromium's set-uid helper, for systems where ordinary users may not make user namespaces."""

VERSION_PATTERNS = {
    "chromium": r"Chrom\D*(\d+(?:\.\d+)+)",
    "ffmpeg": r"^ffmpeg version (\S+)",
    "xorg": r"X\.Org X Server (\d+(?:\.\d+)+)",
    "pulseaudio": r"^pulseaudio (\d+(?:\.\d+)*)",
    "redis-server": r"\bv=(\d+(?:\.\d+)+)",
    "setpriv": r"util-linux (\d+(?:\.\d+)+)",
}

# What the encoder needs of ffmpeg: the option that lists it, the flag it must have there, the names.
FFMPEG_FORMATS = (
    ("-devices", "D", ("x11grab", "pulse")),
    ("-demuxers", "D", ("hls", "matroska", "concat")),
    ("-muxers", "E", ("hls", "mp4", "webm")),
)
FFMPEG_ENCODERS = ("libx264", "aac", "libvpx", "libopus")

LATIN = frozenset({"Latin"})
FONTS = (
    ("fonts: Latin", "fonts-dejavu-core", LATIN),
    ("fonts: CJK", "fonts-noto-cjk", CJK),
    ("fonts: other scripts", "fonts-noto-core", SCRIPTS.keys() - LATIN - CJK),
)
EMOJI = ("fonts: emoji", "fonts-noto-color-emoji")


@dataclass(frozen=True)
class Check:
    """The result of one check.

    `package` is the Debian package that repairs it, if there is one.
    """

    name: str
    status: Status
    version: str | None = None
    detail: str = ""
    package: str | None = None


class _FailedError(FarmError):
    """A program gave no usable answer; the message has the reason."""


# --- Output of programs -----------------------------------------------------------------------------------


def parse_version(program: str, text: str) -> str | None:
    """The version in the output of `program`, a key of VERSION_PATTERNS."""
    found = re.search(VERSION_PATTERNS[program], text, re.MULTILINE)
    return found[1] if found else None


def at_least(version: str, minimum: Sequence[int]) -> bool:
    """Whether `version` is `minimum` or newer.

    Builds of ffmpeg's newest source, `N-…`, have no number; they are newer.
    """
    numbers = re.match(r"n?(\d+(?:\.\d+)*)", version)
    if numbers is None:
        return True
    return [int(part) for part in numbers[1].split(".")] >= list(minimum)


def parse_formats(text: str, flag: str) -> set[str]:
    """The names in ffmpeg's list of devices, demuxers or muxers that have `flag`: D (reads) or E (writes)."""
    names: set[str] = set()
    for line in _below_the_rule(text):
        words = line.split()
        flags = ""
        while words and re.fullmatch("[DEd]+", words[0]):
            flags += words.pop(0)
        if words and flag in flags:
            names.update(words[0].split(","))
    return names


def parse_encoders(text: str) -> set[str]:
    """The names in ffmpeg's list of encoders."""
    return {words[1] for line in _below_the_rule(text) if len(words := line.split()) > 1}


def _below_the_rule(text: str) -> list[str]:
    """ffmpeg puts a line of dashes between the meaning of its flags and the list itself."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.strip() and not line.strip().strip("-"):
            return lines[number + 1 :]
    return []


def parse_available_memory(meminfo: str) -> int | None:
    """The available memory in bytes, from /proc/meminfo."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


# --- Running programs -------------------------------------------------------------------------------------


def _ask(argv: Sequence[str | Path], timeout: float) -> str:
    """Run a program to its end and return its output, standard output first.

    Raises _FailedError when it cannot be started, fails or times out; it and its children are then killed.
    """
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=child_environment() | {"LC_ALL": "C"},
            start_new_session=True,
        )
    except OSError as error:
        raise _FailedError(f"cannot be started: {error.strerror}") from None
    with process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise _FailedError(f"did not answer within {timeout:g} s") from None
        finally:
            _kill(process)
    if process.returncode:
        last_words = (errors.strip() or output.strip() or "without a word").splitlines()[-1]
        raise _FailedError(f"ended with {process.returncode}: {last_words}")
    return f"{output}\n{errors}"


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a program that still runs, with its process group."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _version(program: str, path: Path, timeout: float, argument: str = "--version") -> str:
    """Ask a program for its version. Raises _FailedError when it has no such output."""
    version = parse_version(program, _ask([path, argument], timeout))
    if version is None:
        raise _FailedError(f"{path} prints no version")
    return version


def _ping_redis(path: Path, timeout: float) -> None:
    """Start a Redis without persistence, on a socket of its own, and wait until it answers."""
    with tempfile.TemporaryDirectory(prefix="farm-doctor-") as directory:
        address = f"{directory}/redis.sock"
        process = subprocess.Popen(
            [path, "--port", "0", "--unixsocket", address, "--save", "", "--dir", directory],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            env=child_environment(),
            start_new_session=True,
        )
        with process:
            try:
                _await_pong(process, address, time.monotonic() + timeout)
            finally:
                _kill(process)


def _await_pong(process: subprocess.Popen[str], address: str, deadline: float) -> None:
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _FailedError(f"ended with {process.returncode} at its start")
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.settimeout(max(0.01, deadline - time.monotonic()))
            client.connect(address)
            client.sendall(b"PING\r\n")
            if client.recv(16).startswith(b"+PONG"):
                return
        time.sleep(0.01)
    raise _FailedError("has started but does not answer")


# --- The checks -------------------------------------------------------------------------------------------


def _check_chromium(timeout: float) -> Check:
    path = chromium_path(configured_chromium())
    version = _version("chromium", path, timeout)
    return Check("chromium", "ok", version, str(path), "chromium")


def _check_ffmpeg(timeout: float) -> Check:
    path = program_path("ffmpeg", "ffmpeg")
    version = _version("ffmpeg", path, timeout, "-version")
    if not at_least(version, MIN_FFMPEG):
        wanted = ".".join(map(str, MIN_FFMPEG))
        return Check("ffmpeg", "broken", version, f"{path} is too old: {wanted} is needed", "ffmpeg")
    lacking = [
        f"{name} ({option[1:-1]})"
        for option, flag, names in FFMPEG_FORMATS
        for name in sorted(set(names) - parse_formats(_ask([path, "-hide_banner", option], timeout), flag))
    ]
    encoders = parse_encoders(_ask([path, "-hide_banner", "-encoders"], timeout))
    lacking += [f"{name} (encoder)" for name in FFMPEG_ENCODERS if name not in encoders]
    if lacking:
        detail = f"{path} was built without {', '.join(lacking)}"
        return Check("ffmpeg", "broken", version, detail, "ffmpeg")
    return Check("ffmpeg", "ok", version, str(path), "ffmpeg")


def _check_xorg(timeout: float) -> Check:
    path = xorg_path()
    return Check("xorg", "ok", _version("xorg", path, timeout, "-version"), str(path), "xserver-xorg-core")


def _check_xcb(_timeout: float) -> Check:
    return Check("libxcb", "ok", None, str(xcb_library()), "libxcb1")


def _check_dummy_driver(_timeout: float) -> Check:
    return Check("xorg dummy driver", "ok", None, str(dummy_driver_path()), "xserver-xorg-video-dummy")


def _check_pulseaudio(timeout: float) -> Check:
    path = program_path("pulseaudio", "pulseaudio")
    version = _version("pulseaudio", path, timeout)
    modules = _ask([path, "--dump-modules"], timeout)
    lacking = [name for name in ("module-null-sink", "module-native-protocol-unix") if name not in modules]
    if lacking:
        detail = f"{path} has no {' and no '.join(lacking)}"
        return Check("pulseaudio", "broken", version, detail, "pulseaudio")
    return Check("pulseaudio", "ok", version, str(path), "pulseaudio")


def _check_redis(timeout: float) -> Check:
    path = program_path("redis-server", "redis-server")
    version = _version("redis-server", path, timeout)
    if not at_least(version, MIN_REDIS):
        detail = f"{path} is too old: {'.'.join(map(str, MIN_REDIS))} is needed"
        return Check("redis-server", "broken", version, detail, "redis-server")
    _ping_redis(path, timeout)
    return Check("redis-server", "ok", version, str(path), "redis-server")


def _check_redis_in_use(_timeout: float) -> Check:
    """Does the Redis of the settings take writes, and keep them?"""
    try:
        settings = load_settings()
    except SettingsError as error:
        return Check("redis", "broken", None, str(error))
    if settings.redis_url is None and not answers(settings):
        return Check("redis", "ok", None, "farm up starts its own (FARM_REDIS_URL is not set)")
    try:
        with connect(settings.redis_address, retries=0) as client:
            probe(client)
            memory = read_memory(client)
    except (redis.RedisError, OSError) as error:
        return Check("redis", "broken", None, describe(error))
    if memory is None or memory.policy is None:
        detail = "this user may not read its maxmemory-policy, which must be noeviction (allow INFO)"
        return Check("redis", "warning", None, detail)
    if memory.evicts:
        return Check("redis", "broken", None, evicts_message(memory.policy))
    limit = f" of {_megabytes(memory.limit)}" if memory.limit else ", without a maxmemory"
    detail = f"accepts writes, evicts nothing; uses {_megabytes(memory.used)}{limit}"
    if memory.limit and memory.used > _NEARLY_FULL * memory.limit:
        return Check("redis", "warning", None, f"{detail}: raise its maxmemory")
    return Check("redis", "ok", None, detail)


def _check_setpriv(timeout: float) -> Check:
    path = program_path("setpriv", "util-linux")
    version = _version("setpriv", path, timeout)
    if "--pdeathsig" not in _ask([path, "--help"], timeout):
        return Check("setpriv", "broken", version, f"{path} has no option --pdeathsig", "util-linux")
    return Check("setpriv", "ok", version, str(path), "util-linux")


def _ask_fonts(timeout: float, *arguments: str) -> str:
    """The fonts that fontconfig lists. Raises _FailedError when it fails."""
    if (fc_list := shutil.which("fc-list")) is None:
        raise _FailedError("is not installed, so fonts cannot be checked")
    return _ask([fc_list, *arguments], timeout)


def _font_check(name: str, package: str, scripts: Collection[str]) -> Callable[[float], Check]:
    def check(timeout: float) -> Check:
        try:
            listing = _ask_fonts(timeout, "--format", "%{charset}\n")
        except _FailedError as failure:
            return Check(name, "warning", None, f"fc-list {failure}", "fontconfig")
        missing = uncovered_scripts(scripts, parse_charsets(listing))
        if missing:
            detail = f"no font has the letters of {', '.join(missing)}: pages will show boxes"
            return Check(name, "warning", None, detail, package)
        found = ", ".join(sorted(scripts)) if len(scripts) <= 4 else f"{len(scripts)} scripts"
        return Check(name, "ok", None, f"letters of {found}", package)

    return check


def _check_emoji(timeout: float) -> Check:
    name, package = EMOJI
    try:
        families = _ask_fonts(timeout, ":lang=und-zsye", "family")
    except _FailedError as failure:
        return Check(name, "warning", None, f"fc-list {failure}", "fontconfig")
    first = min((line.split(",")[0] for line in families.splitlines() if line.strip()), default=None)
    if first is None:
        return Check(name, "warning", None, "no font has emoji: pages will show boxes", package)
    return Check(name, "ok", None, first, package)


def _check_sandbox(timeout: float) -> Check:
    if os.geteuid() == 0:
        detail = "Chromium runs with --no-sandbox, because the farm runs as root; run it as an ordinary user"
        return Check("sandbox", "warning", None, detail)
    try:
        _ask(["unshare", "--user", "--map-root-user", "true"], timeout)
    except _FailedError as failure:
        if SANDBOX_HELPER.is_file() and SANDBOX_HELPER.stat().st_mode & 0o4000:
            return Check("sandbox", "ok", None, str(SANDBOX_HELPER), "chromium-sandbox")
        detail = f"no user namespaces ({failure}), so Chromium may not start"
        return Check("sandbox", "warning", None, detail, "chromium-sandbox")
    return Check("sandbox", "ok", None, "user namespaces")


def _check_webrtc(_timeout: float) -> Check:
    """Where may pages send UDP packets?"""
    try:
        policy = load_settings().webrtc_udp
    except SettingsError:
        policy = UdpPolicy.FILTERED
    problem = namespace_problem()
    if policy is UdpPolicy.OPEN:
        detail = "UDP of pages goes to every address, private ones too (FARM_WEBRTC_UDP=open)"
        return Check("webrtc", "warning", None, detail)
    if problem is not None:
        detail = f"UDP of pages is off by Chromium's own switch: no network namespaces ({problem})"
        return Check("webrtc", "warning" if policy is UdpPolicy.FILTERED else "ok", None, detail)
    if policy is UdpPolicy.OFF:
        return Check("webrtc", "ok", None, "UDP of pages is off (FARM_WEBRTC_UDP=off)")
    detail = "UDP of pages goes to public addresses and FARM_ALLOW_PRIVATE_ADDRESSES only"
    return Check("webrtc", "ok", None, detail)


def _check_stage_limits(_timeout: float) -> Check:
    """By what are disk, memory and processes of a stage limited on this machine?"""
    reason = why_not_mountable()
    disk = f"disk: checked each second (no mounts: {reason})" if reason else "disk: a tmpfs for each stage"
    no_groups = control_group.why_not_divisible()
    together = f"checked each second: {no_groups}" if no_groups else "a control group for each stage"
    detail = f"{disk}; memory and processes: {together}"
    return Check("stage limits", "warning" if reason else "ok", None, detail)


def _check_authorities(_timeout: float) -> Check:
    name = "authorities"
    file = configured_ca_file()
    if file is None:
        return Check(name, "ok", None, "those of the system (FARM_CA_FILE is not set)")
    try:
        found = len(read_authorities(file))
    except ValueError as error:
        return Check(name, "broken", None, f"FARM_CA_FILE {file}: {error}")
    program_path("certutil", NSS_PACKAGE)
    return Check(name, "ok", None, f"{found} of {file} besides those of the system", NSS_PACKAGE)


def _check_certificate(_timeout: float) -> Check:
    """Can the API use its certificate and key, and for how long?"""
    name = "certificate"
    try:
        settings = load_settings()
    except SettingsError:
        return Check(name, "warning", None, "not checked: the settings cannot be used")
    try:
        files = open_tls_files(settings.tls_certificate, settings.tls_key)
    except SettingsError as error:
        return Check(name, "broken", None, str(error))
    if files is None:
        return Check(name, "ok", None, "none: the API speaks plain HTTP (FARM_TLS_CERTIFICATE is not set)")
    detail = f"{settings.tls_certificate} is valid until {files.valid_until.date()}"
    if files.valid_until - datetime.now(UTC) < MIN_VALIDITY:
        return Check(name, "warning", None, f"FARM_TLS_CERTIFICATE: {detail}; renew it")
    return Check(name, "ok", None, detail)


def _check_real_time(_timeout: float) -> Check:
    if is_allowed():
        return Check("real time", "ok", None, "time-critical threads may use real-time scheduling")
    to_do = "allow it: RLIMIT_RTPRIO 1"
    if not is_limited():
        to_do = "limit it: sysctl kernel.sched_rt_runtime_us=950000"
    detail = (
        f"no real-time scheduling, so a busy machine loses frames sooner ({to_do}; see docs/operations.md)"
    )
    return Check("real time", "warning", None, detail)


def _check_settings(_timeout: float) -> Check:
    """Can the settings be used, and are all FARM_ variables settings?"""
    try:
        load_settings()
        refuse_unknown_settings(os.environ)
    except SettingsError as error:
        return Check("settings", "broken", None, str(error))
    count = sum(name.upper().startswith("FARM_") for name in os.environ)
    return Check("settings", "ok", None, f"{count} FARM_ variables are set, all with valid values")


def _data_directory() -> Path:
    return Path(os.environ.get("FARM_DATA_DIR") or "data").expanduser().absolute()


def _existing(directory: Path) -> Path:
    """A directory, or the nearest one above it that exists."""
    while not directory.exists():
        directory = directory.parent
    return directory


def _directories_of_customers() -> list[Path]:
    """The directories with customers' files; none with bad settings, which are another check's."""
    with suppress(SettingsError):
        settings = load_settings()
        store = settings.store_location.directory
        return [*settings.own_directories, *([store] if store is not None else [])]
    return []


def _check_data_directory(_timeout: float) -> Check:
    """Can the data directory be written, or created?"""
    directory = _data_directory()
    existing = _existing(directory)
    try:
        if existing == directory:
            require_writable_directory(directory, "FARM_DATA_DIR")
        elif not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            return Check(
                "data directory", "broken", None, f"FARM_DATA_DIR: cannot create {directory} in {existing}"
            )
    except SettingsError as error:
        return Check("data directory", "broken", None, str(error))
    if others := open_to_others(_directories_of_customers()):
        detail = f"other users of this machine can enter {others[0]}: chmod 700, unless they shall"
        return Check("data directory", "warning", None, detail)
    return Check("data directory", "ok", None, str(directory))


def _check_takes_at_rest(_timeout: float) -> Check:
    """Are takes encrypted at rest, where the store is? The disk does it (docs/security.md)."""
    name = "takes at rest"
    try:
        settings = load_settings()
        if not settings.store_encryption:
            return Check(name, "ok", None, "not asked for (FARM_STORE_ENCRYPTION is off)")
        directory = _data_directory()
        if is_encrypted(_existing(directory)):
            return Check(name, "ok", None, f"{directory} is on an encrypted disk")
    except (SettingsError, OSError) as error:
        return Check(name, "warning", None, f"not checked: {error}")
    detail = (
        f"FARM_STORE_ENCRYPTION is on, but {directory} is on no dm-crypt disk: takes lie there in the clear"
    )
    return Check(name, "warning", None, detail)


def _check_port(_timeout: float) -> Check:
    """Is the API's port free, or does a farm answer there?"""
    try:
        settings = load_settings()
    except SettingsError:
        return Check("port", "warning", None, "not checked: the settings cannot be used")
    try:
        require_free_port("FARM", settings.host, settings.port)
    except SettingsError as error:
        if check_health(settings).get("api"):
            return Check("port", "ok", None, f"a farm answers at {settings.local_url}")
        return Check("port", "warning", None, f"`farm up` would not start. {error}")
    return Check("port", "ok", None, f"{settings.port} of {settings.host} is free")


def _check_disk(_timeout: float) -> Check:
    directory = _existing(_data_directory())
    free = shutil.disk_usage(directory).free
    status: Status = "ok" if free >= MIN_FREE_DISK else "warning"
    return Check("disk", status, None, f"{_gigabytes(free)} free in {directory}")


def _check_memory(_timeout: float) -> Check:
    try:
        free = parse_available_memory(Path("/proc/meminfo").read_text())
    except OSError:
        free = None
    if free is None:
        return Check("memory", "warning", None, "cannot read how much is free")
    status: Status = "ok" if free >= MIN_FREE_MEMORY else "warning"
    return Check("memory", status, None, f"{_gigabytes(free)} free")


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def _gigabytes(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"


CHECKS: tuple[tuple[str, str | None, Callable[[float], Check]], ...] = (
    ("settings", None, _check_settings),
    ("data directory", None, _check_data_directory),
    ("port", None, _check_port),
    ("chromium", "chromium", _check_chromium),
    ("ffmpeg", "ffmpeg", _check_ffmpeg),
    ("xorg", "xserver-xorg-core", _check_xorg),
    ("xorg dummy driver", "xserver-xorg-video-dummy", _check_dummy_driver),
    ("libxcb", "libxcb1", _check_xcb),
    ("pulseaudio", "pulseaudio", _check_pulseaudio),
    ("redis-server", "redis-server", _check_redis),
    ("redis", None, _check_redis_in_use),
    ("setpriv", "util-linux", _check_setpriv),
    *((name, package, _font_check(name, package, scripts)) for name, package, scripts in FONTS),
    (*EMOJI, _check_emoji),
    ("sandbox", None, _check_sandbox),
    ("webrtc", None, _check_webrtc),
    ("stage limits", None, _check_stage_limits),
    ("authorities", NSS_PACKAGE, _check_authorities),
    ("certificate", None, _check_certificate),
    ("real time", None, _check_real_time),
    ("takes at rest", None, _check_takes_at_rest),
    ("disk", None, _check_disk),
    ("memory", None, _check_memory),
)
"""Name, Debian package and function of each check, in the order of the report."""


def run_checks(timeout: float = TIMEOUT) -> list[Check]:
    """Run all checks at the same time; each call of a program has `timeout` seconds."""

    def run(name: str, package: str | None, check: Callable[[float], Check]) -> Check:
        try:
            return check(timeout)
        except ProgramNotFoundError as error:
            return Check(name, "missing", None, f"{error.program} is not installed", package)
        except _FailedError as failure:
            return Check(name, "broken", None, str(failure), package)

    with ThreadPoolExecutor(len(CHECKS)) as pool:
        return list(pool.map(lambda entry: run(*entry), CHECKS))


# --- Advice -----------------------------------------------------------------------------------------------


def is_usable(checks: Iterable[Check]) -> bool:
    """Whether the farm can record: nothing is missing or broken."""
    return all(check.status in ("ok", "warning") for check in checks)


def missing_packages(checks: Iterable[Check]) -> list[str]:
    """The Debian packages that repair what is not ok, each once."""
    return list(dict.fromkeys(check.package for check in checks if check.status != "ok" and check.package))


def format_report(checks: Sequence[Check]) -> str:
    """The results as a table; the last line is the command that installs what is missing."""
    name_width = max((len(check.name) for check in checks), default=0)
    version_width = max((len(check.version or "-") for check in checks), default=0)
    lines = []
    for check in checks:
        name, version = check.name.ljust(name_width), (check.version or "-").ljust(version_width)
        lines.append(f"{check.status:<7}  {name}  {version}  {check.detail}".rstrip())
    return "\n".join([*lines, "", _advice(checks)])


def _advice(checks: Sequence[Check]) -> str:
    packages = missing_packages(checks)
    if not packages:
        if not is_usable(checks):
            return "The farm cannot run like this; see above."
        warned = any(check.status != "ok" for check in checks)
        return "Everything is in place." + (" See the warnings above." if warned else "")
    # A plain install leaves alone what is installed but broken.
    broken = any(check.status == "broken" and check.package for check in checks)
    reinstall = "--reinstall " if broken else ""
    return f"As root: apt-get install --no-install-recommends {reinstall}{' '.join(packages)}"
