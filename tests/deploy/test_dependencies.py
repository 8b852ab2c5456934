"""The declared dependencies are all that the package imports; else it breaks outside of this checkout."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = "recording_farm"
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

NOT_REQUIRED: Final = {
    "pytest",  # imports the plugin of the layouts itself
    *(f"opentelemetry-{name}" for name in ("api", "sdk", "exporter-otlp-proto-http")),  # extra: otel
}


def canonical(requirement: str) -> str:
    """The name of a requirement, as package indexes compare it."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def imported(tree: ast.Module) -> Iterator[str]:
    """The top-level modules that run-time code imports; not those under TYPE_CHECKING."""
    for_types = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (each.name.partition(".")[0] for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_each_imported_package_should_be_a_dependency() -> None:
    declared = {canonical(each) for each in PROJECT["dependencies"]} | NOT_REQUIRED
    known = packages_distributions()
    missing = {
        f"{file.relative_to(ROOT)}: {module}"
        for file in (ROOT / PACKAGE).rglob("*.py")
        for module in imported(ast.parse(file.read_text()))
        if module not in {PACKAGE, *sys.stdlib_module_names}
        and not {canonical(each) for each in known.get(module, ())} & declared
    }
    assert not missing, "\n".join(sorted(missing))


@pytest.mark.parametrize("lock", ["requirements.lock", "deploy/requirements.lock"])
def test_lock_should_have_each_dependency(lock: str) -> None:
    locked = {
        canonical(each) for each in re.findall(r"^[a-z0-9.-]+(?===)", (ROOT / lock).read_text(), re.MULTILINE)
    }
    assert not {canonical(each) for each in PROJECT["dependencies"]} - locked
