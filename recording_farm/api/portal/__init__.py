"""The portal: pages at `/` for people with an API key.

The server renders the pages, and they work without JavaScript. A script keeps them up to date, draws the play
head and copies text. The pages are a client of the API: they call its routes inside the process (see
`api.portal.client`) with the visitor's session. So a page has the rights of the visitor's key and no others,
rules and messages are the same everywhere, and the script changes nothing by itself. The browser opens the
event stream and the downloads with the same session. The pages implement what the API does not have: API
keys, nodes and RQ's dashboard.

Jinja2 escapes all text. The Content-Security-Policy allows only scripts and styles from `assets/`, and loads
nothing from other hosts.
"""

from pathlib import Path
from typing import Final

from starlette.routing import BaseRoute, Mount

from recording_farm.api.portal.dashboard import Dashboard
from recording_farm.api.portal.login import login_routes
from recording_farm.api.portal.meetings import meeting_page_routes
from recording_farm.api.portal.new_secret import secret_routes
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
    *meeting_page_routes,
    *settings_routes,
    *secret_routes,
    *storage_routes,
    *webhook_routes,
    *node_routes,
    Mount("/rq", app=Dashboard(), name="rq"),
    Mount(ASSETS_PATH, app=PageFiles(Path(__file__).parent / "assets"), name="portal-assets"),
]
