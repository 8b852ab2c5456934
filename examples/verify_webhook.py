"""Receives webhooks and verifies their Standard Webhooks signature: pip install standardwebhooks.

WEBHOOK_SECRET=whsec_… python verify_webhook.py [PORT]
"""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])  # from the answer of POST /v2/webhooks


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            event = webhook.verify(body, dict(self.headers))  # the raw body, before it is parsed
            print(event["recording"]["id"], event["recording"]["status"], flush=True)
            self.send_response(200)
        except WebhookVerificationError:
            self.send_response(401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass  # without a line for each request


port = int(sys.argv[1]) if sys.argv[1:] else 9000
HTTPServer(("127.0.0.1", port), Receiver).serve_forever()
