"""The files of the portal's pages: one style sheet, one script, one icon."""

from pathlib import Path
from typing import Final

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

ASSETS_PATH: Final = "/portal-assets"


class Assets(StaticFiles):
    """The files, which anybody may see."""

    def __init__(self) -> None:
        """Those beside this module."""
        super().__init__(directory=Path(__file__).parent / "assets")

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file."""
        response = await super().get_response(path, scope)
        if path.endswith(".js"):
            # The system's own table of media types may not know scripts; "nosniff" would then refuse them.
            response.headers["Content-Type"] = "text/javascript; charset=utf-8"
        response.headers["X-Content-Type-Options"] = "nosniff"
        # Kept by the browser but asked for again each time, so a new version of the farm is seen at once.
        response.headers["Cache-Control"] = "no-cache"
        return response
