"""The suite in `suite.yaml`: named states of pages, how to picture and how to compare each."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    StringConstraints,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from recording_farm.layouts.errors import BadSuiteError
from recording_farm.layouts.pictures import Box
from recording_farm.layouts.suite_faults import in_words, own_faults

SUITE_FILE = "suite.yaml"
MAX_BYTES = 1 << 20
MAX_FAULTS = 10


@dataclass(frozen=True)
class Viewport:
    """The size of a picture in pixels, as recordings can have it: even sides from 16 to 1920."""

    width: int
    height: int

    def __str__(self) -> str:
        """`1280x720`."""
        return f"{self.width}x{self.height}"


def _viewport(value: object) -> object:
    if isinstance(value, Viewport):
        return value
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(value))
    if match is None:
        raise ValueError("must be a size like 1280x720")
    width, height = int(match[1]), int(match[2])
    if any(side % 2 or not 16 <= side <= 1920 for side in (width, height)):
        raise ValueError("width and height must be even, from 16 to 1920")
    return Viewport(width, height)


@dataclass(frozen=True)
class Tolerance:
    """How many pixels of a picture may differ: a number, or a share of all."""

    pixels: int = 0
    share: float = 0.0

    def of(self, pixels: int) -> int:
        """The number of pixels that may differ in a picture of so many."""
        return max(self.pixels, int(self.share * pixels))


def _tolerance(value: object) -> object:
    if isinstance(value, Tolerance):
        return value
    match = re.fullmatch(r"(\d{1,9})|(\d{1,3}(?:\.\d{1,6})?) ?%", str(value))
    if match is None or (match[2] and float(match[2]) > 100):
        raise ValueError("must be a number of pixels (20) or a share of them (0.1%)")
    return Tolerance(int(match[1])) if match[1] else Tolerance(share=float(match[2]) / 100)


Mask = Annotated[
    Annotated[str, StringConstraints(min_length=1), Tag("selector")] | Annotated[Box, Tag("box")],
    Discriminator(lambda value: "selector" if isinstance(value, str) else "box"),
]
"""Moving parts that are not compared: elements by a CSS selector, or a box of the picture in pixels."""

AS_TEXT = PlainSerializer(str)


class Settings(BaseModel):
    """Settings of the whole suite, which each state can override."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    viewport: Annotated[Viewport, BeforeValidator(_viewport), AS_TEXT] = Viewport(1280, 720)
    contract: Literal["plain", "console"] = "plain"
    """When the page is ready: loaded, or when it prints START_RECORDING."""
    color_scheme: Literal["light", "dark"] = "light"
    """The preferred color scheme that the page sees."""
    masks: tuple[Mask, ...] = ()
    tolerance: Annotated[Tolerance, BeforeValidator(_tolerance)] = Tolerance()
    threshold: float = Field(default=0.005, ge=0, le=1)
    """How far a pixel's color may be from the baseline's: 0 is the same, 1 is black for white.

    Pictures of text, gradients, canvas and WebGL are identical on one machine (30 of each, from 5 stages).
    The default allows one step of 255 in a channel, for processors that round differently."""


class State(Settings):
    """One layout: a page, how it gets into the state, and its name, which is also its baseline's."""

    # It is a file's name: no separators, no leading dot, nothing special to a shell or in HTML.
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    url: str | None = Field(default=None, min_length=1)
    """An http, https or file address; a relative one is a file beside the suite."""
    meeting: str | None = None
    """A page of the built-in meeting instead: the address after `/meet/`."""
    wait_for: str | None = Field(default=None, min_length=1)
    """A CSS selector; the page is ready when such an element is visible."""
    script: str = ""
    """JavaScript to run in the ready page; it may await."""

    @model_validator(mode="after")
    def _has_one_page(self) -> Self:
        if (self.url is None) == (self.meeting is None):
            raise ValueError("a state needs either url or meeting")
        try:
            scheme = urlsplit(self.url or "").scheme
        except ValueError:
            raise ValueError("url is not a valid address") from None
        if scheme not in ("", "http", "https", "file"):
            raise ValueError("url must be http, https or file, or a file beside the suite")
        return self

    def address(self, directory: Path, meetings: str) -> str:
        """The page's address, for a suite in `directory` and built-in meetings at `meetings`."""
        if self.meeting is not None:
            return meetings + self.meeting
        assert self.url is not None
        # Not urljoin: for it, "//host" in a file's name is another host.
        return self.url if urlsplit(self.url).scheme else f"{directory.absolute().as_uri()}/{self.url}"

    def __str__(self) -> str:
        """Its page without what may be secret."""
        if self.meeting is not None:
            return f"meeting {self.meeting}"
        return shown_address(self.url or "")


