import subprocess
from pathlib import Path

import av
import pytest

from recording_farm.encoder.formats import AudioCodec, AudioExport, Codec, Format
from recording_farm.encoder.takes.command import Source, TakeFiles, cheapest_step, take_arguments

SOURCE = Source(":7", Path("/stage/xauthority"), "unix:/stage/pulse.sock", "stage.monitor")
EPOCH = 1_700_000_000

INPUTS = [
    *("-f", "ffmetadata", "-i", "/spool/take-002.sound-gate"),
    *("-f", "pulse", "-channels", "2", "-fragment_size", "3840", "-name", "recording-farm"),
    *("-sample_rate", "48000", "-server", "unix:/stage/pulse.sock", "-thread_queue_size", "512"),
    *("-i", "stage.monitor"),
    *("-f", "ffmetadata", "-i", "/spool/take-002.display-gate"),
    *("-f", "x11grab", "-video_size", "1280x720", "-draw_mouse", "0", "-framerate", "1000000/33333"),
    *("-thread_queue_size", "16", "-i", ":7"),
]


ENCODER = {
    Codec.H264: [
        *("-b:a", "128000", "-ac", "2", "-acodec", "aac", "-ar", "48000", "-bf", "0", "-bufsize", "6000000"),
        *("-color_primaries", "bt709", "-color_range", "tv", "-color_trc", "bt709", "-colorspace", "bt709"),
        *("-crf", "23", "-enc_time_base:v", "1:1000000"),
        *("-force_key_frames", "expr:eq(n,7)+eq(n,15)+eq(n,30)", "-forced-idr", "1"),
        *("-flush_packets", "1", "-fps_mode", "passthrough", "-frag_duration", "250000", "-g", "60"),
        *("-keyint_min", "60", "-max_interleave_delta", "2000000", "-maxrate", "3000000"),
        *("-movflags", "delay_moov+default_base_moof+skip_trailer", "-movie_timescale", "1000000"),
        *("-preset", "veryfast", "-sc_threshold", "0", "-threads:v", "1", "-vcodec", "libx264"),
        *("-x264-params", "mbtree=0:rc-lookahead=0:weightp=0"),
    ],
    Codec.VP8: [
        *("-b:v", "3000000", "-b:a", "128000", "-ac", "2", "-acodec", "libopus", "-ar", "48000"),
        *("-auto-alt-ref", "0", "-bufsize", "6000000", "-cluster_time_limit", "2000"),
        *("-color_range", "tv", "-colorspace", "smpte170m", "-cpu-used", "16", "-crf", "12"),
        *("-deadline", "realtime", "-enc_time_base:v", "1:1000000", "-flush_packets", "1"),
        *("-force_key_frames", "expr:eq(n,7)+eq(n,15)+eq(n,30)", "-fps_mode", "passthrough", "-g", "60"),
        *("-keyint_min", "60", "-lag-in-frames", "0", "-max_interleave_delta", "2000000"),
        *("-maxrate", "3000000", "-threads:v", "1", "-vcodec", "libvpx"),
    ],
}


def arguments(fmt: Format, step: int = 0) -> list[str]:
    return take_arguments(SOURCE, TakeFiles(Path("/spool"), 2, fmt.take_suffix), fmt, EPOCH, step)


def option(args: list[str], name: str) -> str:
    return args[args.index(name) + 1]


def test_inputs_should_be_opened_sound_first_each_behind_its_gate() -> None:
    args = arguments(Format())
    assert args[: len(INPUTS)] == INPUTS


def test_one_epoch_should_be_subtracted_from_picture_and_sound() -> None:
    graph = option(arguments(Format()), "-filter_complex")
    assert graph == (
        f"[1:a]asetpts=(PTS-{EPOCH}/TB)*100000/99999[s0];[s0]aresample=async=1000:flags=res[s1];"
        "[s1]silencedetect=duration=1:noise=0.001[s2];"
        f"[3:v]setpts=(PTS-{EPOCH}/TB)*100000/99999[s3];[s3]scale=flags=area+full_chroma_inp:out_color_matrix=bt709:out_range=tv[s4];"
        "[s4]format=yuv420p[s5]"
    )


@pytest.mark.parametrize("codec", list(Codec))
def test_time_stamps_should_be_passed_through(codec: Codec) -> None:
    args = arguments(Format(codec))
    assert "-copyts" in args
    assert option(args, "-fps_mode") == "passthrough"
    assert option(args, "-enc_time_base:v") == "1:1000000"
    assert not any("fps=" in arg for arg in args)


