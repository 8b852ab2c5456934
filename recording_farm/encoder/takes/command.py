"""The ffmpeg command of one take: pure functions over ffmpeg-python.

Four inputs are opened in this order: a gate, the sound, a gate, the display. A gate is a FIFO that ffmpeg
reads as a metadata file with nothing in it: ffmpeg waits there until somebody opens and closes the other
end. So a take is loaded and ready long before it begins, and begins at the moment that the clock chooses.
A take without picture has the first two alone.
"""

from dataclasses import dataclass
from pathlib import Path

import ffmpeg

from recording_farm.encoder.formats import KEY_FRAME_SECONDS, SAMPLE_RATE, Codec, Format, Profile

PULSE_FRAGMENT_BYTES = 3840
"""20 ms of 16-bit stereo: what PulseAudio hands over at once. Its default, 2 s, makes the sound's time stamps
wander."""

VIDEO_QUEUE_FRAMES = 16
"""Grabbed frames wait here when the encoder is busy: 16 of 720p are 59 MB, and more would only hide that the
machine is too slow."""

AUDIO_QUEUE_PACKETS = 512
EARLY_KEY_FRAMES = 4, 2, 1
"""Clusters of WebM begin at key frames, which come every 2 s, but sooner in the first second (shares of it):
what is killed right after its start leaves a file too."""

FRAGMENT_US = 250_000
"""MP4 is written in fragments of so many µs, which need not begin at key frames: so much a killed ffmpeg
takes along. The mp4 muxer itself must part them: the hls muxer does not show it the next frame, so it reckons
a fragment's last frame to last as long as any other and adds the error to all times behind it (measured: 330
ms for good after one stall of the grabbing)."""

X264_PARAMETERS = "mbtree=0:rc-lookahead=0:weightp=0"
"""Looking ahead costs a sixth of the encoder's time and holds frames back that a crash would take; weighing
them for fades, which meetings do not have, costs some more."""

COLOR_CONVERSION = "area+full_chroma_inp"
"""Colors at full width and then the mean of each square of four pixels: as good as swscale's default (31.6
dB both, on colored boxes) at half of its instructions (15 against 29 million a frame of 720p), because its
short cut to half the width is no vector code."""

# Options for a machine that is too slow; each step is cheaper than the last. Encoder time saved, measured
# with a still page and with noise: H.264 48 % and 29 %, then 51 % and 42 %; VP8 54 % and 7 %, then 66 % and
# 27 %. H.264 options must not change SPS and PPS: a file has one of each for all its takes.
STEPS: dict[Codec, tuple[dict[str, object], ...]] = {
    Codec.H264: (
        {"x264-params": f"{X264_PARAMETERS}:subme=0:me=dia"},
        {"x264-params": f"{X264_PARAMETERS}:subme=0:me=dia:partitions=none:no-deblock=1"},
    ),
    Codec.VP8: (
        {"static-thresh": 1000},
        {"static-thresh": 1000, "profile:v": 3, "crf": 30},
    ),
}
H264_LOSS = {Profile.TALK: 26, Profile.TEXT: 20, Profile.MIXED: 23, Profile.MOTION: 23}
"""How much is left out (CRF) for each profile, as long as the bits suffice."""

VP8_LOSS = {Profile.TALK: 20, Profile.TEXT: 8, Profile.MIXED: 12, Profile.MOTION: 12}
# Messages of ffmpeg: its inputs as it opens them and its warnings on stderr, its progress on stdout.
SPEECH = (
    *("-hide_banner", "-nostdin", "-nostats", "-loglevel", "info"),
    *("-progress", "pipe:1", "-stats_period", "0.1"),
)

SILENCE = 0.001
"""Quieter than this (of full scale, -60 dB), for so long (s), is reported as silence."""

SILENCE_SECONDS = 1


@dataclass(frozen=True)
class Watermark:
    """A picture with transparency that is drawn over the display's, and where its left upper corner is.

    Position and size are even, because both codecs store color for squares of four pixels.
    """

    file: Path
    left: int
    top: int


@dataclass(frozen=True)
class Source:
    """Where a take comes from: an X display with its cookie file, and a PulseAudio server and source.

    With a `watermark` that is in the picture, too.
    """

    display: str
    authority: Path
    pulse_server: str
    pulse_source: str
    watermark: Watermark | None = None


