"""An RTMP server of the tests' own: Debian's nginx with its RTMP module, on loopback."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from testkit.network.ports import free_port, wait_for_port

_MODULE = "/usr/lib/nginx/modules/ngx_rtmp_module.so"
_CONFIG = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log info;
load_module {module};
events {{ worker_connections 64; }}
rtmp {{
  access_log {directory}/access.log;
  server {{
    listen 127.0.0.1:{port};
    application live {{
      live on;
      record all;
      record_path {directory}/recorded;
      record_unique on;
    }}
  }}
}}
"""


@dataclass
class RtmpServer:
    """A server that takes streams at `/live/KEY` and keeps each as FLV."""

    directory: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where to send to, without the key."""
        return f"rtmp://127.0.0.1:{self.port}/live"

    def start(self) -> None:
        """Start it, on the same port as before."""
        self.process = subprocess.Popen(
            [
                shutil.which("nginx") or "/usr/sbin/nginx",
                "-p",
                self.directory,
                "-c",
                self.directory / "nginx.conf",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def recorded(self, key: str) -> list[Path]:
        """What it has kept of a stream, one file for each time that it was sent, the oldest first."""
        files = (self.directory / "recorded").glob(f"{key}-*.flv")
        return sorted(files, key=lambda file: file.stat().st_mtime_ns)


@contextmanager
def rtmp_server(directory: Path) -> Iterator[RtmpServer]:
    """A running server that keeps what it gets below `directory`."""
    (directory / "recorded").mkdir(parents=True)
    # Its worker is nobody when it was started by root.
    for each in (directory / "recorded", directory):
        each.chmod(0o777)
    server = RtmpServer(directory, free_port())
    config = _CONFIG.format(directory=directory, module=_MODULE, port=server.port)
    (directory / "nginx.conf").write_text(config)
    server.start()
    try:
        yield server
    finally:
        server.kill()
