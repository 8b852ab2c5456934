"""What stands for Google's own server of access tokens, which the storage's emulator has not."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


class _Tokens(BaseHTTPRequestHandler):
    accepts = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        answer = {"access_token": "token", "expires_in": 3600} if self.accepts else {"error": "invalid_grant"}
        body = json.dumps(answer).encode()
        self.send_response(200 if self.accepts else 400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _NoTokens(_Tokens):
    accepts = False


@contextmanager
def token_server(*, accepts: bool) -> Iterator[str]:
    """The URL of a server that gives everybody a token, or nobody."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Tokens if accepts else _NoTokens) as server:
        runner = threading.Thread(target=server.serve_forever)
        runner.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token"
        finally:
            server.shutdown()
            runner.join()


def service_account() -> str:
    """The key of a service account as Google gives it, with an address of its writer's own for tokens."""
    key = generate_private_key(65537, 2048)
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "tests",
            "private_key_id": "1",
            "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
            "client_email": "farm@tests.iam.gserviceaccount.com",
            "token_uri": "http://127.0.0.1:9/not-asked",
        }
    )