@dataclass(frozen=True)
class TakeFiles:
    """The files of one take, all in the spool: `take-000.mp4` (`suffix` is `.mp4`) and its companions."""

    directory: Path
    number: int
    suffix: str

    def _with(self, ending: str) -> Path:
        return self.directory / f"take-{self.number:03d}{ending}"

    @property
    def media(self) -> Path:
        """The growing file, at any moment whole but for its last quarter of a second (WebM: 2 s)."""
        return self._with(self.suffix)

    @property
    def sound_gate(self) -> Path:
        """The FIFO before the sound."""
        return self._with(".sound-gate")

    @property
    def display_gate(self) -> Path:
        """The FIFO before the display."""
        return self._with(".display-gate")

    @property
    def log(self) -> Path:
        """The log of ffmpeg."""
        return self._with(".log")

    @property
    def journal(self) -> Path:
        """The journal of the take, as JSON."""
        return self._with(".json")

    def remove(self) -> None:
        """Delete all of them."""
        for file in self.directory.glob(f"take-{self.number:03d}.*"):
            file.unlink(missing_ok=True)


def take_arguments(source: Source, files: TakeFiles, fmt: Format, epoch: int, step: int = 0) -> list[str]:
    """The ffmpeg arguments that record `source` into `files`.

    `epoch` is a wall-clock second before the take; time stamps in the take count from it, for the picture
    and the sound alike. Without that one origin ffmpeg moves each input's first stamp to zero by itself,
    and they start apart by what opening the devices took (measured: -105 to +394 ms). The picture is encoded
    `step` steps cheaper than usual, up to `cheapest_step`.
    """
    streams = [_gate(files.sound_gate), _sound(source, fmt, epoch)]
    if fmt.audio_only is None:
        streams += [_gate(files.display_gate), _picture(source, fmt, epoch)]
    output = ffmpeg.output(
        *streams,
        str(files.media),
        copyts=None,
        **encoding(fmt) | _cheaper(fmt, step),
    )
    arguments: list[str] = output.global_args(*SPEECH).get_args()
    return arguments


def _gate(fifo: Path) -> ffmpeg.nodes.FilterableStream:
    # The gate never has video. `v?`, an optional stream, makes it an input of the command nevertheless.
    return ffmpeg.input(str(fifo), format="ffmetadata")["v?"]


def _sound(source: Source, fmt: Format, epoch: int) -> ffmpeg.nodes.FilterableStream:
    sound = ffmpeg.input(
        source.pulse_source,
        format="pulse",
        server=source.pulse_server,
        name="recording-farm",
        sample_rate=SAMPLE_RATE,
        channels=2,
        fragment_size=PULSE_FRAGMENT_BYTES,
        thread_queue_size=AUDIO_QUEUE_PACKETS,
    ).audio
    # Stretched audio is resampled from the first sample, not only after drift has built up.
    resampling = {"async": 1000} | ({} if fmt.stretch == 1 else {"flags": "res"})
    sound = sound.filter("asetpts", _take_time(fmt, epoch)).filter("aresample", **resampling)
    return sound.filter("silencedetect", noise=SILENCE, duration=SILENCE_SECONDS)


def _picture(source: Source, fmt: Format, epoch: int) -> ffmpeg.nodes.FilterableStream:
    picture = ffmpeg.input(
        source.display,
        format="x11grab",
        framerate=f"{fmt.rate.numerator}/{fmt.rate.denominator}",
        video_size=(fmt.width, fmt.height),
        draw_mouse=0,
        thread_queue_size=VIDEO_QUEUE_FRAMES,
    ).video
    picture = picture.filter("setpts", _take_time(fmt, epoch))
    picture = _in_color(picture, fmt, "yuv420p")
    if (mark := source.watermark) is None:
        return picture
    # The watermark has one frame, which arrives first and is repeated.
    drawn = _in_color(ffmpeg.input(str(mark.file), format="png_pipe").video, fmt, "yuva420p")
    return ffmpeg.overlay(picture, drawn, x=mark.left, y=mark.top, eof_action="repeat", format="yuv420")


