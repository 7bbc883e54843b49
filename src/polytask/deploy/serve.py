"""A trained network over HTTP: images in, each task's answers as JSON out.

    GET  /tasks                     {"tasks": {TASK: {"kind": …, "classes": […]}}}
    POST /predict[?task=TASK…]      the bytes of an image file -> {"answers": {TASK: …}}

Errors are {"error": one line} with status 400 (the input is wrong), 403, 404 or 413. The
standard library's server is enough for one network: it answers one image at a time.
"""

from __future__ import annotations

import errno
import json
import socket
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from polytask.errors import UserError

if TYPE_CHECKING:
    from polytask.deploy.model import Model

MOST_BYTES = 64 << 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Server(ThreadingHTTPServer):
    """Serves a model and, where one is given, a page at `/`.

    Bound to a loopback address it answers requests made to one alone, so that no page of another
    site reaches it under a name that leads here.
    """

    daemon_threads = True

    def __init__(self, model: Model, host: str, port: int, page: bytes | None = None) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        self.host, self.is_local = f"[{host}]" if ":" in host else host, host in LOOPBACK
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError, UnicodeError) as error:
            option = "--host" if _is_of_host(error) else "--port"
            problem = f"cannot listen on {self.host}:{port}: {error}"
            raise UserError.at(option, problem, f"Choose another with {option}.") from error
        self.model, self.page = model, page
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.server_port}/"

    def predict(self, image: bytes, tasks: list[str] | None) -> dict[str, Any]:
        """Each task's answer, one request at a time."""
        with self.lock:
            return self.model.predict(image, tasks)


def _is_of_host(error: Exception) -> bool:
    """Whether listening failed for the address: no such name, or none of this machine."""
    foreign = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    is_foreign = isinstance(error, OSError) and error.errno in foreign
    return is_foreign or isinstance(error, socket.gaierror | UnicodeError)


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds that a silent client may hold a thread

    def do_GET(self) -> None:
        """The page, or what can be asked."""
        place = urlsplit(self.path).path
        if self._is_foreign():
            return
        if place == "/" and self.server.page is not None:
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif place == "/tasks":
            tasks = self.server.model.tasks.items()
            known = {name: {"kind": t.kind, "classes": list(t.classes)} for name, t in tasks}
            self._tell(HTTPStatus.OK, {"tasks": known})
        else:
            self._tell(HTTPStatus.NOT_FOUND, {"error": f"{place}: expected /tasks or /predict"})

    def do_POST(self) -> None:
        """Answer an image."""
        place = urlsplit(self.path)
        if self._is_foreign():
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            problem = f"expected an image file of up to {MOST_BYTES} bytes, with its length"
            self.close_connection = True  # its body is not read
            self._tell(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": problem})
            return
        body = self.rfile.read(int(length))
        if place.path != "/predict":
            self._tell(HTTPStatus.NOT_FOUND, {"error": f"{place.path}: expected /predict"})
            return
        try:
            answers = self.server.predict(body, parse_qs(place.query).get("task"))
        except UserError as error:
            self._tell(HTTPStatus.BAD_REQUEST, {"error": str(error)})
            return
        self._tell(HTTPStatus.OK, {"answers": answers})

    def _is_foreign(self) -> bool:
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if not self.server.is_local or host in LOOPBACK:
            return False
        self.close_connection = True
        self._tell(HTTPStatus.FORBIDDEN, {"error": "expected a request to this machine"})
        return True

    def _tell(self, status: HTTPStatus, document: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(document).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no messages of the program."""
