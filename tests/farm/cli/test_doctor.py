import json
import os
import shutil
import socket
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from recording_farm.browser_bot.stage import programs
from recording_farm.farm.cli import doctor
from recording_farm.farm.cli.doctor import Check
from recording_farm.farm.errors import ProgramMissingError
from recording_farm.farm.host import programs as farm_programs
from testkit.network.authorities import own_authority

OLD_DEVICES = """\
Devices:
 D. = Demuxing supported
 .E = Muxing supported
 --
 DE alsa            ALSA audio output
  E caca            caca (color ASCII art) output device
 D  x11grab         X11 screen capture, using XCB
 DE video4linux2,v4l2 Video4Linux2 output device
"""

# Since ffmpeg 7 a third flag tells devices from files.
NEW_DEVICES = """\
Devices:
 D.. = Demuxing supported
 .E. = Muxing supported
 ..d = Is a device
 ---
 DEd alsa            ALSA audio output
  Ed caca            caca (color ASCII art) output device
 D d x11grab         X11 screen capture, using XCB
 DEd video4linux2,v4l2 Video4Linux2 output device
"""

ENCODERS = """\
Encoders:
 V..... = Video
 .....D = Supports direct rendering method 1
 ------
 V....D libx264              libx264 H.264 / AVC / MPEG-4 AVC / MPEG-4 part 10 (codec h264)
 A..... aac                  AAC (Advanced Audio Coding)
 A..X.. opus                 Opus
"""


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with nothing on it; returns its only directory of programs."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    monkeypatch.setenv("PATH", str(binaries))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "playwright"))
    monkeypatch.delenv("FARM_CHROMIUM", raising=False)
    monkeypatch.setattr(programs, "XORG_PATHS", ())
    monkeypatch.setattr(farm_programs, "DRIVER_DIRECTORIES", ())
    return binaries


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.mark.parametrize(
    ("program", "text", "version"),
    [
        ("chromium", "Chromium 156.0.8078.79 built on Debian GNU/Linux 12 (bookworm)", "156.0.8078.79"),
        ("chromium", "Google Chrome 150.0.1.2 ", "150.0.1.2"),
        ("chromium", "Google Chrome for Testing 149.0.7.1", "149.0.7.1"),
        ("chromium", "\nline 9: [: unexpected operator\n", None),
        ("ffmpeg", "ffmpeg version 5.1.9-0+deb12u1 Copyright (c) 2000-2026", "5.1.9-0+deb12u1"),
        ("ffmpeg", "ffmpeg version n7.1 Copyright", "n7.1"),
        ("ffmpeg", "ffmpeg version N-118-g0123abc Copyright", "N-118-g0123abc"),
        ("xorg", "\nX.Org X Server 1.21.1.7\nX Protocol Version 11, Revision 0\n", "1.21.1.7"),
        ("pulseaudio", "pulseaudio 16.1\n", "16.1"),
        ("pulseaudio", "W: [pulseaudio] main.c: not meant to be root\npulseaudio 17.0\n", "17.0"),
        ("redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", "7.0.15"),
        ("setpriv", "setpriv from util-linux 2.38.1", "2.38.1"),
        ("setpriv", "", None),
    ],
)
def test_parse_version_should_find_what_the_program_tells(
    program: str, text: str, version: str | None
) -> None:
    assert doctor.parse_version(program, text) == version


@pytest.mark.parametrize(
    ("version", "minimum", "enough"),
    [
        ("5.1.9-0+deb12u1", (5, 1), True),
        ("5.1", (5, 1), True),
        ("5.0.9", (5, 1), False),
        ("4.4.2-0ubuntu0.22.04.1", (5, 1), False),
        ("10.0", (5, 1), True),
        ("n7.1", (5, 1), True),
        ("n4.4", (5, 1), False),
        ("N-118-g0123abc", (5, 1), True),
        ("6", (6,), True),
        ("5.0.14", (6,), False),
    ],
)
def test_at_least_should_compare_numbers_and_not_text(
    version: str, minimum: tuple[int, ...], enough: bool
) -> None:
    assert doctor.at_least(version, minimum) is enough


@pytest.mark.parametrize("text", [OLD_DEVICES, NEW_DEVICES], ids=["before ffmpeg 7", "since ffmpeg 7"])
def test_parse_formats_should_tell_readers_from_writers(text: str) -> None:
    assert doctor.parse_formats(text, "D") == {"alsa", "x11grab", "video4linux2", "v4l2"}
    assert doctor.parse_formats(text, "E") == {"alsa", "caca", "video4linux2", "v4l2"}


