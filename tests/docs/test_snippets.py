"""The Python in docs/ does what the text around it says."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.exceptions import InvalidSignature
from standardwebhooks import WebhookVerificationError

from recording_farm.farm.clock import now
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.webhooks.registry import new_secret
from recording_farm.farm.webhooks.signature import load_signing_key, signature_headers

DOCS: Final = Path(__file__).parents[2] / "docs"
CONTENT: Final = bytes(range(256)) * 40


def snippets(page: str) -> list[str]:
    """The blocks of Python on a page."""
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "checksums",
    [
        {"sha256": sha256(CONTENT)},
        {
            "sha256": None,
            "parts": [
                {"offset": 0, "bytes": 100, "sha256": sha256(CONTENT[:100])},
                {"offset": 100, "bytes": len(CONTENT) - 100, "sha256": sha256(CONTENT[100:])},
            ],
        },
    ],
)
def test_file_should_be_verified_by_its_manifest(tmp_path: Path, checksums: dict[str, Any]) -> None:
    (snippet,) = snippets("storage.md")
    file, manifest = tmp_path / "weekly.mp4", tmp_path / "weekly.json"
    described = {"name": file.name, "bytes": len(CONTENT), **checksums}
    manifest.write_text(json.dumps({"files": [described]}))

    def verified(content: bytes) -> bool:
        file.write_bytes(content)
        command = [sys.executable, "-c", snippet, str(file), str(manifest)]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0

    assert verified(CONTENT)
    assert not verified(CONTENT[:-1] + b"x")
    assert not verified(CONTENT + b"x")


def test_webhook_should_be_verified_by_either_signature(settings: Settings) -> None:
    by_secret, by_key = snippets("webhooks.md")
    key, secret, body = load_signing_key(settings), new_secret(), '{"event": "recording.statusUpdate"}'
    headers = signature_headers(key, secret, webhook_id="w", delivery_id="d", body=body, present=now())
    given = {"headers": headers, "public_key": key.public_pem}
    for snippet, error in ((by_secret, WebhookVerificationError), (by_key, InvalidSignature)):
        program = snippet.replace("whsec_…", secret)
        exec(program, given | {"body": body.encode()})
        with pytest.raises(error):
            exec(program, given | {"body": b"{}"})
