"""Static files of the API's pages: scripts, style sheets, images."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class PageFiles(StaticFiles):
    """Public files, with the headers of their page."""

    def __init__(
        self,
        directory: Path,
        headers: Mapping[str, str] = MappingProxyType({}),
        packages: list[str | tuple[str, str]] | None = None,
    ) -> None:
        """`packages` are directories of installed packages to search too."""
        super().__init__(directory=directory, packages=packages)
        self._headers = headers

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The response with a file, or a 304."""
        response = await super().get_response(path, scope)
        if path.endswith(".js"):
            # The system's media types may lack scripts, which "nosniff" would then block.
            response.headers["Content-Type"] = "text/javascript; charset=utf-8"
        response.headers["X-Content-Type-Options"] = "nosniff"
        # Cached but always revalidated, so that an upgrade takes effect at once.
        response.headers["Cache-Control"] = "no-cache"
        response.headers.update(self._headers)
        return response
