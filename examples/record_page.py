"""Records a page from Python, without a service: the command `farm record` as a child process.

python record_page.py [URL [FILE [SECONDS]]]
"""

import json
import subprocess
import sys


def record(url: str = "https://example.com/", file: str = "page.mp4", seconds: str = "10") -> dict:
    command = ["farm", "record", url, "--out", file, "--seconds", seconds, "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stdout + result.stderr)
    return json.loads(result.stdout)


print(record(*sys.argv[1:]))
