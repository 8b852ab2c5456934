"""The attacks, each with what it must not reach. They are carried out while a victim records."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

import httpx

from hostile.scene import PUBLIC, SLOTS, STAGE_MEMORY, Scene
from hostile.watch import Felt
from testkit.network.endless_server import endless_server

_STRANGER = "127.0.0.3"
"""Where connections of strangers come from, of which each address may have some."""

MAX_ANSWER_MS = 1500.0
"""An answer to another organization, at the worst, on a machine that attacks and measures itself besides."""


@dataclass
class Outcome:
    """What was seen, in words, and what broke a bound."""

    seen: str
    faults: list[str] = field(default_factory=list)

    def require(self, holds: bool, fault: str) -> None:
        """Note a fault unless something holds."""
        if not holds:
            self.faults.append(fault)


@dataclass(frozen=True)
class Attack:
    """`carry_out` attacks and returns; `judge` looks at what the machine felt meanwhile."""

    carry_out: Callable[[Scene], Outcome]
    judge: Callable[[Felt], Iterator[str]]


def _no_bound(_: Felt) -> Iterator[str]:
    return iter(())


def _at_most(**bounds: float) -> Callable[[Felt], Iterator[str]]:
    """Bounds by the fields of Felt."""

    def judge(felt: Felt) -> Iterator[str]:
        for name, bound in bounds.items():
            if (value := getattr(felt, name)) > bound:
                yield f"{name.replace('_', ' ')} {value:.0f} of at most {bound:.0f}"

    return judge


# --- Pages ------------------------------------------------------------------------------------------------


def _neighbor(scene: Scene) -> Outcome:
    """No attack: what a busy neighbor costs, to compare with."""
    body = {"url": f"{scene.victim_pages}/page.html", "meeting_id": "neighbor"}
    recording = scene.farm.answer(scene.umbra.post("/v2/recordings", json=body))
    time.sleep(scene.seconds)
    return Outcome(f"a neighbor records the same page: {scene.look_at(recording['id'])['status']}")


def _page(name: str, query: str = "") -> Callable[[Scene], Outcome]:
    def carry_out(scene: Scene) -> Outcome:
        recording = scene.record(f"{name}{query}")
        time.sleep(scene.seconds)
        return Outcome(_fate(scene.look_at(recording["id"])))

    return carry_out


def _fate(recording: Mapping[str, Any]) -> str:
    faults = [entry["fault"] for entry in recording["timeline"] if entry["fault"]]
    error = (recording["error"] or {}).get("message", "")
    return "; ".join(filter(None, (f"its page: {recording['status']}", error, *faults[:2])))


def _inside_hosts(scene: Scene) -> Outcome:
    """UDP and TCP of WebRTC to hosts of the machine's own."""
    with ExitStack() as listeners:
        heard = [listeners.enter_context(_listening(host)) for host in ("127.0.0.1", "::1", "127.0.0.9")]
        places = "&".join(f"to={_place(host, listener.port)}" for host, listener in heard)
        outcome = _page("udp.html", f"?{places}")(scene)
    packets = sum(listener.packets for _, listener in heard)
    outcome.seen = f"{packets} packets at inside hosts; {outcome.seen}"
    outcome.require(packets == 0, "a page reached inside hosts")
    return outcome


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass
class _Listener:
    port: int
    packets: int = 0