def test_parse_formats_should_find_nothing_in_something_else() -> None:
    assert doctor.parse_formats("Unrecognized option 'devices'.", "D") == set()


def test_parse_encoders_should_list_names_below_the_rule() -> None:
    assert doctor.parse_encoders(ENCODERS) == {"libx264", "aac", "opus"}


def test_parse_available_memory_should_give_bytes() -> None:
    text = "MemTotal:       24631012 kB\nMemAvailable:   23117512 kB\n"
    assert doctor.parse_available_memory(text) == 23117512 * 1024
    assert doctor.parse_available_memory("MemTotal: 1 kB\n") is None


@pytest.mark.usefixtures("bare")
def test_run_checks_should_report_every_program_missing_on_a_bare_machine() -> None:
    checks = doctor.run_checks()
    missing = {check.name: check.package for check in checks if check.status == "missing"}
    assert missing == {
        "chromium": "chromium",
        "ffmpeg": "ffmpeg",
        "xorg": "xserver-xorg-core",
        "xorg dummy driver": "xserver-xorg-video-dummy",
        "pulseaudio": "pulseaudio",
        "redis-server": "redis-server",
        "setpriv": "util-linux",
    }
    assert by_name(checks)["fonts: emoji"].status == "warning"
    assert not doctor.is_usable(checks)


def test_scripts_without_letters_should_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fonts = tmp_path / "fonts.conf"
    fonts.write_text(
        "<fontconfig><dir>/usr/share/fonts/truetype/dejavu</dir>"
        f"<cachedir>{tmp_path / 'cache'}</cachedir></fontconfig>"
    )
    monkeypatch.setenv("FONTCONFIG_FILE", str(fonts))
    checks = by_name(doctor.run_checks())
    assert checks["fonts: Latin"].status == "ok"
    assert checks["fonts: CJK"].detail == (
        "no font has the letters of Han, Kana, Bopomofo, Hangul: pages will show boxes"
    )
    others = checks["fonts: other scripts"]
    assert (others.status, others.package) == ("warning", "fonts-noto-core")
    assert "Devanagari, Bengali, Gurmukhi" in others.detail
    assert "Greek" not in others.detail
    assert "fonts-noto-cjk fonts-noto-core fonts-noto-color-emoji" in doctor.format_report([*checks.values()])


@pytest.mark.usefixtures("bare")
def test_require_programs_should_name_everything_that_is_missing() -> None:
    with pytest.raises(ProgramMissingError) as caught:
        farm_programs.require_programs()
    packages = "chromium ffmpeg xserver-xorg-core xserver-xorg-video-dummy pulseaudio util-linux"
    assert caught.value.package == packages
    assert packages in caught.value.message
    with pytest.raises(ProgramMissingError, match="redis-server"):
        farm_programs.require_programs(redis=True)


def test_missing_library_of_displays_should_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recording_farm.browser_bot.stage.programs.XCB_LIBRARY", "libxcb.so.0")
    with pytest.raises(ProgramMissingError) as caught:
        farm_programs.require_programs()
    assert caught.value.package == "libxcb1"
    assert by_name(doctor.run_checks())["libxcb"].status == "missing"


def test_require_programs_should_be_content_with_this_machine_and_run_nothing() -> None:
    before = psutil.Process().children()
    began = time.process_time()
    farm_programs.require_programs(redis=True)
    assert time.process_time() - began < 0.05
    assert psutil.Process().children() == before


def test_run_checks_should_call_a_hanging_program_broken_and_leave_nothing_of_it(bare: Path) -> None:
    pids = bare / "pids"
    sleep = shutil.which("sleep", path=os.defpath)
    body = f"trap '' TERM; {sleep} 60 & echo $$ $! > {pids}; wait"
    script(bare / "chromium", body)
    began = time.monotonic()
    check = by_name(doctor.run_checks(timeout=0.5))["chromium"]
    assert time.monotonic() - began < 6
    assert check == Check("chromium", "broken", None, "did not answer within 0.5 s", "chromium")
    left = [int(pid) for pid in pids.read_text().split()]
    assert len(left) == 2
    deadline = time.monotonic() + 2
    while any(_runs(pid) for pid in left) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(_runs(pid) for pid in left)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_run_checks_should_repeat_the_last_words_of_a_program_that_fails(bare: Path) -> None:
    script(bare / "pulseaudio", "echo one >&2; echo 'libpulse.so: cannot open' >&2; exit 127")
    check = by_name(doctor.run_checks())["pulseaudio"]
    assert check.status == "broken"
    assert check.detail == "ended with 127: libpulse.so: cannot open"


