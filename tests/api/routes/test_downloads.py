import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from starlette.applications import Starlette

from recording_farm.api.http_errors import TooManyDownloadsError
from recording_farm.api.services.turns import Turns
from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.credentials.farm_secret import load_secret_key
from recording_farm.farm.db.clients import connect_async
from recording_farm.farm.recording.links import download_link
from recording_farm.farm.storage.backend import Checkpoint, StorageError
from recording_farm.farm.storage.store import open_store
from testkit.api.client import ACME, OTHER
from testkit.farm import Farm
from testkit.recordings import new_recording

CONTENT = bytes(range(256)) * 40


@pytest.fixture
async def url(client: httpx.AsyncClient, farm: Farm, tmp_path: Path) -> str:
    """The link to a finished file, as the API gives it; the client has no key any more."""
    source = tmp_path / "cut.mp4"
    source.write_bytes(CONTENT)
    recording = farm.stored(new_recording(), source)
    shown = (await client.get(f"/v2/recordings/{recording.id}")).json()["data"]
    client.auth = None  # type: ignore[assignment]
    return str(shown["download_url"])


async def test_link_should_give_the_file_to_anyone(client: httpx.AsyncClient, url: str) -> None:
    response = await client.get(url)
    assert (response.status_code, response.content) == (200, CONTENT)
    headers = response.headers
    assert headers["content-type"] == "video/mp4"
    assert headers["accept-ranges"] == "bytes"
    assert headers["content-disposition"].startswith('inline; filename="demo_')
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; media-src 'self'; sandbox"
    assert (headers["referrer-policy"], headers["cache-control"]) == ("no-referrer", "private")
    head = await client.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(CONTENT)), b"")


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=10000-", 10000, 10240),
        ("bytes=-5", 10235, 10240),
        ("bytes=5-99999", 5, 10240),
    ],
)
async def test_range_should_give_that_part(
    client: httpx.AsyncClient, url: str, header: str, start: int, end: int
) -> None:
    response = await client.get(url, headers={"Range": header})
    assert (response.status_code, response.content) == (206, CONTENT[start:end])
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("bytes=10240-", 416),
        ("bytes=99999-100000", 416),
        ("bytes=x-y", 200),
        ("lines=1-2", 200),
        ("bytes=9-2", 200),
    ],
)
async def test_range_that_makes_no_sense_should_be_refused_or_ignored(
    client: httpx.AsyncClient, url: str, header: str, status: int
) -> None:
    response = await client.get(url, headers={"Range": header})
    assert response.status_code == status
    if status == 416:
        assert response.headers["content-range"] == f"bytes */{len(CONTENT)}"


async def test_file_that_cannot_be_read_should_be_said_without_saying_where_it_is(
    client: httpx.AsyncClient,
    app: Starlette,
    url: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("damaged", f"{settings.data_dir}/store/film.mp4 is damaged")

    monkeypatch.setattr(app.state.context.store, "open", fail)
    response = await client.get(url)
    assert (response.status_code, response.json()["error"]["type"]) == (500, "storage_error")
    assert str(settings.data_dir) not in response.text
    assert "film.mp4 is damaged" in caplog.text


async def test_link_that_was_altered_should_open_nothing(
    client: httpx.AsyncClient, url: str, settings: Settings
) -> None:
    path, query = url.split("?")
    expires, signature = query.split("&")
    number = int(expires.removeprefix("expires="))
    changed = "0" if signature[-1] != "0" else "1"
    for altered in [
        path,
        f"{path}?{expires}",
        f"{path}?{signature}",
        f"{path}?expires={number + 1}&{signature}",
        f"{path}?{expires}&{signature[:-1]}{changed}",
        f"{path}x?{query}",
        url.replace(path.split("/")[5], str(uuid4())),
        f"{path}?expires=%00&signature=%FF",
    ]:
        response = await client.get(altered)
        assert response.status_code == 403, altered
        assert response.json()["error"]["type"] == "link_refused"
    # A key to the API does not replace the signature, and the secret is not an API key.
    assert (await client.get(path, auth=ACME)).status_code == 403
    assert load_secret_key(settings).decode() not in url


async def test_expired_link_should_say_so(client: httpx.AsyncClient, url: str, settings: Settings) -> None:
    *_, recording_id, _, name = url.split("?")[0].split("/")
    secret = load_secret_key(settings)
    recording = UUID(recording_id)
    expired = await client.get(download_link(secret, recording, name, int(now().timestamp()) - 1))
    assert (expired.status_code, "expired" in expired.json()["error"]["message"]) == (403, True)
    good = await client.get(download_link(secret, recording, name, int(now().timestamp()) + 60))
    assert good.status_code == 200


@pytest.mark.parametrize(
    "name", ["gone.mp4", "../../api-keys.json", "..", ".", "a/b.mp4", "/etc/passwd", "\x00"]
)
async def test_link_should_never_lead_out_of_the_store(
    client: httpx.AsyncClient, url: str, settings: Settings, name: str
) -> None:
    assert url
    link = download_link(load_secret_key(settings), uuid4(), name, int(now().timestamp()) + 60)
    # 401: the client itself shortened the path with the dots, and asks for something else.
    assert (await client.get(link)).status_code in {401, 403, 404}


async def test_webm_should_have_its_own_content_type(
    client: httpx.AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    source = tmp_path / "cut.webm"
    source.write_bytes(b"webm")
    secret = load_secret_key(settings)
    recording_id = uuid4()
    open_store(settings).put(recording_id, source, "a.webm", Checkpoint(tmp_path / "checkpoint"))
    response = await client.get(download_link(secret, recording_id, "a.webm", int(now().timestamp()) + 60))
    assert (response.status_code, response.headers["content-type"]) == (200, "video/webm")


@pytest.fixture
async def others_url(client: httpx.AsyncClient, farm: Farm, tmp_path: Path, url: str) -> str:
    """The link to a file of another organization."""
    assert url
    source = tmp_path / "other.mp4"
    source.write_bytes(CONTENT)
    recording = farm.stored(new_recording(organization_id=OTHER[0]), source)
    shown = (await client.get(f"/v2/recordings/{recording.id}", auth=OTHER)).json()["data"]
    return str(shown["download_url"])


async def test_share_of_downloads_should_be_an_organizations_own(
    client: httpx.AsyncClient, app: Starlette, url: str, others_url: str
) -> None:
    app.state.context = replace(app.state.context, downloads=Turns(6, 0, TooManyDownloadsError))
    async with app.state.context.downloads.taken(ACME[0]), app.state.context.downloads.taken(ACME[0]):
        refused = await client.get(url)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "too_many_downloads")
        assert int(refused.headers["retry-after"]) > 0
        assert (await client.get(others_url)).content == CONTENT
    assert (await client.get(url)).content == CONTENT


async def test_reads_of_one_organization_should_not_delay_anothers(
    client: httpx.AsyncClient, app: Starlette, url: str, others_url: str
) -> None:
    app.state.context = replace(app.state.context, file_reads=Turns(6, 9, TooManyDownloadsError))
    async with app.state.context.file_reads.taken(ACME[0]), app.state.context.file_reads.taken(ACME[0]):
        waiting = asyncio.create_task(client.get(url))
        assert (await client.get(others_url)).content == CONTENT
        assert not waiting.done()
    assert (await waiting).content == CONTENT


async def test_download_should_need_no_redis(client: httpx.AsyncClient, app: Starlette, url: str) -> None:
    async with connect_async("unix:///nowhere/redis.sock") as away:
        app.state.context = replace(app.state.context, waiting_redis=away)
        assert (await client.get(url)).content == CONTENT
