"""Imports go down only, in no circle; errors have one root a package; names in docs and docstrings exist."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from recording_farm.browser_bot.errors import BrowserBotError
from recording_farm.encoder.errors import MediaError
from recording_farm.farm.config.settings import Settings
from recording_farm.farm.errors import FarmError
from recording_farm.farm.jobs.time_limit import TimeLimitError
from recording_farm.farm.safe_http import BadCertificateError
from recording_farm.farm.storage.backends.answers import AnswerError
from recording_farm.layouts.errors import LayoutError

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = ROOT / "recording_farm"
TOPS: Final = ("farm", "api", "layouts", "browser_bot", "encoder")
"""The packages directly below `recording_farm`. Names of modules leave that out here."""

FLOORS: Final = {
    "farm": (
        "cli",
        "worker",
        "jobs",
        "live webhooks recovery",
        "progressive",
        "recorder telemetry",
        "pages evidence spool queues",
        "recording",
        "storage.check",
        "storage.store storage.presets storage.customer",
        "storage.backends",
        "storage",
        "credentials",
        "db nodes",
        "config",
        "host",
        "safe_http",
        "errors clock certificates notice",
    ),
    "api": (
        "__main__",
        "server",
        "app listener",
        "http_protocol",
        "portal docs routes",
        "cors file_response",
        "operations rules key_watch",
        "connections",
        "error_responses request_log",
        "auth",
        "context",
        "meeting services",
        "schema",
        "error_types",
        "http_errors static_files",
    ),
    "browser_bot": ("page", "stage", "network", "errors waiting", "redaction"),
    "encoder": ("cut live", "takes mux media", "journal", "formats errors atomic_file"),
}
"""The floors of each package, from the top: what is on one may import from those below it alone."""

BELOW: Final = {
    "farm": {"browser_bot", "encoder"},
    "api": {"farm", "browser_bot", "encoder"},
    "layouts": {"api", "farm", "browser_bot", "encoder"},
    "browser_bot": set[str](),
    "encoder": set[str](),
}
"""What each package may import besides itself."""

NOT_FOR_THE_API: Final = {"farm.cli", "farm.worker", "farm.jobs"}


class Arrow(NamedTuple):
    """A module that imports another one."""

    importer: str
    imported: str

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported}"


def modules() -> dict[str, Path]:
    found = {}
    for package in TOPS:
        for file in sorted((SOURCE / package).rglob("*.py")):
            parts = file.relative_to(SOURCE).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


MODULES: Final = modules()

BESIDE: Final = tuple(
    file
    for folder in ("testkit", "tests", "benchmarks", "chaos", "hostile", "compat")
    for file in sorted((ROOT / folder).rglob("*.py"))
    if not {".venv", "node_modules"} & set(file.relative_to(ROOT).parts)
)
"""What is in no package."""


def imported_by(file: Path) -> Iterator[str]:
    """The dotted names that a file imports: at its top, in functions and for type checkers."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.removeprefix("recording_farm.") for name in names)


def module_of(name: str) -> str:
    """The module that a dotted name of the project is, or is in; empty if it is none of ours."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


@cache
def arrows() -> list[Arrow]:
    """All imports of one module of the project by another."""
    return sorted(
        {
            Arrow(importer, module_of(name))
            for importer, file in MODULES.items()
            for name in imported_by(file)
            if module_of(name)
        }
    )


def package_of(module: str) -> str:
    return module.partition(".")[0]


def room_of(module: str) -> str:
    """The package below the top one that a module is in, or the module itself if it lies beside those."""
    return ".".join(module.split(".")[:2])


def floor_of(module: str) -> tuple[int, str]:
    """The number of the floor that a module is on, 0 being the top, and its room there."""
    package, _, rest = module.partition(".")
    rooms = [(number, room) for number, floor in enumerate(FLOORS[package]) for room in floor.split()]
    fitting = [(number, room) for number, room in rooms if f"{rest}.".startswith(f"{room}.")]
    assert fitting, f"{module} is on no floor: give it one here and in docs/architecture.md"
    return max(fitting, key=lambda found: len(found[1]))


@pytest.mark.parametrize("package", FLOORS)
def test_imports_should_go_down(package: str) -> None:
    wrong = []
    for arrow in arrows():
        if {package_of(arrow.importer), package_of(arrow.imported)} != {package} or package in arrow:
            continue
        (above, room), (below, other) = floor_of(arrow.importer), floor_of(arrow.imported)
        if room != other and below <= above:
            wrong.append(str(arrow))
    assert not wrong, "\n".join(wrong)


def test_packages_should_import_only_those_below() -> None:
    wrong = [
        str(arrow)
        for arrow in arrows()
        if package_of(arrow.imported) not in BELOW[package_of(arrow.importer)] | {package_of(arrow.importer)}
    ]
    assert not wrong, "\n".join(wrong)


def test_api_should_know_nothing_of_commands_workers_and_jobs() -> None:
    wrong = [
        str(arrow)
        for arrow in arrows()
        if package_of(arrow.importer) == "api" and room_of(arrow.imported) in NOT_FOR_THE_API
    ]
    assert not wrong, "\n".join(wrong)


def test_jobs_should_be_imported_by_their_entry_alone() -> None:
    entry = "farm.jobs.entry"
    jobs = {
        arrow.imported
        for arrow in arrows()
        if arrow.importer == entry and room_of(arrow.imported) == room_of(entry)
    }
    wrong = [str(arrow) for arrow in arrows() if arrow.imported in jobs and arrow.importer != entry]
    assert not wrong, "\n".join(wrong)


def test_packages_should_not_go_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for arrow in arrows():
        importer, imported = room_of(arrow.importer), room_of(arrow.imported)
        if importer != imported:
            graph.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"packages import each other: {' <- '.join(error.args[1])}")


NAME: Final = re.compile(rf"`(?:recording_farm\.)?((?:{'|'.join(TOPS)})(?:\.\w+)+)(?:\(\))?`")
FOLDERS: Final = (
    "recording_farm|farm|api|browser_bot|encoder|layouts"
    "|testkit|tests|benchmarks|chaos|hostile|compat|deploy|scripts"
)
FILE: Final = re.compile(rf"`((?:{FOLDERS})/[\w./-]*)`")
NO_NAMES: Final = {"farm.gap", "farm.yaml", "api.yaml"}
"""An event of the API's stream, and files of Kubernetes."""