def test_run_checks_should_find_a_file_that_is_no_program_broken(bare: Path) -> None:
    (bare / "ffmpeg").write_bytes(b"\x7fELF")
    (bare / "ffmpeg").chmod(0o755)
    check = by_name(doctor.run_checks())["ffmpeg"]
    assert (check.status, check.package) == ("broken", "ffmpeg")
    assert "cannot be started" in check.detail


def test_run_checks_should_not_take_an_old_ffmpeg(bare: Path) -> None:
    script(bare / "ffmpeg", "echo 'ffmpeg version 4.3.9-0+deb11u1 Copyright'")
    check = by_name(doctor.run_checks())["ffmpeg"]
    assert (check.status, check.version) == ("broken", "4.3.9-0+deb11u1")
    assert "5.1 is needed" in check.detail


def test_run_checks_should_name_what_ffmpeg_was_built_without(bare: Path) -> None:
    script(
        bare / "ffmpeg", "echo 'ffmpeg version 6.0 Copyright'; echo ' --'; echo ' DE hls,mp4,webm,pulse x'"
    )
    detail = by_name(doctor.run_checks())["ffmpeg"].detail
    assert "x11grab (device)" in detail
    assert "libx264 (encoder)" in detail
    assert "hls" not in detail


def test_run_checks_should_find_a_redis_that_does_not_serve_broken(bare: Path) -> None:
    script(bare / "redis-server", '[ "$1" = --version ] && echo "Redis server v=7.0.15" && exit; exit 1')
    check = by_name(doctor.run_checks())["redis-server"]
    assert (check.status, check.detail) == ("broken", "ended with 1 at its start")


