"""Names of one requester that nobody answers for, beside those of others."""

import asyncio
import threading
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from recording_farm.browser_bot.network import addresses, dns
from recording_farm.browser_bot.network.addresses import (
    AddressError,
    AddressRule,
    UnresolvedNameError,
    check_host,
    check_url,
)
from recording_farm.browser_bot.network.dns import DnsAnswer, Resolver
from recording_farm.browser_bot.network.host_names import IpAddress

FOUND = DnsAnswer((ip_address("8.8.8.8"),), is_final=True)
INSIDE = "http://inside.example/"


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A system resolver that answers for `slow` names once this event is set, and for others at once."""
    answers = threading.Event()

    def getaddrinfo(host: str) -> tuple[IpAddress, ...] | None:
        if host.startswith("slow"):
            answers.wait(30)
            return None
        if host == "missing.example":
            return ()
        return (ip_address("10.0.0.1" if host.startswith("inside") else "8.8.8.8"),)

    monkeypatch.setattr(dns, "_getaddrinfo", getaddrinfo)
    yield answers
    answers.set()


async def ask_for_slow_names(resolver: Resolver, requester: str, count: int) -> None:
    """Ask for names until nobody waits for them any more; their threads still do."""
    names = [f"slow.{requester}{number}.example{number}" for number in range(count)]
    await asyncio.gather(*(resolver.look_up(name, 0.05, requester) for name in names))


@pytest.mark.usefixtures("answering")
async def test_slow_names_of_many_requesters_should_not_delay_another_one() -> None:
    resolver = Resolver()
    for number in range(10):
        await ask_for_slow_names(resolver, f"umbra-{number}", 300)
    assert await resolver.look_up("acme.example", 1.0, "acme") == FOUND


@pytest.mark.usefixtures("answering")
async def test_name_should_not_wait_behind_another_requesters_lookup_of_it() -> None:
    resolver = Resolver()
    slow = [resolver.look_up(f"slow{n}.example{n}", 5.0, "umbra") for n in range(200)]
    # These wait for umbra's share.
    queued = [resolver.look_up(f"acme{n}.example", 5.0, "umbra") for n in range(20)]
    tasks = [asyncio.ensure_future(each) for each in (*slow, *queued)]
    await asyncio.sleep(0)
    for number in range(20):
        assert await resolver.look_up(f"acme{number}.example", 1.0, "acme") == FOUND
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_slow_names_should_go_on_when_they_are_answered(answering: threading.Event) -> None:
    resolver = Resolver()
    await ask_for_slow_names(resolver, "umbra", 100)
    answering.set()
    assert await resolver.look_up("umbra.example", 5.0, "umbra") == FOUND


async def test_name_that_is_not_resolved_in_time_should_not_pass_a_check(
    answering: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver()
    monkeypatch.setattr(addresses, "look_up", resolver.look_up)
    monkeypatch.setattr(addresses, "CHECK_SECONDS", 0.05)
    for _ in range(2):
        with pytest.raises(UnresolvedNameError, match=r"slow\.example was not resolved in time"):
            await check_url("http://slow.example/", AddressRule(), (), "umbra")
        with pytest.raises(UnresolvedNameError):
            await check_host("slow.example", AddressRule(), "umbra")
    answering.set()
    # Then the name server fails, which is no answer either.
    with pytest.raises(UnresolvedNameError):
        await check_url("http://slow2.example/", AddressRule(), (), "umbra")
    await check_url("http://missing.example/", AddressRule())
    await check_url("http://slow.example/", AddressRule(allow_all=True))


@pytest.mark.usefixtures("answering")
async def test_private_address_should_be_refused_while_slow_names_use_a_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = Resolver()
    monkeypatch.setattr(addresses, "look_up", resolver.look_up)
    await ask_for_slow_names(resolver, "umbra", 300)
    with pytest.raises(AddressError, match=r"^inside\.example has a private address; allow"):
        await check_url(INSIDE, AddressRule(), (), "acme")


async def test_name_that_was_missing_before_should_not_pass_without_an_answer(
    answering: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver()
    monkeypatch.setattr(dns, "NOT_FOUND_SECONDS", 0.0)
    answering.set()
    found: list[tuple[IpAddress, ...] | None] = [(), None]
    monkeypatch.setattr(dns, "_getaddrinfo", lambda _: found.pop(0))
    assert await resolver.look_up("name.example", 1.0, None) == DnsAnswer((), is_final=True)
    assert await resolver.look_up("name.example", 1.0, None) == DnsAnswer((), is_final=False)