def test_h264_should_be_a_growing_mp4_in_fragments() -> None:
    args = arguments(Format())
    assert "/spool/take-002.mp4" in args
    assert option(args, "-frag_duration") == "250000"
    assert option(args, "-vcodec") == "libx264"
    assert option(args, "-bf") == "0"


def test_vp8_should_be_webm_with_clusters_of_two_seconds() -> None:
    args = arguments(Format(Codec.VP8))
    assert "/spool/take-002.webm" in args
    assert option(args, "-vcodec") == "libvpx"
    assert option(args, "-acodec") == "libopus"
    assert option(args, "-cluster_time_limit") == "2000"


@pytest.mark.parametrize("export", [AudioExport(), AudioExport(AudioCodec.MP3, 1)])
def test_take_without_picture_should_be_the_sound_alone(export: AudioExport) -> None:
    args = arguments(Format(Codec.VP8, audio_only=export))
    sound = INPUTS.index("/spool/take-002.display-gate") - 3
    assert args[:sound] == INPUTS[:sound]
    assert args.count("-i") == 2
    assert option(args, "-filter_complex") == (
        f"[1:a]asetpts=PTS-{EPOCH}/TB[s0];[s0]aresample=async=1000[s1];[s1]silencedetect=duration=1:noise=0.001[s2]"
    )
    assert "-vcodec" not in args
    assert option(args, "-acodec") == "aac"


def test_take_without_picture_should_be_a_growing_mp4_too() -> None:
    args = arguments(Format(audio_only=AudioExport()))
    assert "/spool/take-002.m4a" in args
    assert option(args, "-frag_duration") == "250000"


@pytest.mark.parametrize(
    ("fps", "rate", "key_frames"), [(15, "500000/33333", "30"), (60, "500000/8333", "120")]
)
def test_frame_rate_should_be_of_whole_microseconds(fps: int, rate: str, key_frames: str) -> None:
    args = arguments(Format(fps=fps))
    assert option(args, "-framerate") == rate
    assert option(args, "-g") == key_frames


def test_bit_rate_should_follow_the_size() -> None:
    assert Format().max_bitrate == 3_000_000
    assert Format(width=1920, height=1080).max_bitrate == 6_750_000
    assert Format(width=16, height=16).max_bitrate == 200_000


@pytest.mark.parametrize("codec", list(Codec))
def test_usual_way_of_encoding_should_be_this(codec: Codec) -> None:
    args = arguments(Format(codec))
    pairs = [(ENCODER[codec][i], ENCODER[codec][i + 1]) for i in range(0, len(ENCODER[codec]), 2)]
    assert all(option(args, name) == value for name, value in pairs)
    assert arguments(Format(codec), 0) == args


@pytest.mark.parametrize("codec", list(Codec))
def test_each_step_should_differ_and_none_should_lie_behind_the_last(codec: Codec) -> None:
    steps = [tuple(arguments(Format(codec), step)) for step in range(cheapest_step(Format(codec)) + 1)]
    assert len(steps) == len(set(steps)) == 3
    with pytest.raises(IndexError):
        arguments(Format(codec), len(steps))


def test_sound_alone_should_have_no_cheaper_way() -> None:
    assert cheapest_step(Format(audio_only=AudioExport())) == 0


def encoded(directory: Path, step: int) -> Path:
    """A test picture and tone, encoded as a take is."""
    fmt = Format(width=640, height=360)
    files = TakeFiles(directory, step, fmt.take_suffix)
    args = take_arguments(SOURCE, files, fmt, EPOCH, step)
    output = args[max(i for i, arg in enumerate(args) if arg == "-map") + 2 : args.index("-hide_banner")]
    picture = f"testsrc=size={fmt.width}x{fmt.height}:rate={fmt.rate}:duration=1"
    command = [
        *("ffmpeg", "-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=duration=1"),
        *("-map", "0:v", "-map", "1:a", "-pix_fmt", "yuv420p", *output),
    ]
    subprocess.run(command, check=True, timeout=60)
    return files.media


def test_all_steps_should_have_the_same_parameter_sets(tmp_path: Path) -> None:
    headers = set()
    sizes = set()
    for step in range(cheapest_step(Format()) + 1):
        file = encoded(tmp_path, step)
        sizes.add(file.stat().st_size)
        with av.open(str(file)) as source:
            headers.add(source.streams.video[0].codec_context.extradata)
    assert len(headers) == 1
    assert len(headers.pop() or b"") > 30
    assert len(sizes) == 3
