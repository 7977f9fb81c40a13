"""A real HTTP server on loopback that takes what apprise's ``json://`` sends, or refuses it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class PostOffice:
    """``letters`` are what arrived, in order. While ``closed`` it answers 503."""

    def __init__(self, port: int = 0) -> None:
        self.letters: list[dict[str, Any]] = []
        self.refused = 0
        self.closed = False
        office = self

        class Counter(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if office.closed:
                    office.refused += 1
                    self.send_response(503)
                else:
                    office.letters.append(json.loads(body))
                    self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """A test's output is its own."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Counter)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def shut(self) -> None:
        """Gone: connections are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def titles(self) -> list[str]:
        return [letter["title"] for letter in self.letters]
