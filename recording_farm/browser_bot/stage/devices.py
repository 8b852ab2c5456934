"""Fake devices for pages: a silent microphone and a dark camera.

Chromium takes files for its devices (`--use-fake-device-for-media-stream`) and opens them only while a page
uses a device. It goes on playing to PulseAudio: of outputs it fakes the list alone, see OUTPUTS.
"""

import wave
from pathlib import Path
from typing import Final

OUTPUTS: Final = ("fake_audio_output_1", "fake_audio_output_2")
"""The outputs that Chromium then tells pages of, besides the default one: it plays to sinks of these names.

(GetFakeAudioDevices in Chromium's media_devices_manager.cc.)
"""

PREFERENCES: Final = {
    "profile": {"default_content_setting_values": {"media_stream_mic": 1, "media_stream_camera": 1}}
}
"""Preferences of a profile in which every page may use both; 1 is ALLOW in content_settings.mojom."""

_CAMERA: Final = "Dark camera.y4m"
"""Chromium calls a camera by its file, as it is given."""

_MICROPHONE: Final = "silence.wav"
# A usual web camera with few frames. Pages ask for 15 a second at least (`frameRate: {min: 15}`), and each
# one costs: while a page has the camera and while it sends, 30 a second cost 9 % and 20 % of a core, 15 cost
# 5 % and 14 % (measured).
_WIDTH, _HEIGHT, _FPS = 1280, 720, 15
_SAMPLE_RATE = 48_000


def write_devices(directory: Path) -> list[str]:
    """Make the files in `directory`; returns the switches of a Chromium that is started there."""
    with wave.open(str(directory / _MICROPHONE), "wb") as silence:
        silence.setnchannels(1)
        silence.setsampwidth(2)
        silence.setframerate(_SAMPLE_RATE)
        silence.writeframes(bytes(2 * _SAMPLE_RATE // 10))
    # One frame, which Chromium repeats: black in BT.601's limited range, two bytes of color for four pixels.
    frame = b"\x10" * (_WIDTH * _HEIGHT) + b"\x80" * (_WIDTH * _HEIGHT // 2)
    header = f"YUV4MPEG2 W{_WIDTH} H{_HEIGHT} F{_FPS}:1 Ip A1:1 C420\nFRAME\n"
    (directory / _CAMERA).write_bytes(header.encode() + frame)
    return [
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={_MICROPHONE}",
        f"--use-file-for-fake-video-capture={_CAMERA}",
    ]
