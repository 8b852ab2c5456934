"""No program of the farm starts another one with an environment that nobody has looked at."""

import ast
from collections.abc import Iterator
from pathlib import Path

import recording_farm

_STARTS = {"create_subprocess_exec", "create_subprocess_shell", "Popen", "run", "check_output", "check_call"}


def _starts_without_environment(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        of = ast.unparse(node.func.value)
        if of in {"subprocess", "asyncio"} and node.func.attr in _STARTS:
            if of == "asyncio" and node.func.attr == "run":
                continue
            if "env" not in {keyword.arg for keyword in node.keywords}:
                yield f"{module}:{node.lineno}"


def test_each_child_should_get_an_environment_of_its_own() -> None:
    package = Path(recording_farm.__file__).parent
    found = [place for module in package.rglob("*.py") for place in _starts_without_environment(module)]
    assert not found, f"started without env=child_environment(): {found}"
