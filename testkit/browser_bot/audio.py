"""Captures what a stage's audio device plays."""

import numpy as np

from recording_farm.browser_bot.stage.audio import AudioDevice
from testkit.machine.processes import run


async def listen(audio: AudioDevice, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return what an audio device plays: one channel at 48 kHz, full scale 1."""
    code, samples, complaints = await run(
        *("ffmpeg", "-loglevel", "error", "-f", "pulse", "-fragment_size", "3840"),
        *("-probesize", "32", "-analyzeduration", "0"),
        *("-server", audio.server, "-i", audio.source),
        *("-t", str(seconds), "-ac", "1", "-ar", "48000", "-f", "s16le", "-"),
        env={},
    )
    assert code == 0, complaints
    return np.frombuffer(samples, np.int16).astype(np.float64) / 32768


def loudest_frequency(samples: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """The loudest frequency in Hz of samples at 48 kHz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * 48000 / len(samples)
