"""Records a meeting for some seconds with Cloudflare's SDK: pip install cloudflare.

    API_KEY=default:KEY python cloudflare_sdk.py [MEETING [SECONDS]]

The farm accepts any account and app, because the key identifies the organization.
"""

import os
import sys
import time

from cloudflare import Cloudflare

farm = os.environ.get("API_URL", "http://localhost:8000")
key = os.environ["API_KEY"].rpartition(":")[2]  # as Bearer, the key alone
client = Cloudflare(api_token=key, base_url=f"{farm}/client/v4")
recordings = client.realtime_kit.recordings
app = {"account_id": "any", "app_id": "any"}


def main(meeting_id: str = "demo", seconds: str = "10") -> None:
    recording = recordings.start_recordings(**app, meeting_id=meeting_id, max_seconds=int(seconds)).data
    while recording.status not in ("UPLOADED", "ERRORED"):
        time.sleep(1)
        recording = recordings.get_one_recording(recording_id=recording.id, **app).data
    print(recording.status, recording.download_url)


main(*sys.argv[1:])