def written() -> Iterator[tuple[str, str]]:
    """All texts in which names of modules and files stand, and where: docs, docstrings and comments."""
    pages = (ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md"))
    for file in (*pages, *MODULES.values(), *BESIDE):
        yield file.relative_to(ROOT).as_posix(), file.read_text()


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module = module_of(name)
    found: object = importlib.import_module(f"recording_farm.{module}")
    for part in name.removeprefix(module).split(".")[1:]:
        fields = {**getattr(found, "__annotations__", {}), **getattr(found, "model_fields", {})}
        if not hasattr(found, part) and part not in fields:
            return False
        found = getattr(found, part, None)
    return True


def test_names_in_docs_and_docstrings_should_exist() -> None:
    names = {(where, name) for where, text in written() for name in NAME.findall(text)}
    wrong = sorted(f"{where}: {name}" for where, name in names if name not in NO_NAMES and not exists(name))
    assert not wrong, "\n".join(wrong)


def test_files_in_docs_and_docstrings_should_exist() -> None:
    files = {(where, file) for where, text in written() for file in FILE.findall(text)}
    wrong = sorted(
        f"{where}: {file}"
        for where, file in files
        if not (ROOT / file).exists() and not (SOURCE / file).exists()
    )
    assert not wrong, "\n".join(wrong)


ROOTS: Final[dict[str, type[Exception]]] = {
    "farm": FarmError,
    "api": FarmError,
    "layouts": LayoutError,
    "browser_bot": BrowserBotError,
    "encoder": MediaError,
}
"""The root of each package's errors."""

APART: Final = {AnswerError, BadCertificateError, TimeLimitError}
"""An error of httpx, and two that `except Exception` must not catch; see `farm.errors.FarmError`."""


@pytest.mark.parametrize("package", ROOTS)
def test_errors_of_a_package_should_have_one_root_and_the_suffix(package: str) -> None:
    names = [name for name in MODULES if package_of(name) == package and not name.endswith("__main__")]
    errors = {
        found
        for module in (importlib.import_module(f"recording_farm.{name}") for name in names)
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, BaseException)
        and found.__module__.removeprefix("recording_farm.") in names
    }
    wrong = {error for error in errors - APART if not issubclass(error, ROOTS[package])}
    assert not wrong
    assert not {error for error in errors if not error.__name__.endswith("Error")}


def test_nothing_should_import_tests() -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (*MODULES.values(), *BESIDE)
        for name in imported_by(file)
        if name.startswith("tests.") or ".conftest." in name or ".test_" in name
    ]
    assert not wrong, "\n".join(wrong)


def test_tests_should_lie_where_their_module_does() -> None:
    """The tests of a package lie in a folder of its name, those of a module in a file of its name.

    A file may have the name of a module and more, as `test_records_listing.py`. What lies directly in the
    folder of a top package may test any of it.
    """
    names = MODULES.keys()
    wrong = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        top, *rooms = package = file.parent.relative_to(ROOT / "tests").parts or ("",)
        if top not in TOPS:
            continue
        room = ".".join(package)
        words = file.stem.removeprefix("test_").split("_")
        modules = {f"{room}.{'_'.join(words[:length])}" for length in range(1, len(words) + 1)}
        if room not in names or (rooms and not modules & names):
            wrong.append(str(file.relative_to(ROOT)))
    assert not wrong, "\n".join(wrong)


ARCHITECTURE: Final = (ROOT / "docs" / "architecture.md").read_text()


def mapped() -> set[str]:
    """The modules on the map in docs/architecture.md: a chapter a top package, a row a module or two."""
    found = set()
    _, _, chapters = ARCHITECTURE.partition("## Where things are")
    for chapter in chapters.split("\n### ")[1:6]:
        top, room = chapter.split()[0], ""
        for package, names in re.findall(r"^\|(.*?)\|(.*?)\|", chapter, flags=re.MULTILINE):
            room = package.strip(" `/") or room
            prefix = top if room == "beside" else f"{top}.{room.replace('/', '.')}"
            found |= {f"{prefix}.{name}" for name in re.findall(r"`(\w+)`", names)}
    return found


def test_map_should_have_each_module_and_no_other() -> None:
    wanted = {name for name, file in MODULES.items() if file.name not in {"__init__.py", "__main__.py"}}
    assert sorted(mapped() ^ wanted) == []


def test_each_setting_should_have_its_module_on_the_map() -> None:
    table = ARCHITECTURE.partition("### Who keeps which setting")[2].partition("\n## ")[0]
    assert set(re.findall(r"FARM_\w+", table)) == {f"FARM_{name.upper()}" for name in Settings.model_fields}
