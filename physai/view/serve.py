"""Serves one page to a browser, on this machine alone unless asked otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from physai.errors import ConfigError


class _Handler(BaseHTTPRequestHandler):
    server: PageServer

    def do_GET(self) -> None:
        """Answers with the page, and with nothing else."""
        if self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content = self.server.page.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *values: object) -> None:
        """Says nothing: whoever watches reads the page."""


class PageServer(ThreadingHTTPServer):
    """Listens from the start, and answers with `page` from `serve_forever` on.

    Args:
        host, port: where; port 0 takes a free one.

    Raises:
        ConfigError: if nothing can listen there.
    """

    page = ""
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        try:
            super().__init__((host, port), _Handler)
        except OSError as problem:
            raise ConfigError(
                f"nothing can listen on {host}:{port} ({problem.strerror}); name another --port or --host"
            ) from problem


def serve(make: Callable[[], str], host: str, port: int, say: Callable[[str], None]) -> None:
    """Serves the page that `make` returns until Ctrl-C; `say` is told its address.

    Raises:
        ConfigError: if nothing can listen there, which is said before the page is made.
    """
    with PageServer(host, port) as server:
        server.page = make()
        with contextlib.suppress(KeyboardInterrupt):
            say(f"http://{host}:{server.server_port}/ (Ctrl-C ends it)")
            server.serve_forever()
