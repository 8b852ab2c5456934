"""Records a meeting for some seconds and downloads the file. Standard library only.

API_KEY=default:KEY python start_and_download.py [MEETING [SECONDS [FILE]]]
"""

import base64
import json
import os
import sys
import time
import urllib.request

URL = os.environ.get("API_URL", "http://localhost:8000")
BASIC = base64.b64encode(os.environ["API_KEY"].encode()).decode()


def call(method: str, path: str, body: object = None) -> dict:
    request = urllib.request.Request(
        URL + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {BASIC}"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["data"]


def main(meeting_id: str = "demo", seconds: str = "10", file: str = "demo.mp4") -> None:
    recording = call("POST", "/v2/recordings", {"meeting_id": meeting_id, "max_seconds": int(seconds)})
    while recording["status"] not in ("UPLOADED", "ERRORED"):
        time.sleep(1)  # a webhook or GET /v2/events tells you sooner
        recording = call("GET", f"/v2/recordings/{recording['id']}")
    if recording["status"] == "ERRORED":
        sys.exit(f"{recording['error']['code']}: {recording['error']['message']}")
    urllib.request.urlretrieve(recording["download_url"], file)  # the link needs no key
    print(f"{file}: {recording['recording_duration']} s, {recording['file_size']} bytes")


main(*sys.argv[1:])