def shown_address(url: str) -> str:
    """An address without credentials, query and fragment, which may hold secrets; `data:` for a data URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address"
    if parts.scheme == "data":
        return "data:"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


class Suite(Settings):
    """Named states, in the order of the file."""

    time: AwareDatetime = datetime(2026, 1, 15, 10, 0, tzinfo=UTC)
    """The time on every page."""
    states: tuple[State, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_each_name_once(self) -> Self:
        # Also on file systems that do not tell A from a.
        counts = Counter(state.name.lower() for state in self.states)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"several states are named {', '.join(twice)}")
        return self

    def chosen(self, names: Collection[str]) -> tuple[State, ...]:
        """The states of these names, or all without names. Raises BadSuiteError for an unknown name."""
        if unknown := sorted(set(names) - {state.name for state in self.states}):
            raise BadSuiteError(f"the suite has no state {', '.join(unknown)}")
        return tuple(state for state in self.states if not names or state.name in names)


KNOWN = {False: tuple(Suite.model_fields), True: tuple(State.model_fields)}
"""Fields of a suite, and of its states."""


def state_of(fields: Mapping[str, object]) -> State:
    """A state of these fields. Raises BadSuiteError, with a line for each fault."""
    try:
        return State.model_validate(fields)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'layout_snapshot'}: "
            f"{in_words({**fault, 'loc': ('states', 0, *fault['loc'])}, KNOWN)}"
            for fault in own_faults(error.errors())
        ]
        raise BadSuiteError("\n".join(faults[:MAX_FAULTS])) from error


def load_suite(directory: Path) -> Suite:
    """Read the suite in `directory`. Raises BadSuiteError."""
    file = directory / SUITE_FILE
    try:
        with file.open("rb") as source:
            text = source.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadSuiteError(f"{file} cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise BadSuiteError(f"{file} has more than {MAX_BYTES} bytes")
    return read_suite(text, str(file))


def read_suite(text: bytes, file: str) -> Suite:
    """Read a suite; `file` is its name in messages. Raises BadSuiteError."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            content = loader.construct_document(node) if node else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadSuiteError(f"{file}:{line}: {error.problem or 'not valid YAML'}") from error
    except (yaml.YAMLError, UnicodeError, ValueError, RecursionError) as error:
        raise BadSuiteError(f"{file}: not valid YAML: {str(error).splitlines()[0][:200]}") from error
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        faults = [_fault(file, node, fault) for fault in own_faults(error.errors())]
        raise BadSuiteError("\n".join(faults[:MAX_FAULTS])) from error
    return suite.model_copy(update={"states": tuple(_inherited(state, suite) for state in suite.states)})


def _inherited(state: State, suite: Suite) -> State:
    """The state with what the suite says where the state says nothing."""
    silent = Settings.model_fields.keys() - state.model_fields_set
    return state.model_copy(update={name: getattr(suite, name) for name in silent})


def _fault(file: str, root: yaml.Node | None, fault: ErrorDetails) -> str:
    line, field = _place(root, fault["loc"])
    return f"{file}:{line}: {field + ': ' if field else ''}{in_words(fault, KNOWN)}"


def _place(node: Any, location: Sequence[int | str]) -> tuple[int, str]:
    """The line in the file and the field's path for pydantic's `location`."""
    line, path = node.start_mark.line + 1 if node else 1, []
    for key in location:
        path.append(key)  # and removed again if it is the tag of a kind of mask, which is not in the file
        if isinstance(node, yaml.MappingNode):
            found = [(name, value) for name, value in node.value if name.value == key]
            if found:
                name, node = found[-1]
                line = name.start_mark.line + 1
            elif key == "box":
                path.pop()
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        elif key in ("selector", "box"):
            path.pop()
    return line, ".".join(map(str, path))
