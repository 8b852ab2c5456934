"""Fake media devices for pages: a silent microphone and a black camera.

Chromium reads its fake devices from files (`--use-fake-device-for-media-stream`), only while a page uses
them. It still plays to PulseAudio: for outputs it only fakes the list, see OUTPUTS.
"""

import wave
from pathlib import Path
from typing import Final

OUTPUTS: Final = ("fake_audio_output_1", "fake_audio_output_2")
"""The outputs that Chromium then lists besides the default one. It plays to sinks with these names.

(GetFakeAudioDevices in Chromium's media_devices_manager.cc.)
"""

PREFERENCES: Final = {
    "profile": {"default_content_setting_values": {"media_stream_mic": 1, "media_stream_camera": 1}}
}
"""Profile preferences that let every page use both; 1 is ALLOW in content_settings.mojom."""

_CAMERA: Final = "Dark camera.y4m"
"""Pages see the file name as the name of the camera."""

_MICROPHONE: Final = "silence.wav"
# A common webcam resolution at a low frame rate, because each frame costs CPU; pages may require 15 fps
# (`frameRate: {min: 15}`). 30 fps cost 9 % of a core while a page has the camera and 20 % while it sends; 15
# fps cost 5 % and 14 % (measured).
_WIDTH, _HEIGHT, _FPS = 1280, 720, 15
_SAMPLE_RATE = 48_000


def write_devices(directory: Path) -> list[str]:
    """Write the files to `directory` and return the switches for a Chromium that runs in it."""
    with wave.open(str(directory / _MICROPHONE), "wb") as silence:
        silence.setnchannels(1)
        silence.setsampwidth(2)
        silence.setframerate(_SAMPLE_RATE)
        silence.writeframes(bytes(2 * _SAMPLE_RATE // 10))
    # One frame, which Chromium repeats: black in BT.601's limited range, 4:2:0.
    frame = b"\x10" * (_WIDTH * _HEIGHT) + b"\x80" * (_WIDTH * _HEIGHT // 2)
    header = f"YUV4MPEG2 W{_WIDTH} H{_HEIGHT} F{_FPS}:1 Ip A1:1 C420\nFRAME\n"
    (directory / _CAMERA).write_bytes(header.encode() + frame)
    return [
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={_MICROPHONE}",
        f"--use-file-for-fake-video-capture={_CAMERA}",
    ]
