"""A server for the tests' own pages, on a free port of the loopback."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FIDELITY_PAGE = Path(__file__).parent / "fidelity" / "page.html"

NOISE = """<!doctype html><body style="margin:0"><canvas width="1280" height="720"></canvas><script>
const canvas = document.querySelector("canvas").getContext("2d");
const image = canvas.createImageData(320, 180);
const pixels = new Uint32Array(image.data.buffer);
function draw() {
  for (let i = 0; i < pixels.length; i++) pixels[i] = Math.random() * 2 ** 32 | 0xff000000;
  canvas.putImageData(image, 0, 0);
  canvas.drawImage(canvas.canvas, 0, 0, 320, 180, 0, 0, 1280, 720);
  requestAnimationFrame(draw);
}
draw();
console.log("START_RECORDING");
</script>"""
"""A page of which nothing repeats: a few seconds of it fill a part of an upload."""


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@contextmanager
def serve_pages(directory: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve the files of `directory`; yields the URL it is at, without a slash at the end."""
    server = ThreadingHTTPServer((host, 0), partial(_QuietHandler, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, name="pages")
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
