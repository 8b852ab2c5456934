"""Participants' tokens: they start and stop recordings of their meeting, and open nothing else."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

import recording_farm.api.services.participant_keys as module
from recording_farm.api.services.participant_keys import read_key_set
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.pages.tokens import livekit_token, recorder_token
from recording_farm.farm.recording.commands import commands_key
from recording_farm.farm.recording.model import Reason, ReasonKind, Status, stop_reason_of
from recording_farm.farm.recording.records import Records
from testkit.api.client import client_of
from testkit.farm import Farm
from testkit.network.authorities import own_authority
from testkit.recordings import new_recording
from testkit.settings import settings_with

SECRET = "a secret of the meetings' own, long enough for HS256 and for HS512"
CLAIMS = {"orgId": "acme", "meetingId": "room", "participantId": "ada", "presetId": "host"}
RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def token(
    claims: dict[str, Any] | None = None, key: Any = SECRET, algorithm: str = "HS256", **headers: Any
) -> str:
    """A token of Ada's, in the meeting `room`; a claim that is None is left out."""
    present = int(time.time())
    content = {**CLAIMS, "iat": present, "exp": present + 3600, **(claims or {})}
    content = {name: value for name, value in content.items() if value is not None}
    return jwt.encode(content, key, algorithm, headers=headers)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(with_tokens(settings)) as client:
        yield client


def with_tokens(settings: Settings, **values: Any) -> Settings:
    values = {"page_secret": SECRET, **values}
    return settings_with(settings.data_dir, settings.redis_url, webhook_key=settings.webhook_key, **values)


class Bearer(httpx.Auth):
    """A token, in place of the client's own credentials."""

    def __init__(self, text: str) -> None:
        self.text = text

    def auth_flow(self, request: httpx.Request) -> Any:
        request.headers["Authorization"] = f"Bearer {self.text}"
        yield request


async def refusal(client: httpx.AsyncClient, text: str) -> tuple[int, str]:
    answer = await client.get("/v2/recordings", auth=Bearer(text))
    error = answer.json().get("error", {"message": ""})
    return answer.status_code, error["message"]


async def test_participant_should_control_recordings_of_the_meeting_as_browser_clients_do(
    client: httpx.AsyncClient, farm: Farm
) -> None:
    ada = Bearer(token({"name": "Ada"}))
    # What @dytesdk/web-core 3.1 and @cloudflare/realtimekit 2.0 send.
    body = {
        "file_name_prefix": "Physics",
        "video_config": {"width": 640, "height": 360, "codec": "VP8"},
        "meeting_id": "room",
        "allow_multiple_recordings": False,
    }
    started = await client.post("/v2/recordings", json=body, auth=ada)
    assert started.status_code == 200, started.text
    data = started.json()["data"]
    assert data["start_reason"] == {
        "reason": "API_CALL",
        "caller": {"type": "USER", "user_Id": "ada", "name": "Ada"},
    }
    recording = farm.records.get("acme", data["id"])
    assert (recording.meeting_id, recording.width, recording.codec) == ("room", 640, "VP8")
    again = await client.post("/v2/recordings", json=body, auth=ada)
    assert again.status_code == 409

    active = await client.get("/v2/recordings/active-recording/room", auth=ada)
    assert (active.json()["data"]["id"], active.json()["data"]["status"]) == (data["id"], "INVOKED")
    one = await client.get(f"/v2/recordings/{data['id']}", auth=ada)
    assert one.json()["data"]["id"] == data["id"]
    listed = await client.get("/v2/recordings", auth=ada)
    assert [each["id"] for each in listed.json()["data"]] == [data["id"]]

    farm.records.change_state(data["id"], Status.RECORDING)
    path = f"/v2/recordings/{data['id']}"
    for action in ("pause", "stop"):
        # The other dialect is the same.
        answer = await client.put(
            f"/client/v4/accounts/a/realtime/kit/b/recordings/{data['id']}" if action == "stop" else path,
            json={"action": action},
            auth=ada,
        )
        assert answer.status_code == 200
    orders: Any = farm.redis.xrange(commands_key(data["id"]))
    assert [entry[b"order"] for _, entry in orders] == [b"pause", b"stop"]
    # Its recorder knows of an order and not who gave it.
    by_recorder = Reason(reason=ReasonKind.API_CALL)
    farm.records.change_state(data["id"], Status.UPLOADING, stop_reason=by_recorder)
    shown = (await client.get(path)).json()["data"]
    assert shown["stop_reason"]["caller"] == {"type": "USER", "user_Id": "ada", "name": "Ada"}


