"""Cloudflare's TypeScript SDK drives the farm, and all answers are what its types say."""

import json
from typing import Any

import pytest
from jsonschema import Draft7Validator

from compat.programs import NODE_MODULES, node
from testkit.running_farm import RunningFarm


@pytest.fixture(scope="module")
def answers(farm: RunningFarm) -> dict[str, Any]:
    """The answers that the program got, each under the name of its type in `cloudflare-types.ts`."""
    node("npx", "tsc", "-p", ".")
    out = NODE_MODULES / ".compiled"
    node("npx", "tsc", "-p", ".", "--noEmit", "false", "--outDir", str(out))
    program = str(out / "cloudflare-program.js")
    printed = node("node", program, BASE_URL=f"{farm.address}/client/v4", KEY="key")
    return dict(json.loads(printed))


def schema() -> Any:
    made = node(
        *("npx", "ts-json-schema-generator", "--path", "cloudflare-types.ts", "--tsconfig", "tsconfig.json"),
        "--additional-properties",
    )
    return json.loads(made)


def test_recording_should_be_made(answers: dict[str, Any]) -> None:
    assert answers["Started"][0]["data"]["status"] == "INVOKED"
    assert [answer["data"]["status"] for answer in answers["Ordered"]] == ["PAUSED", "RECORDING", "UPLOADING"]
    assert answers["One"][-1]["data"]["status"] == "UPLOADED"
    assert answers["Listed"][0]["paging"]["total_count"] >= 1


def test_every_answer_should_be_of_its_type(answers: dict[str, Any]) -> None:
    types = schema()
    for name, received in answers.items():
        assert received, name
        wanted = {**types, "$ref": f"#/definitions/{name}"}
        for answer in received:
            problems = [
                f"{name}.{'.'.join(map(str, error.path))}: {error.message}"
                for error in Draft7Validator(wanted).iter_errors(answer)
            ]
            assert problems == []
