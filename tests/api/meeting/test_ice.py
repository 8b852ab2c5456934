"""ICE servers that browsers of the built-in meeting get."""

import base64
import subprocess
from pathlib import Path

import pytest

from recording_farm.api.meeting.ice import TURN_SECONDS, IceServers, turn_credentials
from recording_farm.farm.config.settings import load_settings
from recording_farm.farm.errors import SettingsError
from testkit.settings import settings_with


def test_each_member_should_get_turn_credentials_that_expire() -> None:
    settings = settings_with(
        Path("/srv/farm"),
        None,
        ice_servers="stun:stun.example.com:3478,turns:turn.example.com:5349?transport=tcp",
        turn_secret="north",
    )
    stun, turn = IceServers(settings).for_member("ada", 1_700_000_000.9)
    assert stun == {"urls": "stun:stun.example.com:3478"}
    assert turn["username"] == f"{1_700_000_000 + TURN_SECONDS}:ada"
    assert turn == {
        "urls": "turns:turn.example.com:5349?transport=tcp",
        **turn_credentials("north", turn["username"]),
    }


def test_turn_password_should_be_the_hmac_that_openssl_makes() -> None:
    command = ["openssl", "dgst", "-sha1", "-hmac", "north", "-binary"]
    digest = subprocess.run(command, input=b"1700000000:ada", capture_output=True, check=True).stdout
    assert turn_credentials("north", "1700000000:ada")["credential"] == base64.b64encode(digest).decode()


def test_fixed_turn_credentials_should_go_to_turn_servers_only() -> None:
    settings = settings_with(
        Path("/srv/farm"),
        None,
        ice_servers="stun:stun.example.com,turn:192.0.2.1:3478",
        turn_user="farm",
        turn_password="secret word",
    )
    assert IceServers(settings).for_member("ada", 0) == [
        {"urls": "stun:stun.example.com"},
        {"urls": "turn:192.0.2.1:3478", "username": "farm", "credential": "secret word"},
    ]
    assert "secret word" not in f"{settings!r} {settings}"


@pytest.mark.parametrize(
    ("servers", "problem"),
    [
        ("turn:turn.example.com", "FARM_TURN_SECRET"),
        ("turn:farm:hidden@turn.example.com", "FARM_TURN_SECRET"),
        ("turn:turn.example.com?transport=sctp", "turn:host:port"),
        ("https://turn.example.com", "turn:host:port"),
        ("turn:[::1", "turn:host:port"),
    ],
)
def test_bad_ice_servers_should_be_named_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, servers: str, problem: str
) -> None:
    monkeypatch.setenv("FARM_ICE_SERVERS", servers)
    with pytest.raises(SettingsError, match=problem) as caught:
        load_settings()
    assert "FARM_" in str(caught.value)
    assert "hidden" not in str(caught.value)
