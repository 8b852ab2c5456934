"""The files of the API's pages: scripts, style sheets, pictures."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class PageFiles(StaticFiles):
    """Files that anybody may load, with headers of the page that they belong to."""

    def __init__(
        self,
        directory: Path,
        headers: Mapping[str, str] = MappingProxyType({}),
        packages: list[str | tuple[str, str]] | None = None,
    ) -> None:
        """`packages` are folders of installed packages, in which files are looked for too."""
        super().__init__(directory=directory, packages=packages)
        self._headers = headers

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or a 304 when the browser has it already."""
        response = await super().get_response(path, scope)
        if path.endswith(".js"):
            # The system's own table of media types may not know scripts; "nosniff" would then refuse them.
            response.headers["Content-Type"] = "text/javascript; charset=utf-8"
        response.headers["X-Content-Type-Options"] = "nosniff"
        # Kept by the browser but asked for again each time, so a new version of the farm is seen at once.
        response.headers["Cache-Control"] = "no-cache"
        response.headers.update(self._headers)
        return response
