"""RQ's dashboard of the queues."""

import re
from uuid import uuid4

import redis

from recording_farm.api.portal.page import ASSETS_PATH
from recording_farm.farm.queues.recordings import enqueue_recording, recordings_queue
from testkit.api.portal import HOSTILE, Visit
from testkit.farm import Farm


async def test_dashboard_should_change_things_only_for_its_own_pages(
    acme: Visit, redis_client: redis.Redis
) -> None:
    for method, path in (
        ("POST", "/rq/requeue/recordings"),
        ("GET", "/rq/requeue/recordings"),
    ):
        assert (await acme.client.request(method, path)).status_code == 403
        for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
            assert (await acme.client.request(method, path, headers=headers)).status_code == 403
        assert (
            await acme.client.request(method, path, headers={"Sec-Fetch-Site": "same-origin"})
        ).status_code == 200
    assert redis_client.ping()


async def test_dashboard_should_let_nothing_run_but_its_own_script(acme: Visit, farm: Farm) -> None:
    recording = farm.add(meeting_id=HOSTILE)
    enqueue_recording(farm.redis, recording)
    for path in ("/rq/", "/rq/0/view/workers", "/rq/0/view/jobs", f"/rq/0/view/job/{recording.id}"):
        response = await acme.client.get(path)
        assert response.status_code == 200, path
        policy = response.headers["content-security-policy"]
        nonce = re.search(r"'nonce-([\w-]+)'", policy)
        assert nonce
        assert f'<script nonce="{nonce[1]}">' in response.text
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
        # What clients have written is put into the page by the templates of its script: each value escaped.
        assert set(re.findall(r"<%=\s*([^%]*?)\s*%>", response.text)) <= {
            "$('<div/>').text(d.description).html()",
            "$('<div/>').text(d.exc_info).html()",
        }, path
        assert '<main class="container" id="main"' in response.text, path
        assert "<h1>" in response.text, path
        assert f'href="{ASSETS_PATH}/rq.css"' in response.text, path
        assert 'action="/logout"' in response.text, path
        assert 'href="/">' in response.text, path
        assert 'id="rq-instances" aria-label="Redis"' in response.text, path
    for path in (f"/rq/0/view/job/{uuid4()}", "/rq/nothing"):
        script = await acme.client.get(path, headers={"Accept": "application/json"})
        assert (script.status_code, "<" in script.text) == (404, False), path
        person = await acme.client.get(path, headers={"Accept": "text/html"})
        assert person.status_code == 404, path
        assert '<main id="main"' in person.text, path
        assert 'action="/logout"' in person.text, path
    assert (await acme.client.get("/rq/7/view/queues")).status_code == 200


async def test_job_should_say_what_it_is_about_and_nothing_secret(
    acme: Visit, redis_client: redis.Redis
) -> None:
    started = await acme.send("/start", meeting_id="weekly", url="https://8.8.8.8/?token=very-secret")
    recording_id = started.headers["location"].rpartition("/")[2]
    (job,) = recordings_queue(redis_client, "acme").jobs
    assert job.meta == {"recording": recording_id, "meeting": "weekly", "node": None}
    shown = (await acme.client.get(f"/rq/0/data/job/{recording_id}.json")).text
    assert "record the meeting weekly" in shown
    assert "very-secret" not in shown
