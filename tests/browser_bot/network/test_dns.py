"""Names that nobody answers for, and what goes on beside them."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from recording_farm.browser_bot.network.addresses import lookup_addresses
from recording_farm.browser_bot.network.dns import unresolved_message
from testkit.network.resolvers import cannot_have_a_resolver, silent_resolver

WHY_NOT = cannot_have_a_resolver()
needs_resolver = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")

# 300 dead names of one page and some of another, which wants a living one as well; files are read meanwhile.
LOOKUPS = """
import asyncio, json, os, time
from recording_farm.browser_bot.network.dns import resolve, unresolved_message

async def seconds_of(waiting):
    began = time.monotonic()
    return await waiting, time.monotonic() - began

async def main():
    dead = [asyncio.ensure_future(seconds_of(resolve(f"t{n}.dead.test", 1.0, "page"))) for n in range(300)]
    more = [asyncio.ensure_future(seconds_of(resolve(f"a.dead{n}.test", 1.0, "page"))) for n in range(100)]
    await asyncio.sleep(0)
    _, file = await seconds_of(asyncio.to_thread(os.stat, "/"))
    alive, name = await seconds_of(resolve("room.alive.test", 5.0, "another page"))
    found = await asyncio.gather(*dead, *more)
    again = await seconds_of(resolve("t0.dead.test", 1.0, "page"))
    print(json.dumps({
        "file": file, "name": name, "alive": [str(address) for address in alive],
        "found": sum(bool(addresses) for addresses, _ in found),
        "slowest": max(seconds for _, seconds in found), "again": again[1],
        "why": unresolved_message("t0.dead.test"), "ended": time.time(),
    }), flush=True)

asyncio.run(main())
"""

# A page whose pictures are at 80 dead names, and which goes on asking its own server.
PAGE = """
import asyncio, json
from playwright.async_api import async_playwright
from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.browser_bot.network.gateway import open_gateway

HTML = '''<!doctype html><script>
let worst = 0, answers = 0;
(async () => { for (;;) {
  const began = performance.now();
  await fetch('/tick', {cache: 'no-store'});
  worst = Math.max(worst, performance.now() - began); answers++;
  await new Promise(done => setTimeout(done, 100));
} })();
setTimeout(() => { for (let n = 0; n < 80; n++) new Image().src = `http://t${n}.dead.test/x`; }, 1000);
</script>'''

async def serve(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    header = f"HTTP/1.1 200 OK\\r\\nContent-Type: text/html\\r\\nContent-Length: {len(HTML)}\\r\\n\\r\\n"
    writer.write((header + HTML).encode())
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    everything = AddressRule(allow_all=True)
    async with open_gateway(everything) as (gateway, proxy), async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"],
            proxy={"server": proxy, "bypass": "<-loopback>"},
        )
        page = await browser.new_page()
        await page.goto(f"http://room.alive.test:{port}/", wait_until="domcontentloaded")
        await asyncio.sleep(5)
        worst, answers = await page.evaluate("[worst, answers]")
        await browser.close()
    print(json.dumps({"worst": worst, "answers": answers, "problem": gateway.problem}), flush=True)

asyncio.run(main())
"""


def told_by(program: str, tmp_path: Path) -> tuple[dict[str, Any], float]:
    """What a program says for which all names but one are dead, and when it had ended, as `time.time()`."""
    with silent_resolver(tmp_path, {"room.alive.test": "127.0.0.1"}) as words:
        done = subprocess.run(
            [*words, sys.executable, "-c", program], capture_output=True, text=True, timeout=90, check=False
        )
        ended = time.time()
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told, ended


@needs_resolver
def test_dead_names_should_hold_up_nothing_else(tmp_path: Path) -> None:
    told, ended = told_by(LOOKUPS, tmp_path)
    assert told["alive"] == ["127.0.0.1"]
    assert told["found"] == 0
    assert told["file"] < 1
    assert told["name"] < 1
    assert told["slowest"] < 3
    assert told["again"] < 0.5  # it is still being looked up, and has had its time
    assert told["why"] == "no name server answers for the host name t0.dead.test"
    assert ended - told["ended"] < 3  # its threads still wait, the process does not


@needs_resolver
def test_page_should_go_on_beside_pictures_at_dead_names(tmp_path: Path) -> None:
    told, _ = told_by(PAGE, tmp_path)
    assert told["worst"] < 2500
    assert told["answers"] > 15
    # The last name that was asked for: one of the page's, or one of Chromium's own.
    assert "no name server answers for the host name " in told["problem"]


# A customer's storage that nobody knows, of which a library asks as often as it likes.
STORAGE = """
import json, time
from recording_farm.browser_bot.network.addresses import AddressRule
from recording_farm.farm.storage.backend import StorageError
from recording_farm.farm.storage.customer import open_backend
from recording_farm.farm.storage.targets import TARGET

told = {}
KEYS = {"access_key": "a", "secret": "b", "bucket": "films", "region": ""}
AZURE = "BlobEndpoint=http://az.dead.test/a;AccountName=a;AccountKey=a2V5"
TARGETS = {
    "s3": KEYS | {"type": "s3", "endpoint": "http://s3.dead.test"},
    "azure": {"type": "azure", "access_key": AZURE, "bucket": "films"},
    "sftp": {"type": "sftp", "host": "ftp.dead.test", "username": "u"}
    | {"auth_method": "PASSWORD", "password": "p"},
}
for name, target in TARGETS.items():
    began = time.monotonic()
    try:
        open_backend(TARGET.validate_python(target), AddressRule()).check_writing()
    except StorageError as error:
        told[name] = [error.reason, error.message, time.monotonic() - began]
print(json.dumps(told))
"""


@needs_resolver
@pytest.mark.long
def test_storage_at_a_dead_name_should_be_told_soon(tmp_path: Path) -> None:
    told, _ = told_by(STORAGE, tmp_path)
    for name, host in (("s3", "s3.dead.test"), ("azure", "az.dead.test"), ("sftp", "ftp.dead.test")):
        reason, message, seconds = told[name]
        assert (reason, message) == ("unreachable", f"no name server answers for the host name {host}")
        assert seconds < 15


async def test_name_that_does_not_exist_should_be_reported_as_such() -> None:
    assert await lookup_addresses("nosuchname.invalid") == ()
    assert unresolved_message("nosuchname.invalid") == "the host name nosuchname.invalid does not resolve"


async def test_names_of_this_machine_should_need_no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recording_farm.browser_bot.network.addresses.look_up", None)
    for host in ("localhost", "room.localhost"):
        assert [str(address) for address in await lookup_addresses(host)] == ["127.0.0.1", "::1"]
    assert [str(address) for address in await lookup_addresses("::1")] == ["::1"]


def test_forked_process_should_look_names_up_itself() -> None:
    program = """
import asyncio, os
from recording_farm.browser_bot.network.dns import resolve
assert asyncio.run(resolve("localhost"))
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
asyncio.run(resolve("other.localhost.invalid", 5.0))
os._exit(0 if asyncio.run(resolve("localhost")) else 1)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0
