"""A farm in a network with an authority of its own, and with names that nobody answers for."""

import json
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from testkit.network.authorities import https_server, own_authority
from testkit.network.resolvers import cannot_have_a_resolver, silent_resolver
from testkit.running_farm import SMALL, faults_of, running_farm

WHY_NOT = cannot_have_a_resolver()
pytestmark = [pytest.mark.long, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]

ROOM = "xn--strae-oqa.test"
OTHER = "strasse.test"
"""Where IDNA 2003 leads to."""

PAGE = """<!doctype html><title>room</title><h1>room</h1><script>
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
(async () => { for (;;) { await fetch('/tick', {cache: 'no-store'}); await wait(200); } })();
console.log('START_RECORDING');
setTimeout(() => { for (let n = 0; n < 40; n++) new Image().src = `http://t${n}.dead.test/x`; }, 2000);
</script>"""
MARK = "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='40'><rect width='40' height='40'/></svg>"


@dataclass
class Seen:
    """What the room's server was asked for."""

    ticks: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    marks: int = 0
    hosts: set[str] = field(default_factory=set)
    all_told: threading.Event = field(default_factory=threading.Event)


def room(seen: Seen) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

        def do_GET(self) -> None:
            seen.hosts.add(str(self.headers["Host"]))
            if self.path.startswith("/tick"):
                seen.ticks.append(time.monotonic())
            if self.path == "/mark.svg":
                seen.marks += 1
                self._answer(MARK, "image/svg+xml")
            else:
                self._answer(PAGE, "text/html")

        def do_POST(self) -> None:
            seen.hosts.add(str(self.headers["Host"]))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.told.append(body["recording"]["status"])
            if seen.told[-1] == "UPLOADED":
                seen.all_told.set()
            self._answer("", "text/plain")

        def _answer(self, text: str, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    return Handler


def test_recording_should_be_made_whatever_dead_names_its_page_asks_for(tmp_path: Path) -> None:
    authority = own_authority(tmp_path)
    seen, elsewhere = Seen(), Seen()
    with (
        https_server(authority.server(ROOM, OTHER), room(seen)) as port,
        https_server(authority.server(OTHER, ROOM), room(elsewhere), "127.0.0.2", port),
        silent_resolver(
            tmp_path, {ROOM: "127.0.0.1", OTHER: "127.0.0.2", socket.gethostname(): "127.0.1.1"}
        ) as words,
        running_farm(tmp_path / "farm", words, FARM_CA_FILE=str(authority.file)) as farm,
    ):
        where = f"https://straße.test:{port}"
        wanted: dict[str, Any] = {
            "url": f"{where}/page",
            "page_contract": "console",
            "webhooks": [f"{where}/hook"],
            "video_config": SMALL
            | {"watermark": {"url": f"{where}/mark.svg", "size": {"width": 40, "height": 40}}},
        }
        started = farm.start(**wanted)
        farm.wait_for(started["id"], "RECORDING")
        time.sleep(6)  # the page is in the middle of its dead names
        stopped = time.monotonic()
        farm.order(started["id"], "stop")
        ended = farm.wait_for(started["id"], "UPLOADED")
        uploaded = time.monotonic() - stopped
        assert seen.all_told.wait(20)
        refused = farm.client.post("/v2/recordings", json={"meeting_id": "x", "url": "http://a..b/"})
    worst = max(later - tick for tick, later in zip(seen.ticks, seen.ticks[1:], strict=False))
    print(f"uploaded {uploaded:.2f} s after the stop; slowest tick {worst:.2f} s; {len(seen.ticks)} ticks")
    assert faults_of(ended) == []
    assert uploaded < 6
    assert worst < 2.5
    assert seen.told == ["INVOKED", "RECORDING", "UPLOADING", "UPLOADED"]
    assert seen.marks == 1
    assert seen.hosts == {f"{ROOM}:{port}"}
    assert elsewhere.hosts == set()
    assert refused.status_code == 422
