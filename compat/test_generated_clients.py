"""Clients that generators make of `/openapi.json` start recordings."""

import json
import subprocess
from pathlib import Path

from compat.programs import HERE, NODE_MODULES, node
from testkit.running_farm import RunningFarm

PYTHON = HERE / ".venv/bin/python"
PROGRAM = """
import json, sys
from farm_client import AuthenticatedClient
from farm_client.api.recordings import pause_resume_stop_recording, start_recording
from farm_client.models import Command, ControlRecording, StartRecording, VideoConfig

with AuthenticatedClient(base_url=sys.argv[1], token="key", raise_on_unexpected_status=True) as client:
    wanted = StartRecording(meeting_id="generated", video_config=VideoConfig(width=320, height=180))
    started = start_recording.sync(client=client, body=wanted)
    stopped = pause_resume_stop_recording.sync(
        started.data.id, client=client, body=ControlRecording(action=Command.STOP)
    )
    wrong = StartRecording(meeting_id="generated", max_seconds=0)
    refused = start_recording.sync(client=client, body=wrong)
    data = started.data
    print(json.dumps([data.status.value, data.meeting_id, str(stopped.data.id), refused.error.message]))
"""


def test_client_of_openapi_python_client_should_have_every_operation(
    farm: RunningFarm, tmp_path: Path
) -> None:
    document = farm.client.get("/openapi.json")
    (tmp_path / "openapi.json").write_bytes(document.content)
    generator = HERE / ".venv/bin/openapi-python-client"
    arguments = ["generate", "--path", "openapi.json", "--output-path", "farm_client", "--meta", "none"]
    generated = subprocess.run(
        [generator, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    # Files are read by other means; the generator says so and makes all the rest of those operations.
    told = [line for line in generated.stdout.splitlines() if line.startswith(("WARNING", "ERROR", "Unable"))]
    assert [line for line in told if not line.split()[3].endswith(("evidence", "{name}", "live.jpg"))] == []
    ids = {
        operation["operationId"]
        for path in document.json()["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict)
    }
    modules = {file.stem for file in tmp_path.glob("farm_client/api/*/*.py")}
    assert ids - modules == set()
    done = subprocess.run(
        [PYTHON, "-c", PROGRAM, farm.address],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status, meeting_id, recording_id, message = json.loads(done.stdout)
    assert (status, meeting_id) == ("INVOKED", "generated")
    assert farm.client.get(f"/v2/recordings/{recording_id}").status_code == 200
    assert message == '"max_seconds": must be 1 to 86400'


def test_types_of_openapi_typescript_should_compile_and_start_a_recording(farm: RunningFarm) -> None:
    built = NODE_MODULES / ".generated"
    built.mkdir(exist_ok=True)
    (built / "openapi.json").write_bytes(farm.client.get("/openapi.json").content)
    node("npx", "openapi-typescript", str(built / "openapi.json"), "-o", str(built / "farm.ts"))
    (built / "program.ts").write_text((HERE / "openapi-program.ts").read_text())
    options = ["--strict", "--exactOptionalPropertyTypes", "--target", "es2022", "--module", "nodenext"]
    node("npx", "tsc", *options, "--types", "node", "--outDir", str(built), str(built / "program.ts"))
    printed = node("node", str(built / "program.js"), BASE_URL=farm.address, KEY="key")
    assert json.loads(printed) == ["INVOKED", "typed", '"max_seconds": must be 1 to 86400']
