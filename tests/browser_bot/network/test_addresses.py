from ipaddress import ip_address

import pytest

from recording_farm.browser_bot.network.addresses import (
    AddressError,
    AddressRule,
    check_url,
    parse_address_rule,
)
from recording_farm.browser_bot.network.dns import DnsAnswer

PUBLIC_ONLY = AddressRule()
BUILT_IN = frozenset({"http://127.0.0.1:8000/meet/"})


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("0.0.0.0", False),
        ("0.1.2.3", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("100.100.100.200", False),
        ("127.0.0.1", False),
        ("127.255.255.254", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("172.32.0.1", True),
        ("192.0.0.1", False),
        ("192.168.1.1", False),
        ("198.18.0.1", False),
        ("203.0.113.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::7f00:1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("::ffff:0:7f00:1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("64:ff9b:1::808:808", False),
        ("2001::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2002:808:808::", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("100::1", False),
    ],
)
def test_rule_should_allow_public_addresses_only(address: str, allowed: bool) -> None:
    assert PUBLIC_ONLY.is_allowed(ip_address(address)) is allowed
    assert AddressRule(allow_all=True).is_allowed(ip_address(address))


def test_rule_should_allow_what_the_operator_opened() -> None:
    rule = parse_address_rule("10.0.0.0/8, fd00::/8 ,fe80::/10")
    cases = {
        "10.1.2.3": True,
        "::ffff:10.1.2.3": True,
        "64:ff9b::a01:203": True,
        "fd12::1": True,
        "fe80::1%eth0": True,
        "192.168.1.1": False,
        "8.8.8.8": True,
    }
    assert {address: rule.is_allowed(ip_address(address)) for address in cases} == cases


@pytest.mark.parametrize(
    ("text", "rule"), [("", AddressRule()), (" , ", AddressRule()), (" ALL ", AddressRule(allow_all=True))]
)
def test_rule_should_be_read_from_text(text: str, rule: AddressRule) -> None:
    assert parse_address_rule(text) == rule


@pytest.mark.parametrize("text", ["10.0.0.1/8", "everything", "10.0.0.0/8;fd00::/8", "all,10.0.0.0/8"])
def test_text_that_is_no_rule_should_be_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"network|host bits"):
        parse_address_rule(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8/",
        "https://8.8.8.8:8443/a?b=c#d",
        "HTTP://8.8.8.8",
        "http://134744072/",
        "http://[2606:4700::1111]/",
        "http://does-not-resolve.invalid/",
        "http://127.0.0.1:8000/meet/demo",
        "http://127.0.0.1:8000/meet/demo?seconds=3",
        "http://127.0.0.1.:8000/meet/a%2Fb",
    ],
)
async def test_page_that_may_be_opened_should_pass(url: str) -> None:
    await check_url(url, PUBLIC_ONLY, BUILT_IN)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://8.8.8.8/", "http"),
        ("file:///etc/passwd", "http"),
        ("javascript:alert(1)", "http"),
        ("8.8.8.8", "http"),
        ("", "http"),
        ("http:127.0.0.1", "http"),
        ("http:/127.0.0.1/", "http"),
        (" http://8.8.8.8/", "http"),
        ("http://", "no host"),
        ("http:///etc", "no host"),
        ("http://:80/", "no host"),
        ("http://user@8.8.8.8/", "user name"),
        ("http://user:password@8.8.8.8/", "user name"),
        ("http://@8.8.8.8/", "user name"),
        ("http://8.8.8.8\\@127.0.0.1/", "backslash"),
        ("http://8.8.8.8/a b", "spaces"),
        ("http://127.0.\t0.1/", "control"),
        ("http://8.8.8.8:0/", "port 0"),
        ("http://8.8.8.8:65536/", "is not valid"),
        ("http://8.8.8.8:x/", "is not valid"),
        ("http://[::1/", "is not valid"),
        ("http://[8.8.8.8]/", "is not valid|not a valid address"),
        ("http://[fe80::1%25eth0]/", "zone|is not valid|not a valid address"),
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://127.0.0.1./", "127.0.0.1"),
        ("http://2130706433/", "127.0.0.1"),
        ("http://0177.0.0.01/", "127.0.0.1"),
        ("http://017700000001/", "127.0.0.1"),
        ("http://0x7f.1/", "127.0.0.1"),
        ("http://0x7f000001/", "127.0.0.1"),
        ("http://127.1/", "127.0.0.1"),
        ("http://0/", "0.0.0.0"),
        ("http://0x/", "0.0.0.0"),
        ("http://①②⑦.⓪.⓪.①/", "127.0.0.1"),
        ("http://127。0。0。1/", "127.0.0.1"),
        ("http://%31%32%37.0.0.1/", "127.0.0.1 is a private address"),
        ("http://256.1.1.1/", "not a valid address"),
        ("http://1.2.3.4.5/", "not a valid address"),
        ("http://08.8.8.8/", "not a valid address"),
        ("http://example.0x7f/", "not a valid address"),
        ("http://4294967296/", "not a valid address"),
        ("http://0x-1.1/", "not a valid address"),
        ("http://1_0.1/", "not a valid address"),
        ("http://" + "9" * 3000 + "/", "too long"),
        ("http://[::1]/", "::1"),
        ("http://[::]/", "::"),
        ("http://[::ffff:127.0.0.1]/", "::ffff:7f00:1"),
        ("http://[::ffff:7f00:1]:80/", "7f00:1"),
        ("http://[64:ff9b::a9fe:a9fe]/", "64:ff9b"),
        ("http://169.254.169.254/latest/meta-data/", "169.254"),
        ("http://192.168.0.1/", "192.168"),
        ("http://localhost/", "localhost"),
        ("http://LOCALHOST./", "localhost"),
        ("http://a.localhost/", "localhost"),
        ("http://a..b/", "valid name"),
        ("http://" + "a" * 64 + "/", "too long"),
        ("http://a,b/", "valid name"),
        # The built-in meeting opens no door to the rest of the API, nor to other ports.
        ("http://127.0.0.1:8000/v2/recordings", "private address"),
        ("http://127.0.0.1:8000/meet/../healthz", "private address"),
        ("http://127.0.0.1:8000/meet/%2e%2e/healthz", "private address"),
        ("http://127.0.0.1:8000/meet/.%2E/healthz", "private address"),
        # Nor to a proxy that decodes the path before it resolves it.
        ("http://127.0.0.1:8000/meet/..%2fv2", "private address"),
        ("http://127.0.0.1:8000/meet/..%2Fv2/recordings", "private address"),
        ("http://127.0.0.1:8000/meet/a%2f%2e%2e%2f%2e%2e%2fv2", "private address"),
        ("http://127.0.0.1:8000/meet/..%252fv2", "private address"),
        ("http://127.0.0.1:8000/meet/%252e%252e/v2", "private address"),
        ("http://127.0.0.1:8000/meet/%25252e%25252e%25252fv2", "private address"),
        ("http://127.0.0.1:8000/meet/" + "%" + "25" * 9 + "2e%2e/v2", "private address"),
        ("http://127.0.0.1:8000/meet/..%5cv2", "private address"),
        ("http://127.0.0.1:8000/meet//..//v2", "private address"),
        ("http://127.0.0.1:8000/meet/..;/v2", "private address"),
        ("http://127.0.0.1:8000/meet/..%00/v2", "private address"),
        ("http://127.0.0.1:8000/meet/.%2fx", "private address"),
        ("http://127.0.0.1:8000/meet", "private address"),
        ("https://127.0.0.1:8000/meet/demo", "private address"),
        ("http://127.0.0.1:8001/meet/demo", "private address"),
    ],
)
async def test_page_that_may_not_be_opened_should_be_refused(url: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        await check_url(url, PUBLIC_ONLY, BUILT_IN)


async def test_name_should_be_refused_when_one_of_its_addresses_is_private(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look_up(*_: object) -> DnsAnswer:
        return DnsAnswer((ip_address("8.8.8.8"), ip_address("10.0.0.1")), is_final=True)

    monkeypatch.setattr("recording_farm.browser_bot.network.addresses.look_up", look_up)
    # What the name resolves to is not for strangers.
    with pytest.raises(AddressError, match=r"^rebound\.example has a private address; allow it with \w+$"):
        await check_url("http://rebound.example/", PUBLIC_ONLY)
    await check_url("http://rebound.example/", parse_address_rule("10.0.0.0/8"))
