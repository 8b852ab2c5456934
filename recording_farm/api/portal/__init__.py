"""The portal: pages for people with an API key, at `/`.

The pages are rendered here, on the server, and work without JavaScript; a script that there is besides keeps
them up to date and draws the play head. They are a client of the API like any other: what they show and do is
asked of the same routes, inside the process (see `api.portal.client`), with the visitor's own session. So a
page can show and do nothing that the visitor's key cannot, there is one set of rules and messages, and the
browser's script needs no way of its own to change something. The same session opens the event stream and the
downloads, which the browser asks for itself. What the API does not have (keys, nodes, RQ's dashboard) the
pages do on their own.

All text goes through Jinja2's autoescaping, and the Content-Security-Policy lets no code run but the files in
`assets/`, no style but theirs, and nothing come from elsewhere.
"""

from pathlib import Path
from typing import Final

from starlette.routing import BaseRoute, Mount

from recording_farm.api.portal.dashboard import Dashboard
from recording_farm.api.portal.login import login_routes
from recording_farm.api.portal.nodes import node_routes
from recording_farm.api.portal.page import ASSETS_PATH
from recording_farm.api.portal.recording import recording_page_routes
from recording_farm.api.portal.recordings import recordings_routes
from recording_farm.api.portal.settings import settings_routes
from recording_farm.api.portal.storage import storage_routes
from recording_farm.api.portal.webhooks import webhook_routes
from recording_farm.api.static_files import PageFiles

portal_routes: Final[list[BaseRoute]] = [
    *login_routes,
    *recordings_routes,
    *recording_page_routes,
    *settings_routes,
    *storage_routes,
    *webhook_routes,
    *node_routes,
    Mount("/rq", app=Dashboard(), name="rq"),
    Mount(ASSETS_PATH, app=PageFiles(Path(__file__).parent / "assets"), name="portal-assets"),
]