@contextmanager
def _listening(host: str) -> Iterator[tuple[str, _Listener]]:
    """Count datagrams and connections that come to one port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams, socket.socket(family) as connections:
        datagrams.bind((host, 0))
        listener = _Listener(datagrams.getsockname()[1])
        connections.bind((host, listener.port))
        connections.listen()
        over = threading.Event()

        def listen(take: Callable[[], object], server: socket.socket) -> None:
            server.settimeout(0.2)
            while not over.is_set():
                try:
                    take()
                except TimeoutError:
                    continue
                listener.packets += 1

        threads = [
            threading.Thread(target=listen, args=(lambda: datagrams.recv(2048), datagrams)),
            threading.Thread(target=listen, args=(lambda: connections.accept()[0].close(), connections)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield host, listener
        finally:
            over.set()
            for thread in threads:
                thread.join()


# --- Connections ------------------------------------------------------------------------------------------


def _endless_header(scene: Scene) -> Outcome:
    """A request whose header never ends, from somebody without a key."""
    sent = 0
    with _connection(scene) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: ")
        end = time.monotonic() + scene.seconds
        try:
            while time.monotonic() < end and sent < 200 << 20:
                client.sendall(b"a" * 65536)
                sent += 65536
        except OSError:
            pass
    outcome = Outcome(f"the connection took {sent >> 10} KiB of a header")
    outcome.require(sent < 16 << 20, "a header has no limit")
    return outcome


def _slow_requests(scene: Scene) -> Outcome:
    """A thousand connections that send half a header, or half a body, and wait."""
    half_header = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half: "
    half_body = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf"

    async def attack() -> int:
        held, port = 0, httpx.URL(scene.farm.address).port
        writers = []
        for number in range(1000):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(_STRANGER, 0))
                writer.write(half_body if number % 4 == 0 else half_header)
                writers.append(writer)
            except OSError:
                continue
        await asyncio.sleep(scene.seconds)
        for writer in writers:
            try:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0)
            except OSError:
                continue
            held += not (writer.transport.is_closing())
        for writer in writers:
            writer.transport.abort()
        return held

    held = asyncio.run(attack())
    outcome = Outcome(f"{held} of 1000 half requests still open after {scene.seconds:.0f} s")
    outcome.require(held < 500, "slow clients are not let go")
    return outcome


@contextmanager
def _connection(scene: Scene) -> Iterator[socket.socket]:
    address = httpx.URL(scene.farm.address)
    with socket.create_connection((address.host, address.port or 80), 10, (_STRANGER, 0)) as client:
        yield client


# --- A key's requests -------------------------------------------------------------------------------------


def _problem_of(answer: httpx.Response) -> object:
    """The code of what a check of a storage found; the status of the response, if it was no check."""
    if not answer.is_success:
        return answer.status_code
    return answer.json()["data"].get("code")


_ENDLESS_ERROR = (
    b'HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\n\r\n<?xml version="1.0"?><Error><Code>'
)


def _endless_storage(scene: Scene) -> Outcome:
    """A storage that answers a check, and an upload, without end."""
    with endless_server(_ENDLESS_ERROR, PUBLIC) as address:
        endpoint = f"http://{address}"
        connection = f"AccountName=a;AccountKey=YQ==;BlobEndpoint={endpoint}/a"
        storages = [
            {"type": "s3", "endpoint": endpoint, "bucket": "b", "access_key": "a", "secret": "s"},
            {"type": "azure", "bucket": "c", "access_key": connection},
        ]
        began = time.monotonic()
        answers = [
            scene.umbra.post("/v2/storage/check", json={"storage_config": storage}) for storage in storages
        ]
        seconds = time.monotonic() - began
        recording = scene.record(
            "workers.html?none", meeting_id="storage", storage_config=storages[0], max_seconds=3
        )
        time.sleep(scene.seconds)
        fate = scene.look_at(recording["id"])
    said = ", ".join(str(_problem_of(answer)) for answer in answers)
    outcome = Outcome(f"checks said {said} in {seconds:.1f} s; {_fate(fate)}")
    outcome.require(all(answer.is_success for answer in answers), "a check has no answer")
    outcome.require(seconds < 45, "a check of a storage takes too long")
    return outcome


def _endless_webhook(scene: Scene) -> Outcome:
    """A receiver whose answer never ends."""
    with endless_server(b"HTTP/1.1 200 OK\r\n\r\n", PUBLIC) as receiver:
        created = scene.umbra.post(
            "/v2/webhooks",
            json={"name": "endless", "url": f"http://{receiver}/", "events": ["recording.statusUpdate"]},
        )
        scene.record("workers.html?none", meeting_id="webhook", max_seconds=2)
        time.sleep(scene.seconds)
        if created.is_success:
            scene.umbra.delete(f"/v2/webhooks/{created.json()['data']['id']}")
    return Outcome(f"the webhook was answered {created.status_code}")


def _watermarks(scene: Scene) -> Outcome:
    """Ten watermarks that take long to draw; then another organization starts a recording with one."""
    slow = "<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'><text>" + "&#x202e;" * 30000
    with ThreadPoolExecutor(10) as pool:
        for _ in range(10):
            pool.submit(_start_with_watermark, scene.umbra, slow + "</text></svg>")
        time.sleep(0.5)
        seconds, status = _start_with_watermark(scene.farm.client, _SMALL_SVG)
    return _start_took(seconds, status)


_SMALL_SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'><rect width='8' height='8'/></svg>"
_NUMBERS = count()


def _start_with_watermark(client: httpx.Client, svg: str) -> tuple[float, int]:
    with _svg_server(svg) as url:
        began = time.monotonic()
        answer = client.post(
            "/v2/recordings",
            json={
                "meeting_id": f"watermark-{next(_NUMBERS)}",
                "url": f"http://{PUBLIC}:9/",
                "max_seconds": 1,
                "video_config": {"watermark": {"url": url}},
            },
        )
        return time.monotonic() - began, answer.status_code


@contextmanager
def _svg_server(svg: str) -> Iterator[str]:
    body = svg.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/svg+xml\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_server((PUBLIC, 0)) as server:
        server.settimeout(20)

        def serve() -> None:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                client.recv(65536)
                client.sendall(head + body)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://{PUBLIC}:{server.getsockname()[1]}/mark.svg"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def _slow_names(scene: Scene) -> Outcome:
    """Names that no resolver answers; then another organization starts a recording."""
    if not scene.dead_names:
        return Outcome("not tried: only root can give the farm a resolver that is silent")
    with ThreadPoolExecutor(24) as pool:
        for number in range(24):
            pool.submit(
                scene.umbra.post,
                "/v2/webhooks",
                json={"name": f"slow{number}", "url": f"http://slow{number}.example/", "events": ["*"]},
            )
        time.sleep(0.5)
        private = scene.umbra.post(
            "/v2/recordings", json={"url": "http://127.0.0.1/", "meeting_id": "private"}
        )
        began = time.monotonic()
        answer = scene.farm.client.post(
            "/v2/recordings",
            json={"url": f"http://{PUBLIC}:9/", "meeting_id": "beside-names", "max_seconds": 1},
        )
        seconds = time.monotonic() - began
    outcome = _start_took(seconds, answer.status_code)
    outcome.require(private.status_code == 422, f"a private address was answered {private.status_code}")
    return outcome


def _start_took(seconds: float, status: int) -> Outcome:
    outcome = Outcome(f"another's start was answered {status} in {seconds:.2f} s")
    outcome.require(status < 300 and seconds < 3, "others' starts wait")
    return outcome


_QUEUED = 300


def _full_queue(scene: Scene) -> Outcome:
    """Hundreds of recordings of one organization wait; another's next start must not wait behind them."""
    answers = [
        scene.umbra.post(
            "/v2/recordings",
            json={
                "url": f"{scene.pages}/workers.html?none",
                "meeting_id": f"queued-{number}",
                "max_seconds": 5,
                "video_config": {"width": 320, "height": 180},
            },
        ).status_code
        for number in range(_QUEUED)
    ]
    began, begun = time.monotonic(), _taken(scene)
    started = scene.farm.start(url=f"{scene.victim_pages}/page.html", meeting_id="next", max_seconds=1)
    scene.farm.wait_for(started["id"], "RECORDING", "UPLOADED", timeout=300)
    seconds, before = time.monotonic() - began, _taken(scene) - begun
    scene.end_all()
    refused = sum(status == 429 for status in answers)
    outcome = Outcome(
        f"{_QUEUED - refused} queued, {refused} refused; another began after {seconds:.1f} s, behind {before}"
    )
    outcome.require(before <= 1, "others wait behind a full queue")
    return outcome