def _take_time(fmt: Format, epoch: int) -> str:
    """The filter that turns wall-clock stamps into the take's, see `Format.stretch`."""
    since_epoch = f"PTS-{epoch}/TB"
    numerator, denominator = fmt.stretch.as_integer_ratio()
    return since_epoch if fmt.stretch == 1 else f"({since_epoch})*{numerator}/{denominator}"


def _in_color(
    picture: ffmpeg.nodes.FilterableStream, fmt: Format, pixels: str
) -> ffmpeg.nodes.FilterableStream:
    picture = picture.filter(
        "scale", out_color_matrix=_color_matrix(fmt.codec), out_range="tv", flags=COLOR_CONVERSION
    )
    return picture.filter("format", pixels)


def cheapest_step(fmt: Format) -> int:
    """The last step; audio alone has only step 0, the usual options."""
    return len(STEPS[fmt.codec]) if fmt.audio_only is None else 0


def _cheaper(fmt: Format, step: int) -> dict[str, object]:
    return STEPS[fmt.codec][step - 1] if step else {}


def _color_matrix(codec: Codec) -> str:
    # VP8 can only signal BT.601; players expect BT.709 of H.264 in HD.
    return "bt709" if codec is Codec.H264 else "smpte170m"


def encoding(fmt: Format) -> dict[str, object]:
    """The options of ffmpeg's output: video and audio encoding, and the growing file."""
    sound: dict[str, object] = {"ar": SAMPLE_RATE, "ac": 2, "audio_bitrate": 128_000}
    in_mp4: dict[str, object] = {
        "acodec": "aac",
        "format": "mp4",
        # The start times of audio and video are known with the first fragment, and not before.
        "movflags": "delay_moov+default_base_moof+skip_trailer",
        "movie_timescale": 1_000_000,
        "frag_duration": FRAGMENT_US,
        "flush_packets": 1,
    }
    if fmt.audio_only is not None:
        return sound | in_mp4
    with_picture: dict[str, object] = sound | {
        # The muxer must not delay video for long to wait for silent or late audio. But it must wait for late
        # video (see FRAGMENT_US) as long as the watchdog tolerates it: 1.2 s.
        "max_interleave_delta": 2_000_000,
        # Timestamps come from the clock, not from a frame count, so no frame is duplicated or dropped. The
        # encoder's default time base of 1/fps would round two frames to one timestamp.
        "fps_mode": "passthrough",
        "enc_time_base:v": "1:1000000",
        "g": KEY_FRAME_SECONDS * fmt.fps,
        "keyint_min": KEY_FRAME_SECONDS * fmt.fps,
        "force_key_frames": "expr:" + "+".join(f"eq(n,{fmt.fps // share})" for share in EARLY_KEY_FRAMES),
        "colorspace": _color_matrix(fmt.codec),
        "color_range": "tv",
        "threads:v": fmt.threads,
        "maxrate": fmt.max_bitrate,
        "bufsize": 2 * fmt.max_bitrate,
    }
    if fmt.codec is Codec.H264:
        return (
            with_picture
            | in_mp4
            | {
                "vcodec": "libx264",
                "preset": "veryfast",
                "crf": H264_LOSS[fmt.profile],
                "sc_threshold": 0,
                "forced-idr": 1,
                # Without B-frames timestamps only increase, a take can be cut at any frame, and it is
                # complete up to the last written frame. B-frames would save about a tenth of the size.
                "bf": 0,
                "x264-params": X264_PARAMETERS,
                "color_primaries": "bt709",
                "color_trc": "bt709",
            }
        )
    return with_picture | {
        "vcodec": "libvpx",
        "deadline": "realtime",
        "cpu-used": 16,
        "auto-alt-ref": 0,
        "lag-in-frames": 0,
        "crf": VP8_LOSS[fmt.profile],
        "video_bitrate": fmt.max_bitrate,
        "acodec": "libopus",
        "format": "webm",
        "cluster_time_limit": KEY_FRAME_SECONDS * 1000,
        # A nearly still picture needs minutes to fill ffmpeg's buffer, which is lost if ffmpeg is killed.
        "flush_packets": 1,
    }
