import base64
import json
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from recording_farm.browser_bot.page.contracts import PageContract
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.sealing import Sealer
from recording_farm.farm.errors import SettingsError
from recording_farm.farm.pages.access import (
    PageAccess,
    contract_of,
    ignored_by_page,
    open_access,
    opening_of,
    seal_access,
    with_parameters,
)
from recording_farm.farm.recording.model import Corner, Watermark
from testkit.recordings import new_recording
from testkit.settings import settings_with

SECRET = "a secret of the pages' own, long enough"
PAGE = "https://a.example/room?x=1#here"


def parameters_of(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


@pytest.mark.parametrize("contract", [PageContract.AUTO, PageContract.SDK])
def test_page_of_the_sdk_should_get_a_token_and_the_watermark(
    settings: Settings, contract: PageContract
) -> None:
    mark = Watermark(url="https://a.example/w.png", width=99, position=Corner.RIGHT_TOP)
    recording = new_recording(url=PAGE, page_contract=contract, meeting_id="Räum 1", watermark=mark)
    opening = opening_of(recording, PageAccess(), settings_with(settings.data_dir, None, page_secret=SECRET))
    parameters = parameters_of(opening.url)
    assert (parameters["x"], urlsplit(opening.url).fragment) == ("1", "here")
    claims = jwt.decode(parameters["authToken"], SECRET, algorithms=["HS256"])
    assert (claims["meetingId"], claims["recorder"]) == ("Räum 1", True)
    assert claims["exp"] - claims["iat"] == 49 * 3600
    config = json.loads(base64.b64decode(parameters["config"]))
    assert config == {
        "watermark": {
            "enabled": True,
            "url": "https://a.example/w.png",
            "position": "right top",
            "size": {"width": 99},
        }
    }
    assert opening.secrets == (parameters["authToken"],)


def test_token_of_the_request_should_win(settings: Settings) -> None:
    recording = new_recording(url=PAGE)
    opening = opening_of(
        recording,
        PageAccess(auth_token="given/+"),
        settings_with(settings.data_dir, None, page_secret=SECRET),
    )
    assert parameters_of(opening.url)["authToken"] == "given/+"
    assert opening.secrets == ("given/+",)
    assert "authToken" not in opening_of(recording, PageAccess(), settings).url


def test_plain_and_built_in_pages_should_be_opened_as_they_are(settings: Settings) -> None:
    settings = settings_with(settings.data_dir, None, page_secret=SECRET)
    plain = new_recording(url=PAGE, page_contract=PageContract.PLAIN)
    built_in = new_recording(url=settings.page_of("demo"))
    for recording in (plain, built_in):
        assert opening_of(recording, PageAccess(), settings).url == recording.url


def test_built_in_meeting_should_begin_by_its_own_word(settings: Settings) -> None:
    urls = {
        settings.page_of("demo"): PageContract.CONSOLE,
        f"{settings.local_url}/meet-assets/board.html": PageContract.AUTO,
        PAGE: PageContract.AUTO,
    }
    assert {url: contract_of(new_recording(url=url), settings) for url in urls} == urls
    plain = new_recording(url=settings.page_of("demo"), page_contract=PageContract.PLAIN)
    assert contract_of(plain, settings) is PageContract.PLAIN


def test_livekit_template_should_get_a_token_of_a_hidden_recorder(settings: Settings) -> None:
    recording = new_recording(url=PAGE, page_contract=PageContract.CONSOLE, meeting_id="room-1")
    access = PageAccess(layout="speaker")
    assert parameters_of(opening_of(recording, access, settings).url) == {"x": "1", "layout": "speaker"}
    configured = settings_with(
        settings.data_dir, None, livekit_url="wss://live.example", livekit_key="APIkey", livekit_secret=SECRET
    )
    parameters = parameters_of(opening_of(recording, access, configured).url)
    assert (parameters["url"], parameters["layout"]) == ("wss://live.example", "speaker")
    claims = jwt.decode(parameters["token"], SECRET, algorithms=["HS256"])
    assert (claims["iss"], claims["video"]["room"]) == ("APIkey", "room-1")
    grant = claims["video"]
    assert [grant[name] for name in ("roomJoin", "hidden", "recorder", "canSubscribe")] == [True] * 4
    assert (grant["canPublish"], grant["canPublishData"]) == (False, False)


def test_jitsi_meeting_should_be_joined_by_ready_made_hints(settings: Settings) -> None:
    opening = opening_of(new_recording(url="https://meet.jit.si/Room"), PageAccess(), settings)
    assert opening.url.startswith("https://meet.jit.si/Room#config.")
    assert opening.hints.wait_for is not None


def test_hints_may_hold_secrets(settings: Settings) -> None:
    access = PageAccess.model_validate({"page_hints": {"join": [{"fill": "#p", "text": "s3cret"}]}})
    assert opening_of(new_recording(url=PAGE), access, settings).secrets == ("s3cret",)


def test_access_should_be_sealed_for_its_recording_alone() -> None:
    one, other = new_recording(), new_recording()
    sealer, access = Sealer(b"x" * 32), PageAccess(auth_token="s3cret", layout="grid")
    sealed = seal_access(sealer, one.id, access)
    assert "s3cret" not in sealed
    assert open_access(sealer, one.id, sealed) == access
    with pytest.raises(SettingsError):
        open_access(sealer, other.id, sealed)


def test_parameters_should_stand_behind_those_that_are_there() -> None:
    assert with_parameters("http://a/?b=1", {"c": "x y&z"}) == "http://a/?b=1&c=x+y%26z"
    assert with_parameters("http://a/#f", {"c": "1"}) == "http://a/?c=1#f"
    assert with_parameters("http://a/p", {}) == "http://a/p"


@pytest.mark.parametrize(
    ("url", "contract", "ignored"),
    [
        (PAGE, "auto", {"layout"}),
        (PAGE, "sdk", {"layout"}),
        (PAGE, "plain", {"layout", "auth_token", "interactive_config"}),
        (PAGE, "console", {"auth_token", "interactive_config"}),
        ("https://meet.jit.si/Room", "auto", {"layout", "auth_token"}),
        (None, "auto", {"layout", "auth_token", "interactive_config"}),
    ],
)
def test_field_without_a_use_should_be_known(
    settings: Settings, url: str | None, contract: str, ignored: set[str]
) -> None:
    page = url or settings.page_of("room")
    assert ignored_by_page(page, PageContract(contract), settings) == ignored


def test_livekit_template_should_have_a_use_for_a_token(settings: Settings) -> None:
    configured = settings_with(
        settings.data_dir, None, livekit_url="wss://live.example", livekit_key="APIkey", livekit_secret=SECRET
    )
    assert ignored_by_page(PAGE, PageContract.CONSOLE, configured) == {"interactive_config"}


def test_what_the_pages_server_wants_should_be_secret(settings: Settings) -> None:
    access = PageAccess.model_validate(
        {
            "http_credentials": [{"username": "recorder", "password": "pa55"}],
            "headers": {"Authorization": "Bearer t0ken"},
            "cookies": [{"name": "session", "value": "s3cret"}, {"name": "consent", "value": "yes"}],
        }
    )
    for url in ("https://meet.jit.si/Room", "https://a.example/room"):
        opening = opening_of(new_recording(url=url, page_contract="auto"), access, settings)
        assert opening.access == access.to_site
        assert opening.access.headers == {"authorization": "Bearer t0ken"}
        # As it is, and as browsers send it.
        secrets = {"pa55", "cmVjb3JkZXI6cGE1NQ==", "Bearer t0ken", "t0ken", "s3cret"}
        assert set(opening.secrets) >= secrets
        assert "yes" not in opening.secrets
        assert not any(secret in repr(opening.access) for secret in secrets)
