"""The reverse proxies of deploy/proxy before a real API: WebSockets, event streams, downloads, addresses."""

import asyncio
import json
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from recording_farm.api.server import server_of
from recording_farm.farm.config.settings import Settings
from testkit.api.client import ACME
from testkit.api.portal import CSRF_FIELD
from testkit.farm import Farm
from testkit.network.authorities import own_authority
from testkit.network.ports import free_port, wait_for_port
from testkit.recordings import new_recording

DIRECTORY = Path(__file__).parents[2] / "deploy" / "proxy"
CONTENT = bytes(range(256)) * 4096
SECONDS = 10.0

NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  include {directory}/site.conf;
}}
"""
CADDY = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs, and what its clients trust."""

    address: str
    trust: ssl.SSLContext

    def client(self, local_address: str = "127.0.0.1") -> httpx.AsyncClient:
        """A client that comes from an address of the loopback."""
        transport = httpx.AsyncHTTPTransport(verify=self.trust, local_address=local_address)
        return httpx.AsyncClient(transport=transport, base_url=self.address, timeout=SECONDS)


def replaced(text: str, *replacements: tuple[str, str]) -> str:
    """The text with each pattern replaced; each must be there."""
    for pattern, value in replacements:
        text, count = re.subn(pattern, value, text)
        assert count, pattern
    return text


def nginx(directory: Path, port: int, api: int, certificate: Path) -> list[str]:
    """The command of nginx with our configuration at these ports."""
    site = replaced(
        (DIRECTORY / "nginx.conf").read_text(),
        (r"listen 443 ", f"listen 127.0.0.1:{port} "),
        (r"listen 80;", f"listen 127.0.0.1:{free_port()};"),
        (r"\n *listen \[::\].*", ""),
        (r"127\.0\.0\.1:8000", f"127.0.0.1:{api}"),
        (r"/etc/letsencrypt/\S+\.pem", str(certificate)),
    )
    (directory / "site.conf").write_text(site)
    (directory / "nginx.conf").write_text(NGINX.format(directory=directory))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    return [program, "-p", str(directory), "-c", str(directory / "nginx.conf")]


def caddy(directory: Path, port: int, api: int, certificate: Path) -> list[str]:
    """The command of Caddy with our configuration at these ports."""
    program = shutil.which("caddy")
    if program is None:
        pytest.skip("caddy is not installed")
    site = replaced(
        (DIRECTORY / "Caddyfile").read_text(),
        (
            r"recordings\.example\.com \{",
            f"https://127.0.0.1:{port}, https://localhost:{port} {{\n\ttls {certificate} {certificate}",
        ),
        (r"127\.0\.0\.1:8000", f"127.0.0.1:{api}"),
    )
    (directory / "Caddyfile").write_text(CADDY + site)
    return [program, "run", "--adapter", "caddyfile", "--config", str(directory / "Caddyfile")]


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Iterator[Proxy]:
    authority = own_authority(tmp_path)
    authority.server("localhost")
    port = free_port()
    address = f"https://127.0.0.1:{port}"
    changes = {"public_url": address, "trusted_proxies": "127.0.0.1", "failure_limit": 1, "port": free_port()}
    settings = settings.model_copy(update=changes)
    command = request.param(tmp_path, port, settings.port, tmp_path / "localhost-good.pem")
    api = server_of(settings)
    thread = threading.Thread(target=api.run)
    thread.start()
    directories = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    with (tmp_path / "proxy.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=tmp_path, env=directories
        )
    try:
        wait_for_port(settings.port)
        wait_for_port(port)
        yield Proxy(address, ssl.create_default_context(cafile=authority.file))
    finally:
        process.kill()
        process.wait()
        api.should_exit = True
        thread.join(20)


async def test_session_should_be_one_of_https_and_come_from_the_clients_address(proxy: Proxy) -> None:
    async with proxy.client() as client:
        found = CSRF_FIELD.search((await client.get("/login")).text)
        assert found
        fields = {"organization": ACME[0], "key": ACME[1], "csrf_token": found[1]}
        answer = await client.post("/login", data=fields, headers={"Origin": proxy.address})
        assert answer.status_code == 303, answer.text
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-farm_session=")
        assert "Secure" in cookie
        assert (await client.get("/")).status_code == 200
    async with proxy.client("127.0.0.2") as client:
        bad = ("acme", "wrong")
        answers = [(await client.get("/v2/recordings", auth=bad)).status_code for _ in range(2)]
        assert answers == [401, 429]
        # Whatever a client claims about its address is dropped.
        claimed = {"X-Forwarded-For": "192.0.2.7"}
        assert (await client.get("/v2/recordings", auth=bad, headers=claimed)).status_code == 429
    async with proxy.client("127.0.0.3") as client:
        assert (await client.get("/v2/recordings", auth=bad)).status_code == 401


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_meeting_should_be_joined_by_websocket(proxy: Proxy, host: str) -> None:
    # The second is not that of FARM_PUBLIC_URL, so the API has to know what the client asked for.
    address = proxy.address.replace("127.0.0.1", host)
    url = f"{address.replace('https', 'wss')}/meet-rooms/people/room"
    origin = {"Origin": address}
    media = {"audio": True, "video": False, "camera": None, "screen": None}
    async with (
        asyncio.timeout(SECONDS),
        connect(url, ssl=proxy.trust, additional_headers=origin, proxy=None) as socket,
    ):
        await socket.send(json.dumps({"type": "join", "name": "Ada", "media": media, "token": None}))
        assert json.loads(await socket.recv())["type"] == "welcome"


async def test_events_should_arrive_at_once(proxy: Proxy) -> None:
    async with (
        asyncio.timeout(SECONDS),
        proxy.client() as client,
        client.stream("GET", "/v2/events", auth=ACME) as stream,
    ):
        lines = stream.aiter_lines()
        assert (await anext(lines)).startswith(":")  # the stream is open
        started = await client.post("/v2/recordings", json={"meeting_id": "demo"}, auth=ACME)
        assert started.status_code == 200, started.text
        # The next sign of life would come after 15 s, so a proxy that waits for more has nothing by now.
        async for line in lines:
            if line.startswith("data:"):
                assert started.json()["data"]["id"] in line
                return


async def test_download_should_be_whole_and_give_ranges(proxy: Proxy, farm: Farm, tmp_path: Path) -> None:
    source = tmp_path / "cut.mp4"
    source.write_bytes(CONTENT)
    recording = farm.stored(new_recording(), source)
    async with proxy.client() as client:
        shown = await client.get(f"/v2/recordings/{recording.id}", auth=ACME)
        url = shown.json()["data"]["download_url"]
        assert url.startswith(proxy.address)
        assert (await client.get(url)).content == CONTENT
        part = await client.get(url, headers={"Range": "bytes=1000000-1000099"})
        assert (part.status_code, part.content) == (206, CONTENT[1000000:1000100])


async def test_body_that_is_too_large_should_get_the_farms_own_error(proxy: Proxy) -> None:
    async with proxy.client() as client:
        answer = await client.post("/v2/recordings", content=b" " * (1200 << 10), auth=ACME)
        assert answer.status_code == 413
        assert answer.json()["success"] is False