def _taken(scene: Scene) -> int:
    """How many recordings of the attacker a slot has taken."""
    recordings = scene.umbra.get("/v2/recordings", params={"per_page": 1000}).json()["data"]
    return sum(recording["queue_position"] is None for recording in recordings)


def _start_and_stop(scene: Scene) -> Outcome:
    """Start and stop at once, many times: what is left?"""
    for number in range(scene.starts):
        recording = scene.record("workers.html?none", meeting_id=f"leak-{number}")
        scene.umbra.put(f"/v2/recordings/{recording['id']}", json={"action": "stop"})
    end = time.monotonic() + 60
    # Each slot has a stage that waits or records.
    while len(left := scene.stages()) > SLOTS and time.monotonic() < end:
        time.sleep(0.5)
    outcome = Outcome(f"{len(left)} directories of stages on {SLOTS} slots")
    outcome.require(len(left) <= SLOTS, f"left behind: {', '.join(sorted(left)[:3])}")
    return outcome


ATTACKS: Final[Mapping[str, Attack]] = {
    "neighbor": Attack(_neighbor, _no_bound),
    "disk": Attack(_page("disk.html"), _at_most(disk=2e9)),
    "memory": Attack(_page("memory.html"), _at_most(memory=2.0 * STAGE_MEMORY)),
    "workers": Attack(_page("workers.html"), _at_most(processes=500)),
    "udp": Attack(_inside_hosts, _no_bound),
    "header": Attack(_endless_header, _at_most(answer_ms=MAX_ANSWER_MS, memory=3e8)),
    "slow": Attack(_slow_requests, _at_most(answer_ms=MAX_ANSWER_MS)),
    "storage": Attack(_endless_storage, _at_most(memory=1e9)),
    "webhook": Attack(_endless_webhook, _at_most(memory=1e9)),
    "watermarks": Attack(_watermarks, _no_bound),
    "names": Attack(_slow_names, _no_bound),
    "queue": Attack(_full_queue, _no_bound),
    "start-stop": Attack(_start_and_stop, _no_bound),
}
"""By their names, in the order in which they are carried out; the first is none, to compare with."""


def chosen(names: Sequence[str]) -> Mapping[str, Attack]:
    """Attacks by their names; all, if there are none."""
    return {name: attack for name, attack in ATTACKS.items() if not names or name in names}
