"""Receives webhooks and verifies their Standard Webhooks signature: pip install standardwebhooks.

WEBHOOK_SECRET=whsec_… python verify_webhook.py 9000
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


HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
