"""The SBOM names what is installed."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "sbom.py"


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="this is not Debian")
def test_sbom_should_name_what_is_installed() -> None:
    # As in a container: the script comes by standard input.
    done = subprocess.run(
        [sys.executable, "-"], input=SCRIPT.read_bytes(), capture_output=True, timeout=60, check=True
    )
    bom = json.loads(done.stdout)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.5")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", bom["serialNumber"])
    assert bom["metadata"]["component"]["purl"] == f"pkg:pypi/recording-farm@{version('recording-farm')}"
    parts = {part["bom-ref"]: part for part in bom["components"]}
    assert len(parts) == len(bom["components"])
    assert all(re.fullmatch(r"pkg:(pypi|deb/\w+)/[^@]+@\S+", reference) for reference in parts)
    assert parts[f"pkg:pypi/playwright@{version('playwright')}"]["name"] == "playwright"
    dash = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "dash"], capture_output=True, text=True, check=True
    )
    assert dash.stdout in {part["version"] for part in bom["components"] if part["name"] == "dash"}
