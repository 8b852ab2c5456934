"""The page at `/`: what this is, and where the API lives. The portal proper comes later."""

import base64
import hashlib
from typing import Final

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 4rem auto; padding: 0 1rem }
body { color: #1c2430; background: #fff }
code { background: #eef1f5; padding: .1em .3em; border-radius: 3px }
@media (prefers-color-scheme: dark) {
  body { background: #14181f; color: #dde3ea }
  code { background: #242b36 }
  a { color: #8ab4f8 }
}
"""

_PAGE: Final = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Recording Farm</title>
<style>{_STYLE}</style>
<h1>Recording Farm</h1>
<p>This server records web meetings: it opens a meeting's page in a real browser and keeps what it shows and
plays as a video file.</p>
<p>Recordings are started and stopped through the API at <code>/v2/recordings</code>, with an organisation and
its API key as Basic credentials; <a href="/docs"><code>/docs</code></a> shows all of it.
<a href="/healthz"><code>/healthz</code></a> says whether the farm is ready,
at <a href="/meet/demo"><code>/meet/demo</code></a> there is a synthetic meeting to try it on, and at
<code>/meet/</code> followed by any name one for people.</p>
</html>
"""

_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


async def _portal(_request: Request) -> Response:
    return HTMLResponse(_PAGE, headers=_HEADERS)


portal_routes: list[BaseRoute] = [Route("/", _portal, methods=["GET"])]
