"""Writes an SBOM (CycloneDX 1.5, JSON) of the Python and Debian packages where it runs, to standard output.

It needs nothing but Python and dpkg-query, and no network, so it runs inside the image as it is:

    docker run --rm -i --entrypoint python recording-farm - < deploy/sbom.py > sbom.json
"""

import json
import platform
import re
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions, version
from typing import Any
from urllib.parse import quote

FORMAT = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\n"


def component(kind: str, purl: str, name: str, number: str, **more: Any) -> dict[str, Any]:
    """A part, known by its package URL."""
    return {"type": kind, "bom-ref": purl, "name": name, "version": number, "purl": purl} | more


def python_component(distribution: Distribution) -> dict[str, Any]:
    """A package of Python, with its license if it is stated as an SPDX expression."""
    name, number = distribution.metadata["Name"], distribution.version
    license_of = distribution.metadata.get("License-Expression")
    more = {"licenses": [{"expression": license_of}]} if license_of else {}
    purl_name = re.sub(r"[-_.]+", "-", name).lower()
    return component("library", f"pkg:pypi/{purl_name}@{quote(number)}", name, number, **more)


def debian_components() -> list[dict[str, Any]]:
    """The installed packages of Debian, each with its source package, by which advisories name it."""
    listed = subprocess.run(["dpkg-query", "-W", "-f", FORMAT], check=True, capture_output=True, text=True)
    release = platform.freedesktop_os_release()
    distro = f"{release['ID']}-{release.get('VERSION_ID', 'testing')}"
    found = []
    for line in listed.stdout.splitlines():
        status, name, number, architecture, source = line.split("\t")
        if status == "installed":
            place = f"pkg:deb/{release['ID']}/{quote(name)}@{quote(number)}"
            purl = f"{place}?arch={architecture}&distro={quote(distro)}"
            properties = [{"name": "debian:source", "value": source}]
            found.append(component("library", purl, name, number, properties=properties))
    return found


def sbom() -> dict[str, Any]:
    """The whole document; the farm itself is its subject."""
    farm = "recording-farm"
    packages = {part["bom-ref"]: part for part in map(python_component, distributions())}
    packages |= {part["bom-ref"]: part for part in debian_components()}
    itself = packages.pop(f"pkg:pypi/{farm}@{quote(version(farm))}") | {"type": "application"}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "component": itself,
        },
        "components": [packages[reference] for reference in sorted(packages)],
    }


if __name__ == "__main__":
    json.dump(sbom(), sys.stdout, indent=2)
    print()