async def test_participant_should_stop_a_recording_that_has_not_begun(
    client: httpx.AsyncClient, records: Records
) -> None:
    ada = Bearer(token())
    started = (await client.post("/v2/recordings", json={"meeting_id": "room"}, auth=ada)).json()["data"]
    stopped = await client.put(f"/v2/recordings/{started['id']}", json={"action": "stop"}, auth=ada)
    assert stopped.json()["data"]["status"] == "ERRORED"
    reason = stop_reason_of(records.get("acme", started["id"]))
    assert reason is not None
    assert reason.caller is not None
    assert (reason.caller.type, reason.caller.user_id) == ("USER", "ada")


@pytest.mark.parametrize(
    ("claims", "caller"),
    [
        ({"participantId": None, "sub": "bob"}, {"type": "USER", "user_Id": "bob"}),
        ({"participantId": None}, {"type": "USER"}),
    ],
)
async def test_caller_should_be_who_the_token_names(
    client: httpx.AsyncClient, claims: dict[str, Any], caller: dict[str, str]
) -> None:
    started = await client.post("/v2/recordings", json={"meeting_id": "room"}, auth=Bearer(token(claims)))
    assert started.json()["data"]["start_reason"]["caller"] == caller


async def test_participant_should_see_no_recording_of_another_meeting(client: httpx.AsyncClient) -> None:
    ada = Bearer(token())
    foreign = (await client.post("/v2/recordings", json={"meeting_id": "another"})).json()["data"]
    path = f"/v2/recordings/{foreign['id']}"
    answers = [
        await client.get(path, auth=ada),
        await client.put(path, json={"action": "stop"}, auth=ada),
        await client.get("/v2/recordings/active-recording/another", auth=ada),
        await client.get("/v2/recordings", params={"meeting_id": "another"}, auth=ada),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert (await client.get("/v2/recordings", auth=ada)).json()["data"] == []
    # Of a meeting with the same name in another organization neither.
    stranger = Bearer(token({"orgId": "other", "meetingId": "another"}))
    assert (await client.get(path, auth=stranger)).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"meeting_id": "another"}, "meeting_id"),
        ({"url": "https://example.com/"}, "url"),
        ({"storage_config": {"type": "preset", "name": "films"}}, "storage_config"),
        ({"webhooks": ["https://example.com/"]}, "webhooks"),
        ({"auth_token": "x"}, "auth_token"),
        ({"page_hints": {"css": "*{}"}}, "page_hints"),
        ({"max_seconds": 60}, "max_seconds"),
        ({"realtimekit_bucket_config": {"enabled": False}}, "realtimekit_bucket_config"),
        ({"outputs": [{"url": "rtmp://example.com/a/b"}]}, "outputs"),
        ({"video_config": {"watermark": {"url": "https://example.com/"}}}, "video_config.watermark"),
    ],
)
async def test_participant_should_not_set_what_browser_clients_never_do(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await client.post("/v2/recordings", json={"meeting_id": "room", **body}, auth=Bearer(token()))
    assert answer.status_code == 403
    error = answer.json()["error"]
    assert error["type"] == "not_permitted"
    assert error["message"].startswith(f'"{field}"')


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", f"/v2/recordings/{UNKNOWN}"),
        ("POST", f"/v2/recordings/{UNKNOWN}/upload"),
        ("POST", f"/v2/recordings/{UNKNOWN}/outputs"),
        ("GET", f"/v2/recordings/{UNKNOWN}/evidence"),
        ("GET", f"/v2/recordings/{UNKNOWN}/live.jpg"),
        ("POST", "/v2/recordings/track"),
        ("GET", "/v2/webhooks"),
        ("PUT", "/v2/recording_config"),
        ("GET", "/v2/meetings/room/recording_config"),
        ("POST", "/v2/meetings/room/host_link"),
        ("GET", "/v2/storage/presets"),
        ("GET", "/v2/events"),
    ],
)
async def test_participant_should_have_no_use_of_anything_else(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    answer = await client.request(method, path, json={}, auth=Bearer(token()))
    assert answer.status_code == 403
    assert answer.json()["error"]["type"] == "not_permitted"


async def test_participant_should_see_only_the_fields_of_the_recording_api(
    client: httpx.AsyncClient, records: Records
) -> None:
    recording = new_recording(
        meeting_id="room",
        url="https://example.com/?secret=1",
        webhooks=("https://example.com/hook?secret=1",),
        storage_config={"type": "aws", "bucket": "secret"},
    )
    records.add(recording)
    ada = Bearer(token())
    seen = [
        (await client.get(f"/v2/recordings/{recording.id}", auth=ada)).json()["data"],
        (await client.get("/v2/recordings/active-recording/room", auth=ada)).json()["data"],
        *(await client.get("/v2/recordings", auth=ada)).json()["data"],
    ]
    for each in seen:
        assert "secret" not in json.dumps(each)
        assert each.keys() == {
            *("id", "status", "invoked_time", "started_time", "stopped_time", "output_file_name"),
            *("session_id", "download_url", "download_url_expiry", "audio_download_url", "file_size"),
            "meeting_id",
        }


@pytest.mark.parametrize(
    ("claims", "part"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp is missing"),
        ({"nbf": 4e9}, "not valid yet"),
        ({"exp": "soon"}, "cannot be read"),
        ({"meetingId": None}, "meetingId"),
        ({"meetingId": ""}, "meetingId"),
        ({"meetingId": ["room"]}, "meetingId"),
        ({"participantId": 7}, "participantId"),
        ({"orgId": "nobody"}, "orgId"),
        ({"orgId": None}, "orgId"),
        ({"recorder": True}, "recorder's token"),
        ({"iss": "recording-farm"}, "recorder's token"),
    ],
)
async def test_token_that_does_not_say_what_it_must_should_be_refused_in_words(
    client: httpx.AsyncClient, claims: dict[str, Any], part: str
) -> None:
    status, message = await refusal(client, token(claims))
    assert status == 401
    assert part in message


async def test_recorders_own_tokens_should_open_nothing(client: httpx.AsyncClient) -> None:
    recording = new_recording(meeting_id="room")
    for text in (recorder_token(recording, SECRET), livekit_token(recording, "key", SECRET)):
        assert (await refusal(client, text))[0] == 401


async def test_clocks_may_differ_by_half_a_minute(client: httpx.AsyncClient) -> None:
    present = time.time()
    for claims in ({"exp": present - 15}, {"nbf": present + 15}, {"iat": present + 15}):
        assert (await refusal(client, token(claims)))[0] == 200


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


async def test_signatures_of_others_should_be_refused(client: httpx.AsyncClient) -> None:
    good = token()
    head, _, signature = good.split(".")
    forged = encoded({**CLAIMS, "meetingId": "another", "exp": 4e9})
    for text in (
        token(key="another secret, as long as the other and as well kept, they say"),
        token(key=RSA_KEY, algorithm="RS256"),
        token(algorithm="HS512"),
        f"{encoded({'alg': 'none'})}.{forged}.",
        f"{head}.{forged}.",
        f"{head}.{forged}.{signature}",
        f"{good}x",
        "eyJ.eyJ.",
        "eyJ" + "a" * 5000 + ".e.e",
    ):
        assert (await refusal(client, text))[0] == 401


async def test_farm_without_the_settings_should_take_no_such_token(settings: Settings) -> None:
    async with client_of(settings) as client:
        assert await refusal(client, token()) == (401, "unknown organization or wrong API key")


async def test_only_organization_should_need_no_name_in_the_token(settings: Settings) -> None:
    one = with_tokens(settings, api_keys="acme:acme-key")
    async with client_of(one) as client:
        for organization in (None, "acme", "0e3bd1ad-8ae8-4ecd-8c40-9b8a6c4a1d3c"):
            started = await client.post(
                "/v2/recordings",
                json={"meeting_id": "room", "allow_multiple_recordings": True},
                auth=Bearer(token({"orgId": organization})),
            )
            assert started.status_code == 200, started.text
        assert (await client.get("/v2/recordings")).json()["paging"]["total_count"] == 3


async def test_setting_should_say_whose_an_organization_is(settings: Settings) -> None:
    mapped = with_tokens(settings, participant_organizations="0e3b-aa=acme, other=acme")
    async with client_of(mapped) as client:
        for organization in ("0e3b-aa", "other"):
            answer = await client.post(
                "/v2/recordings",
                json={"meeting_id": "room", "allow_multiple_recordings": True},
                auth=Bearer(token({"orgId": organization})),
            )
            assert answer.status_code == 200
        assert (await client.get("/v2/recordings")).json()["paging"]["total_count"] == 2


async def test_participant_should_have_one_limit_whatever_the_token(settings: Settings) -> None:
    async with client_of(with_tokens(settings, rate_limit="2")) as client:
        statuses = [(await refusal(client, token({"iat": number})))[0] for number in range(3)]
        assert statuses == [200, 200, 429]
        assert (await refusal(client, token({"participantId": "bob"})))[0] == 200
        assert (await client.get("/v2/recordings")).status_code == 200


async def test_wrong_tokens_should_count_as_wrong_keys(settings: Settings) -> None:
    async with client_of(with_tokens(settings, failure_limit="2")) as client:
        bad = token(key="another secret, as long as the other and as well kept, they say")
        assert [(await refusal(client, bad))[0] for _ in range(3)] == [401, 401, 429]
        assert (await refusal(client, token()))[0] == 200


# Keys of a set


@dataclass
class Issuer:
    """Serves a key set, and counts how often."""

    url: str = ""
    content: bytes = b"{}"
    status: int = 200
    asked: int = 0
    hangs: threading.Event = field(default_factory=threading.Event)

    def publish(self, *keys: dict[str, Any]) -> None:
        self.content = json.dumps({"keys": list(keys)}).encode()


@contextmanager
def issuing(tls: ssl.SSLContext | None = None) -> Iterator[Issuer]:
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked += 1
            self.send_response(issuer.status)
            self.end_headers()
            self.wfile.write(issuer.content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        issuer.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}/jwks"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield issuer
        server.shutdown()
        thread.join()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


def public(key: Any, **fields: Any) -> dict[str, Any]:
    algorithm = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), **fields}


