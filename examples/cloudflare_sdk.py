"""Records a meeting for some seconds with Cloudflare's SDK: pip install cloudflare.

    FARM_KEY=default:KEY python cloudflare_sdk.py demo 10

The farm accepts any account and app, because the key identifies the organization.
"""

import os
import sys
import time

from cloudflare import Cloudflare

farm = os.environ.get("FARM_URL", "http://localhost:8000")
key = os.environ["FARM_KEY"].rpartition(":")[2]  # as Bearer, the key alone
client = Cloudflare(api_token=key, base_url=f"{farm}/client/v4")
recordings = client.realtime_kit.recordings
app = {"account_id": "any", "app_id": "any"}

recording = recordings.start_recordings(**app, meeting_id=sys.argv[1], max_seconds=int(sys.argv[2])).data
while recording.status not in ("UPLOADED", "ERRORED"):
    time.sleep(1)
    recording = recordings.get_one_recording(recording_id=recording.id, **app).data
print(recording.status, recording.download_url)
