"""`farm record`, run as an operator runs it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from recording_farm.encoder.media.probe import probe
from recording_farm.farm.cli.main import record
from recording_farm.farm.cli.record import progress_line
from recording_farm.farm.errors import ProgramMissingError, RecordingFailedError
from recording_farm.farm.recorder.recorder import Recorder
from testkit.machine.load import Stolen
from testkit.machine.processes import below, stage_programs, wait_until_none
from testkit.pages import FIDELITY_PAGE

PAGE = f"file://{FIDELITY_PAGE}"


def farm_record(*arguments: str | Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "recording_farm.farm.cli", "record", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until_recording(process: "subprocess.Popen[str]", directory: Path) -> None:
    deadline = time.monotonic() + 30
    while not any(take.stat().st_size > 5_000 for take in directory.glob(".*takes*/take-*")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.exact
@pytest.mark.parametrize(
    ("name", "more", "codecs", "size"),
    [
        ("a.mp4", (), {"h264", "aac"}, (1280, 720)),
        pytest.param(
            *("b.webm", ("--codec", "VP8", "--size", "360x640"), {"vp8", "opus"}, (360, 640)),
            marks=pytest.mark.long,
        ),
    ],
)
def test_json_should_tell_what_was_recorded(
    tmp_path: Path, name: str, more: tuple[str, ...], codecs: set[str], size: tuple[int, int]
) -> None:
    stolen = Stolen.from_now()
    process = farm_record(PAGE, "--out", tmp_path / name, "--seconds", "2", "--json", *more)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    report = json.loads(stdout)
    assert report["path"] == str(tmp_path / name)
    missing = stolen.seconds()  # at most: what the machine did not have, no recording of it has
    assert report["duration"] == pytest.approx(2, abs=0.15 + missing)
    assert report["bytes"] == (tmp_path / name).stat().st_size
    assert report["reason"] == "MAX_DURATION"
    assert 50 - 30 * missing <= report["frames_captured"] <= 65
    assert 0 < report["start_latency"] < 20
    assert {stream["codec"] for stream in report["streams"]} == codecs
    video = next(stream for stream in report["streams"] if stream["type"] == "video")
    assert (video["width"], video["height"]) == size
    # The takes are gone, and nothing runs any more.
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert wait_until_none() == []


@pytest.mark.parametrize(
    ("name", "codec"), [("a.m4a", "aac"), pytest.param("b.mp3", "mp3", marks=pytest.mark.long)]
)
def test_sound_alone_should_be_recorded_by_the_files_suffix(tmp_path: Path, name: str, codec: str) -> None:
    process = farm_record(PAGE, "--out", tmp_path / name, "--seconds", "2", "--json")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    report = json.loads(stdout)
    assert report["streams"] == [{"type": "audio", "codec": codec, "sample_rate": 48000, "channels": 2}]
    assert report["duration"] == pytest.approx(2, abs=0.5)
    assert (report["frames_captured"], report["frames_lost"], report["takes"]) == (0, 0, 1)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_people_should_be_told_of_no_frames_where_there_is_no_picture(tmp_path: Path) -> None:
    process = farm_record(PAGE, "--out", tmp_path / "a.m4a", "--seconds", "1")
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "audio aac 48000 Hz stereo" in stderr
    assert "frames" not in stderr
    assert stdout == ""


@pytest.mark.parametrize("sign", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_interrupt_should_end_it_properly_and_keep_the_file(tmp_path: Path, sign: signal.Signals) -> None:
    process = farm_record(PAGE, "--out", tmp_path / "a.mp4", "--json")
    wait_until_recording(process, tmp_path)
    # As a terminal's Ctrl-C does, to the whole process group.
    os.killpg(process.pid, sign)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["reason"] == "STOPPED"
    assert probe(tmp_path / "a.mp4").duration_us > 200_000
    assert wait_until_none() == []


def test_page_that_ends_should_end_the_recording(tmp_path: Path) -> None:
    process = farm_record(f"{PAGE}?seconds=2", "--out", tmp_path / "a.mp4", "--json")
    stdout, _ = process.communicate(timeout=60)
    assert json.loads(stdout)["reason"] == "PAGE_ENDED"


def test_kill_should_leave_no_program_and_keep_the_takes(tmp_path: Path) -> None:
    process = farm_record(PAGE, "--out", tmp_path / "a.mp4", "--json")
    wait_until_recording(process, tmp_path)
    assert stage_programs()
    process.kill()
    process.communicate()
    assert wait_until_none(5) == []
    (take,) = tmp_path.glob(".*takes*/take-*.mp4")
    assert probe(take).streams


@pytest.mark.long
def test_killed_encoder_should_be_replaced_by_a_new_take(tmp_path: Path) -> None:
    process = farm_record(PAGE, "--out", tmp_path / "a.mp4", "--seconds", "6", "--json")
    wait_until_recording(process, tmp_path)
    (encoder,) = below(process.pid, name="ffmpeg")
    encoder.kill()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    report = json.loads(stdout)
    assert report["takes"] == 2
    assert report["duration"] > 3.5
    assert probe(tmp_path / "a.mp4").duration_us == pytest.approx(report["duration"] * 1e6, rel=0.01)


@pytest.mark.long
def test_killed_display_should_be_replaced_by_a_new_stage(tmp_path: Path) -> None:
    process = farm_record(PAGE, "--out", tmp_path / "a.mp4", "--seconds", "5", "--json")
    wait_until_recording(process, tmp_path)
    (xorg,) = below(process.pid, name="Xorg")
    xorg.kill()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    report = json.loads(stdout)
    assert (report["reason"], report["takes"], report["fault"]) == ("MAX_DURATION", 2, None)
    assert report["duration"] > 2.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--codec", "VP9"), "VP9"),
        (("--size", "1281x720"), "even"),
        (("--size", "14x14"), "even"),
        (("--size", "1280x2000"), "even"),
        (("--size", "big"), "size like"),
        (("--fps", "200"), "fps"),
        (("--seconds", "0"), "seconds"),
        (("--codec", "VP8"), ".webm"),
    ],
)
def test_bad_option_should_be_refused_in_words(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    refused = CliRunner().invoke(record, [PAGE, "--out", str(tmp_path / "a.mp4"), *arguments])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert words in refused.stderr


@pytest.mark.parametrize("url", ["foo", "https://", "//example.com/a", "http://[::1"])
def test_text_that_is_no_url_should_be_refused_at_once(tmp_path: Path, url: str) -> None:
    refused = CliRunner().invoke(record, [url, "--out", str(tmp_path / "a.mp4")])
    assert refused.exit_code == 2
    assert "not a valid URL" in refused.stderr


def test_existing_file_should_only_be_overwritten_when_forced(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("mine")
    refused = CliRunner().invoke(record, [PAGE, "--out", str(tmp_path / "a.mp4")])
    assert refused.exit_code == 2
    assert "overwrite it with --force" in refused.stderr
    assert (tmp_path / "a.mp4").read_text() == "mine"


def test_missing_program_should_be_reported_with_its_remedy_before_anything_starts(tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path), "FARM_CHROMIUM": sys.executable}
    refused = CliRunner(env=environment).invoke(record, [PAGE, "--out", str(tmp_path / "a.mp4")])
    assert isinstance(refused.exception, ProgramMissingError)
    assert "are not installed; install with: apt-get install ffmpeg" in str(refused.exception)
    assert list(tmp_path.iterdir()) == []


def test_progress_should_say_when_the_file_is_finished() -> None:
    recorder = Recorder.__new__(Recorder)
    recorder._takes, recorder._time = None, SimpleNamespace(recorded_ns=5)  # type: ignore[assignment]
    assert progress_line(recorder, is_ending=True) == "finishing the file …"
    recorder._time = SimpleNamespace(recorded_ns=0)  # type: ignore[assignment]
    assert progress_line(recorder, is_ending=True) == "ending …"
    assert progress_line(recorder) == "opening the page …"


def test_full_disk_should_end_it_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    refused = CliRunner().invoke(record, [PAGE, "--out", str(tmp_path / "a.mp4")])
    assert isinstance(refused.exception, RecordingFailedError)
    assert str(refused.exception) == (f"not enough disk space in {tmp_path}: 1 MiB free, 64 MiB needed")


@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "VP8"), ("a.mp3", "H264")])
def test_video_codec_should_be_refused_for_sound_alone(tmp_path: Path, name: str, codec: str) -> None:
    process = farm_record(PAGE, "--out", tmp_path / name, "--codec", codec)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "has no video" in stderr
    assert stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_page_that_does_not_load_should_fail_and_leave_evidence(tmp_path: Path) -> None:
    process = farm_record("file:///nosuchfile.html", "--out", tmp_path / "a.mp4", "--json")
    stdout, stderr = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "no such file" in stderr
    assert stdout == ""
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4.evidence"]
    assert (tmp_path / "a.mp4.evidence" / "fault-001" / "fault.json").exists()
