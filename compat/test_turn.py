"""coturn from Debian's packages: two people in the built-in meeting, all of whose media it relays."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from testkit.browser_bot.people import Look, join, somebody
from testkit.network.ports import free_port, wait_for_port
from testkit.running_farm import running_farm

SECRET: Final = "a secret of the TURN server"
ADA = Look("Ada", (200, 30, 30), 500)
SOREN = Look("Søren", (30, 60, 200), 1300)

RELAY_ONLY: Final = """globalThis.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(config) { super({ ...config, iceTransportPolicy: "relay" }); } };"""
VIDEO: Final = """() => { const video = document.querySelector(".tile:not(.own) video");
    return video.videoWidth > 0 && !video.paused; }"""


@contextmanager
def turn_server(directory: Path, credentials: list[str]) -> Iterator[str]:
    """coturn on the loopback, as an ordinary program; yields its URL."""
    port = free_port()
    options = ["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}", "--realm=farm"]
    options += ["--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers", "--log-file=stdout"]
    options += [f"--pidfile={directory / 'turn.pid'}", f"--userdb={directory / 'turn.db'}"]
    with (directory / "turn.log").open("wb") as log:
        server = subprocess.Popen(["turnserver", "-n", *options, *credentials], stdout=log, stderr=log)
        try:
            wait_for_port(port)
            yield f"turn:127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(10)


def see_each_other(address: str, directory: Path) -> None:
    """Let two people meet whose browsers use relays only."""
    with (
        sync_playwright() as playwright,
        somebody(playwright, ADA, directory) as ada,
        somebody(playwright, SOREN, directory) as soren,
    ):
        people: list[tuple[Page, Look]] = [(ada, ADA), (soren, SOREN)]
        for page, look in people:
            page.add_init_script(RELAY_ONLY)
            join(page, f"{address}/meet/relayed", look)
        for page, _ in people:
            expect(page.locator(".tile:not(.own)")).to_have_count(1, timeout=60_000)
            page.wait_for_function(VIDEO, timeout=60_000)


@pytest.mark.parametrize(
    ("server", "farm"),
    [
        (["--use-auth-secret", f"--static-auth-secret={SECRET}"], {"FARM_TURN_SECRET": SECRET}),
        (["--lt-cred-mech", "--user=farm:word"], {"FARM_TURN_USER": "farm", "FARM_TURN_PASSWORD": "word"}),
    ],
    ids=["shared secret", "fixed account"],
)
def test_coturn_should_relay_a_meeting(tmp_path: Path, server: list[str], farm: dict[str, str]) -> None:
    with (
        turn_server(tmp_path, server) as url,
        running_farm(tmp_path / "data", FARM_ICE_SERVERS=url, **farm) as running,
    ):
        see_each_other(running.address, tmp_path)
