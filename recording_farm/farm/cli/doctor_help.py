"""What each line of `farm doctor` checks, and what to do when it is not ok: for docs/troubleshooting.md."""

from collections.abc import Mapping
from typing import Final

HELP: Final[Mapping[str, tuple[str, str]]] = {
    "settings": ("Every `FARM_` variable has a value that is allowed.", "Correct the variable it names."),
    "chromium": ("Chromium starts and prints its version.", "Install `chromium`, or set `FARM_CHROMIUM`."),
    "ffmpeg": (
        "ffmpeg 5.1 or newer, with the encoders and devices that recordings need.",
        "Install Debian's `ffmpeg`; other builds lack some.",
    ),
    "xorg": ("The X server that is the display of a recording.", "Install `xserver-xorg-core`."),
    "xorg dummy driver": ("Its driver without a screen.", "Install `xserver-xorg-video-dummy`."),
    "libxcb": ("The library that talks to the display.", "Install `libxcb1`."),
    "pulseaudio": (
        "The audio server of a recording, with its modules.",
        "Install `pulseaudio`. PipeWire does not replace it here.",
    ),
    "redis-server": (
        "Redis 6.2 or newer can start; `farm up` uses it.",
        "Install `redis-server`, or set `FARM_REDIS_URL`.",
    ),
    "redis": (
        "The Redis of the settings accepts writes and evicts nothing.",
        "Set `maxmemory-policy noeviction`, raise `maxmemory`, check `FARM_REDIS_URL`.",
    ),
    "setpriv": ("`setpriv` ends programs with their parent.", "Install `util-linux`."),
    "fonts: Latin": ("A font for Latin letters.", "Install `fonts-dejavu-core`."),
    "fonts: CJK": ("A font for Chinese, Japanese and Korean.", "Install `fonts-noto-cjk`."),
    "fonts: other scripts": ("Fonts for all other scripts.", "Install `fonts-noto-core`."),
    "fonts: emoji": ("A font with emoji.", "Install `fonts-noto-color-emoji`."),
    "sandbox": (
        "Chromium runs in its sandbox.",
        "Run the farm as an ordinary user, with user namespaces allowed or `chromium-sandbox` installed.",
    ),
    "webrtc": (
        "Pages' UDP packets, which no proxy forwards, go to allowed addresses only.",
        "Allow user namespaces, or set `FARM_WEBRTC_UDP`, see [security.md](security.md#network-of-a-stage). "
        "With UDP off, most meetings have no audio and video.",
    ),
    "stage limits": (
        "The kernel enforces the limits of a stage's disk, memory and processes, or the farm checks them "
        "each second.",
        "Run the farm where a process may make user and mount namespaces, and with `Delegate=yes`, see "
        "[operations.md](operations.md). Without both the limits hold, but less exactly.",
    ),
    "authorities": ("The certificates of `FARM_CA_FILE` are readable.", "Correct the PEM file."),
    "certificate": (
        "The API can use `FARM_TLS_CERTIFICATE` and `FARM_TLS_KEY`: both are readable, the key fits, and the "
        "certificate is valid for 14 days or longer. `farm up` and `farm api` do not start with files that "
        "they cannot use.",
        "Correct the file it names, or renew the certificate, see [operations.md](operations.md#tls).",
    ),
    "real time": (
        "Audio and encoder may run with real-time priority.",
        "Allow it with `RLIMIT_RTPRIO`, see [operations.md](operations.md). Without it a busy machine loses "
        "frames sooner.",
    ),
    "disk": ("Free space in the data directory.", "Free at least 2 GiB, or move `FARM_DATA_DIR`."),
    "memory": ("Free memory.", "Each slot needs about 1 GiB; lower `FARM_SLOTS`."),
    "data directory": ("The farm can write to its data directory.", "Correct its owner, or `FARM_DATA_DIR`."),
    "takes at rest": (
        "With `FARM_STORE_ENCRYPTION=on`, the data directory is on an encrypted disk too.",
        "Put `FARM_DATA_DIR` on a LUKS volume, see [security.md](security.md#recordings-at-rest).",
    ),
    "port": ("The port of the API is free.", "Stop the other program, or set `FARM_PORT`."),
}
"""By the names of the checks: what is checked, and what to do."""
