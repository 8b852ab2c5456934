"""The pytest fixture `layout_snapshot`: checks the layout of a page in any project's tests.

pytest loads this module in each run, so it imports everything else when a test uses the fixture.
"""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from recording_farm.layouts.suite import State

    TakePicture = Callable[[State, str], Picture]

APPROVE = "--layouts-approve"


class LayoutSnapshot(Protocol):
    """The value of the fixture."""

    def __call__(self, url: str, name: str | None = None, **state: Any) -> None:
        """Picture the page at `url` and compare it with `baseline/NAME.png` beside the test's file.

        The default name is the test's. `state` has the fields of a suite's state: viewport, color_scheme,
        masks, script, wait_for, contract, tolerance, threshold. Fails the test if the picture differs or has
        no baseline; with --layouts-approve it becomes the baseline instead. Warns of masks that match nothing
        and of parts of the page that did not load.
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --layouts-approve."""
    group = parser.getgroup("layouts")
    group.addoption(APPROVE, action="store_true", help="save the pictures of layout_snapshot as baselines")


@pytest.fixture(scope="module")
def _layout_picture() -> Iterator[TakePicture]:
    """Pictures states, in a thread of its own, on one stage for each viewport until the module's end."""
    from anyio.from_thread import start_blocking_portal

    from recording_farm.farm.config.settings import load_settings
    from recording_farm.farm.host.ca_file import nss_database
    from recording_farm.layouts.render import Renderer, open_renderer
    from recording_farm.layouts.suite import Suite, Viewport

    time = Suite.model_fields["time"].default
    renderers: dict[Viewport, Renderer] = {}
    with start_blocking_portal() as portal, ExitStack() as stages:

        def picture(state: State, address: str) -> Picture:
            if state.viewport not in renderers:
                settings = load_settings()
                authorities = nss_database(settings.ca_file, settings.data_dir)
                opening = open_renderer(
                    state.viewport, time, chromium=settings.chromium, authorities=authorities
                )
                renderers[state.viewport] = stages.enter_context(portal.wrap_async_context_manager(opening))
            return portal.call(renderers[state.viewport].picture, state, address)

        yield picture


@pytest.fixture
def layout_snapshot(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    _layout_picture: TakePicture,
) -> LayoutSnapshot:
    """Compare a page's layout with its baseline; see LayoutSnapshot.

    It blocks, so another thread or process than the test's must serve the page.
    """
    return partial(_snapshot, request, tmp_path, _layout_picture)


def _snapshot(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    take: TakePicture,
    url: str,
    name: str | None = None,
    **fields: Any,
) -> None:
    from recording_farm.layouts.check import Outcome, baseline_file, judge, noted
    from recording_farm.layouts.pictures import write_png
    from recording_farm.layouts.report import write_report
    from recording_farm.layouts.suite import state_of

    directory = request.path.parent
    state = state_of({"name": name or _name(request.node.name), "url": url, **fields})
    picture = take(state, state.address(directory, ""))
    checked = noted(judge(directory, state, picture))
    for mask in checked.idle_masks:
        warnings.warn(f"{state.name}: the mask {mask!r} matches nothing on the page", stacklevel=2)
    for fault in checked.warnings:
        warnings.warn(f"{state.name}: {fault}", stacklevel=2)
    if checked.outcome is Outcome.SAME:
        return
    file = baseline_file(directory, state.name)
    if request.config.getoption(APPROVE):
        write_png(picture, file)
        return
    approve = shlex.join(["pytest", APPROVE, request.node.nodeid])
    index = write_report(tmp_path / "layouts", f"Layout of {request.node.nodeid}", [checked], approve=approve)
    pytest.fail(
        f"{state.name}: {checked.message}\nreport: {index}\nto make it the baseline {file}: {approve}",
        pytrace=False,
    )


def _name(test: str) -> str:
    """A test's name as a state's: `test_page[dark mode]` is `test_page-dark-mode`."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", test).strip("-")[:100]
