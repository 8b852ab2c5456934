"""Records a meeting for some seconds and downloads the file. Standard library only.

FARM_KEY=default:KEY python start_and_download.py demo 10 demo.mp4
"""

import base64
import json
import os
import sys
import time
import urllib.request

FARM = os.environ.get("FARM_URL", "http://localhost:8000")
BASIC = base64.b64encode(os.environ["FARM_KEY"].encode()).decode()


def call(method: str, path: str, body: object = None) -> dict:
    request = urllib.request.Request(
        FARM + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {BASIC}"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["data"]


def main(meeting_id: str, seconds: str, file: str) -> None:
    recording = call("POST", "/v2/recordings", {"meeting_id": meeting_id, "max_seconds": int(seconds)})
    while recording["status"] not in ("UPLOADED", "ERRORED"):
        time.sleep(1)  # a webhook or GET /v2/events tells you sooner
        recording = call("GET", f"/v2/recordings/{recording['id']}")
    if recording["status"] == "ERRORED":
        sys.exit(f"{recording['error']['code']}: {recording['error']['message']}")
    urllib.request.urlretrieve(recording["download_url"], file)  # the link needs no key
    print(f"{file}: {recording['recording_duration']} s, {recording['file_size']} bytes")


main(*sys.argv[1:])
