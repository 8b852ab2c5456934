"""HTTP server of a node at FARM_NODE_PORT: /metrics and /healthz. A process of `farm worker`."""

import json
import logging
import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import redis
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from recording_farm.farm.config.settings import Settings, is_loopback
from recording_farm.farm.db.clients import connect
from recording_farm.farm.db.faults import fault_of
from recording_farm.farm.host.processes import stop_event
from recording_farm.farm.telemetry.metrics import NodeCollector, may_read

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

logger = logging.getLogger(__name__)

_REQUEST_SECONDS: Final = 10.0
"""Time of a connection: for a client to send its request and to read the response."""

_WAIT_SECONDS: Final = 5.0
"""Time-out of each read and write in it."""

_MAX_CONNECTIONS: Final = 16
"""At the same time; further ones are closed. Prometheus and a kubelet need one each."""

_JSON: Final = "application/json"


def run_node_server(settings: Settings) -> None:
    """Serve until SIGTERM. Raises OSError when the port is taken."""
    assert settings.node_port is not None
    stopping = stop_event()
    with connect(settings.redis_address, retries=0) as client:
        app = NodeApp(settings, client)
        server_class = _Server6 if ":" in settings.node_host else _Server
        with make_server(settings.node_host, settings.node_port, app, server_class, _Handler) as server:
            serving = threading.Thread(target=server.serve_forever, daemon=True)
            serving.start()
            stopping.wait()
            server.shutdown()


class NodeApp:
    """The WSGI application."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        """`client` comes from `farm.db.clients.connect`."""
        self._settings = settings
        self._redis = client
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(settings))

    def __call__(self, environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
        """Answer one request."""
        status, content_type, body = self._answer(environ)
        start(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, environ: "WSGIEnvironment") -> tuple[str, str, bytes]:
        if environ["REQUEST_METHOD"] != "GET":
            return "405 Method Not Allowed", _JSON, b"{}"
        match environ["PATH_INFO"]:
            case "/healthz":
                return self._health()
            case "/metrics" if self._may_read(environ.get("HTTP_AUTHORIZATION")):
                return "200 OK", CONTENT_TYPE_LATEST, generate_latest(self._registry)
            case "/metrics":
                return "401 Unauthorized", _JSON, b'{"error": "send the FARM_METRICS_TOKEN as Bearer token"}'
            case _:
                return "404 Not Found", _JSON, b"{}"

    def _may_read(self, authorization: str | None) -> bool:
        if self._settings.metrics_token is None:
            return is_loopback(self._settings.node_host)
        return may_read(self._settings, authorization)

    def _health(self) -> tuple[str, str, bytes]:
        try:
            self._redis.ping()
        except redis.ResponseError as error:
            # Redis answers. A node whose Redis is full keeps recording and must not be restarted.
            return "200 OK", _JSON, json.dumps({"redis": fault_of(error)}).encode()
        except redis.RedisError:
            return "503 Service Unavailable", _JSON, json.dumps({"redis": "away"}).encode()
        return "200 OK", _JSON, json.dumps({"redis": "ready"}).encode()


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each connection; one that is slow is closed, by a timer, in whatever it waits for."""

    daemon_threads = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        def end() -> None:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(_REQUEST_SECONDS, end)
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._places.release()


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _WAIT_SECONDS

    def address_string(self) -> str:
        """The client's address, without a reverse DNS lookup."""
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server calls it so
        logger.debug(format, *args)