@pytest.fixture
async def keyed(settings: Settings, issuer: Issuer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a farm that takes the issuer's tokens, and those of the page secret."""
    async with client_of(with_tokens(settings, participant_jwks_url=issuer.url)) as client:
        yield client


async def test_keys_of_the_set_should_be_taken(keyed: httpx.AsyncClient, issuer: Issuer) -> None:
    issuer.publish(public(OTHER_RSA_KEY, kid="old"), public(RSA_KEY, kid="1"), public(EC_KEY, kid="2"))
    assert (await refusal(keyed, token(key=RSA_KEY, algorithm="RS256", kid="1")))[0] == 200
    assert (await refusal(keyed, token(key=EC_KEY, algorithm="ES256", kid="2")))[0] == 200
    # Without a key id all of the algorithm are tried.
    assert (await refusal(keyed, token(key=RSA_KEY, algorithm="RS256")))[0] == 200
    assert (await refusal(keyed, token()))[0] == 200
    assert issuer.asked == 1


async def test_organization_should_be_named_by_tokens_of_a_key_set(
    settings: Settings, issuer: Issuer
) -> None:
    # Who signs for many could else let all of them in.
    issuer.publish(public(RSA_KEY))
    one = with_tokens(settings, participant_jwks_url=issuer.url, api_keys="acme:acme-key")
    async with client_of(one) as client:
        for claims, status in (({}, 200), ({"orgId": None}, 401), ({"orgId": "0e3bd1ad"}, 401)):
            assert (await refusal(client, token(claims, RSA_KEY, "RS256")))[0] == status


async def test_no_algorithm_should_pass_for_another(keyed: httpx.AsyncClient, issuer: Issuer) -> None:
    issuer.publish(public(RSA_KEY, kid="1"), public(EC_KEY, kid="2"))
    pem = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = ".".join((encoded({"alg": "HS256", "kid": "1"}), encoded({**CLAIMS, "exp": 4e9})))
    for key in (pem, json.dumps(public(RSA_KEY, kid="1")).encode()):
        signature = hmac.new(key, unsigned.encode(), hashlib.sha256).digest()
        text = f"{unsigned}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
        assert (await refusal(keyed, text))[0] == 401
    for text in (
        token(key=OTHER_RSA_KEY, algorithm="RS256", kid="1"),
        token(key=RSA_KEY, algorithm="RS256", kid="2"),
        token(key=RSA_KEY, algorithm="PS256", kid="1"),
        token(key=RSA_KEY, algorithm="RS512", kid="1"),
        # What the token itself brings along is never asked.
        token(key=OTHER_RSA_KEY, algorithm="RS256", jwk=public(OTHER_RSA_KEY), jku=issuer.url),
    ):
        assert (await refusal(keyed, text))[0] == 401


async def test_new_key_should_count_at_once_and_an_old_one_end(
    keyed: httpx.AsyncClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FETCH_INTERVAL", 0.0)
    old = token(key=RSA_KEY, algorithm="RS256", kid="1")
    new = token(key=OTHER_RSA_KEY, algorithm="RS256", kid="2")
    issuer.publish(public(RSA_KEY, kid="1"))
    assert [(await refusal(keyed, text))[0] for text in (old, new)] == [200, 401]
    issuer.publish(public(OTHER_RSA_KEY, kid="2"))
    assert [(await refusal(keyed, text))[0] for text in (new, old)] == [200, 401]


async def test_strangers_should_not_have_the_keys_fetched_again_and_again(
    keyed: httpx.AsyncClient, issuer: Issuer
) -> None:
    issuer.publish(public(RSA_KEY, kid="1"))
    strange = [token(key=OTHER_RSA_KEY, algorithm="RS256", kid=str(number)) for number in range(10)]
    answers = await asyncio.gather(*(refusal(keyed, text) for text in strange))
    assert [status for status, _ in answers] == [401] * 10
    assert issuer.asked == 1


async def test_issuer_that_is_away_should_be_reported_and_known_keys_go_on(
    keyed: httpx.AsyncClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FETCH_INTERVAL", 0.0)
    text = token(key=RSA_KEY, algorithm="RS256")
    issuer.status = 500
    answer = await keyed.get("/v2/recordings", auth=Bearer(text))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "0")
    assert "FARM_PARTICIPANT_JWKS_URL" in answer.json()["error"]["message"]
    issuer.status = 200
    issuer.publish(public(RSA_KEY))
    assert (await refusal(keyed, text))[0] == 200
    monkeypatch.setattr(module, "_FRESH_SECONDS", 0.0)
    for content in (
        b"not JSON",
        b"[]",
        b'{"keys": 1}',
        b"[" * 100_000,
        b'{"keys": [' + b" " * (300 << 10) + b"]}",
    ):
        issuer.content = content
        assert (await refusal(keyed, text))[0] == 200


async def test_issuer_with_an_authority_of_the_operators_should_be_believed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = own_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))  # as FARM_CA_FILE does
    with issuing(authority.server("issuer.test")) as issuer:
        issuer.publish(public(RSA_KEY))
        async with client_of(with_tokens(settings, participant_jwks_url=issuer.url)) as client:
            assert (await refusal(client, token(key=RSA_KEY, algorithm="RS256")))[0] == 200


def test_set_should_be_read_key_by_key() -> None:
    small = public(rsa.generate_private_key(65537, 1024), kid="small")
    other_curve = public(ec.generate_private_key(ec.SECP384R1()), kid="curve")
    private = {**RSAAlgorithm.to_jwk(RSA_KEY, as_dict=True), "kid": "private"}
    entries = [
        small,
        other_curve,
        private,
        public(RSA_KEY, use="enc"),
        public(RSA_KEY, alg="RS512"),
        public(RSA_KEY, key_ops=["encrypt"]),
        {"kty": "RSA", "n": "AQAB"},
        {"kty": "RSA", "n": 1, "e": []},
        {"kty": ["RSA"]},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        "RSA",
        public(RSA_KEY, kid="good", use="sig", alg="RS256"),
        public(EC_KEY, kid=7),
    ]
    keys = read_key_set(json.dumps({"keys": entries}).encode())
    assert [(key.id, key.algorithm) for key in keys] == [("good", "RS256"), (None, "ES256")]