def test_run_checks_should_use_the_configured_chromium(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    chromium = script(tmp_path / "mine", "echo Chromium 999.1.2.3")
    monkeypatch.setenv("FARM_CHROMIUM", str(chromium))
    check = by_name(doctor.run_checks())["chromium"]
    assert (check.status, check.version, check.detail) == ("ok", "999.1.2.3", str(chromium))


def test_run_checks_should_find_this_machine_in_order() -> None:
    began = time.monotonic()
    checks = doctor.run_checks()
    assert time.monotonic() - began < 10
    assert doctor.is_usable(checks), doctor.format_report(checks)
    assert all(by_name(checks)[name].version for name in ("chromium", "ffmpeg", "xorg", "redis-server"))
    fonts = [check for check in checks if check.name.startswith("fonts")]
    assert {check.status for check in fonts} == {"ok"}, fonts
    assert json.loads(json.dumps([asdict(check) for check in checks]))


def test_missing_packages_should_name_each_package_once_and_none_that_is_there() -> None:
    checks = [
        Check("chromium", "ok", "1", "", "chromium"),
        Check("ffmpeg", "broken", "4", "", "ffmpeg"),
        Check("fonts: CJK", "warning", None, "", "fontconfig"),
        Check("fonts: emoji", "warning", None, "", "fontconfig"),
        Check("sandbox", "warning"),
    ]
    assert doctor.missing_packages(checks) == ["ffmpeg", "fontconfig"]


@pytest.mark.parametrize(
    ("check", "last_line"),
    [
        (Check("ffmpeg", "ok", "6.0", "", "ffmpeg"), "Everything is in place."),
        (Check("sandbox", "warning"), "Everything is in place. See the warnings above."),
        (
            Check("ffmpeg", "missing", None, "", "ffmpeg"),
            "As root: apt-get install --no-install-recommends ffmpeg",
        ),
        (
            Check("ffmpeg", "broken", None, "", "ffmpeg"),
            "As root: apt-get install --no-install-recommends --reinstall ffmpeg",
        ),
    ],
)
def test_format_report_should_end_with_what_to_do(check: Check, last_line: str) -> None:
    assert doctor.format_report([check]).splitlines()[-1] == last_line


def test_format_report_should_align_its_columns() -> None:
    checks = [
        Check("ffmpeg", "ok", "6.0", "/a/ffmpeg"),
        Check("redis-server", "missing", None, "not there"),
    ]
    assert doctor.format_report(checks).splitlines()[:2] == [
        "ok       ffmpeg        6.0  /a/ffmpeg",
        "missing  redis-server  -    not there",
    ]


def found(name: str) -> Check:
    return next(check for check in doctor.run_checks() if check.name == name)


def test_data_directory_that_cannot_be_written_should_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", doctor.CHECKS[:3])
    for directory in ("/proc", "/proc/self/status/data"):
        monkeypatch.setenv("FARM_DATA_DIR", directory)
        check = found("data directory")
        assert (check.status, "FARM_DATA_DIR" in check.detail) == ("broken", True)


def test_unknown_setting_should_be_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", doctor.CHECKS[:3])
    monkeypatch.setenv("FARM_STOR_URL", "x")
    check = found("settings")
    assert (check.status, check.detail) == (
        "broken",
        "FARM_STOR_URL: unknown setting; did you mean FARM_STORE_URL?",
    )


def test_port_in_use_by_another_program_should_be_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", doctor.CHECKS[:3])
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setenv("FARM_PORT", str(other.getsockname()[1]))
        monkeypatch.setattr(doctor, "check_health", lambda _: {})
        check = found("port")
    assert (check.status, "is in use" in check.detail) == ("warning", True)


def test_takes_on_a_plain_disk_should_be_reported_where_the_store_is_encrypted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", [each for each in doctor.CHECKS if each[0] == "takes at rest"])
    monkeypatch.setenv("FARM_DATA_DIR", str(tmp_path / "data"))
    assert found("takes at rest").status == "ok"

    monkeypatch.setenv("FARM_STORE_ENCRYPTION", "on")
    monkeypatch.setattr(doctor, "is_encrypted", lambda _: False)
    assert found("takes at rest").status == "warning"
    assert str(tmp_path / "data") in found("takes at rest").detail

    monkeypatch.setattr(doctor, "is_encrypted", lambda _: True)
    assert found("takes at rest").status == "ok"


@pytest.mark.parametrize(
    ("setting", "problem", "status", "words"),
    [
        ("filtered", None, "ok", "public addresses and FARM_ALLOW_PRIVATE_ADDRESSES only"),
        ("filtered", "unshare: Operation not permitted", "warning", "UDP of pages is off"),
        ("off", None, "ok", "is off"),
        ("off", "unshare: Operation not permitted", "ok", "by Chromium's own switch"),
        ("open", None, "warning", "private ones too"),
    ],
)
def test_where_pages_send_udp_should_be_told(
    monkeypatch: pytest.MonkeyPatch, setting: str, problem: str | None, status: str, words: str
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", [each for each in doctor.CHECKS if each[0] == "webrtc"])
    monkeypatch.setattr(doctor, "namespace_problem", lambda: problem)
    monkeypatch.setenv("FARM_WEBRTC_UDP", setting)
    (check,) = doctor.run_checks()
    assert check.status == status
    assert words in check.detail


def make_certificate(directory: Path, name: str, days: int) -> tuple[str, str]:
    """A certificate and its key, in two files."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-subj", "/CN=farm.test", "-days", str(days), "-keyout", str(key)]
    subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True, timeout=60)
    return str(certificate), str(key)


def test_certificate_of_the_api_should_be_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "CHECKS", [each for each in doctor.CHECKS if each[0] == "certificate"])
    assert found("certificate").status == "ok"
    good, soon = make_certificate(tmp_path, "good", 30), make_certificate(tmp_path, "soon", 13)
    own_authority(tmp_path).server("farm.test", expired=True)
    expired = str(tmp_path / "farm.test-old.pem")
    for certificate, key, status, words in (
        (*good, "ok", "is valid until"),
        (*soon, "warning", "soon.pem is valid until"),
        (expired, expired, "broken", "has expired on"),
        (good[0], soon[1], "broken", "soon.key is not the key of"),
        (good[0], f"{tmp_path}/missing", "broken", "FARM_TLS_KEY: "),
    ):
        monkeypatch.setenv("FARM_TLS_CERTIFICATE", certificate)
        monkeypatch.setenv("FARM_TLS_KEY", key)
        check = found("certificate")
        assert check.status == status, check
        assert words in check.detail
