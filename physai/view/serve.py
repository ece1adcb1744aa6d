"""Serves a page to a browser, and a running session if there is one; on this machine alone unless asked otherwise."""

from __future__ import annotations

import contextlib
import hmac
import json
import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from physai.errors import ConfigError
from physai.view.feed import Archive, Feed

TOKEN_BYTES = 16
LARGEST_ORDER = 1024  # bytes
WATCHERS = 16  # at a time; each has a thread
HEARTBEAT_S = 5.0  # so that a browser that is gone is noticed
GOODBYE_S = 1.0
PATIENCE_S = 30.0  # with a browser that neither reads nor writes
HTML, JSON, STREAM = "text/html; charset=utf-8", "application/json", "text/event-stream"


class Broadcast(Protocol):
    """What a running session offers to those who watch it."""

    feed: Feed
    archive: Archive
    orders: queue.Queue[dict[str, Any]]

    def download(self) -> str:
        """Returns the page of what was recorded so far."""
        ...


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        """Answers with the page, and with what a running session tells."""
        wanted, live = self._wanted(), self.server.live
        if wanted == "":
            self._answer(HTML, self.server.page)
        elif live is not None and wanted == "events":
            self._stream(live.feed)
        elif live is not None and wanted == "recording.html":
            self._answer(HTML, live.download())
        elif live is not None and wanted is not None and wanted.removeprefix("episodes/").isdecimal():
            episode = live.archive.episode(int(wanted.removeprefix("episodes/")))
            self._answer(JSON, episode) if episode is not None else self.send_error(HTTPStatus.GONE)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Takes an order for a running session."""
        live, length = self.server.live, self.headers.get("Content-Length", "")
        if live is None or self._wanted() != "orders":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        if not length.isdecimal() or int(length) > LARGEST_ORDER:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        try:
            order = json.loads(self.rfile.read(int(length)))
            if not isinstance(order, dict) or not isinstance(order.get("do"), str):
                raise ValueError("no order")
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        try:
            live.orders.put_nowait(order)
        except queue.Full:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()

    def _wanted(self) -> str | None:
        """What is asked for, below the token; None from somebody who does not know it.

        Another page in the same browser does not, whatever name it gave to this address.
        """
        _, token, *rest = [*self.path.split("/", 2), ""]
        if not hmac.compare_digest(token.encode(), self.server.token.encode()) or len(rest) < 2:
            return None
        return rest[0]

    def _answer(self, kind: str, content: str) -> None:
        body = content.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, feed: Feed) -> None:
        if not self.server.seats.acquire(blocking=False):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            return
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", STREAM)
            self.end_headers()
            for news in feed.listen(HEARTBEAT_S):
                lines = [f"event: {kind}\ndata: {text}\n\n" for kind, text in news]
                self.wfile.write("".join(lines or [":\n\n"]).encode())
        finally:
            self.server.seats.release()

    def end_headers(self) -> None:
        """Ends the headers with those that every answer has."""
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def handle(self) -> None:
        """Answers, unless whoever asked is gone."""
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *values: object) -> None:
        """Says nothing: whoever watches reads the page."""


class PageServer(ThreadingHTTPServer):
    """Listens from the start, and answers with `page` from `serve_forever` on, to those who know `token`.

    Args:
        host, port: where; port 0 takes a free one.

    Raises:
        ConfigError: if nothing can listen there.
    """

    page = ""
    live: Broadcast | None = None
    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        self.token, self.seats = secrets.token_urlsafe(TOKEN_BYTES), threading.BoundedSemaphore(WATCHERS)
        self._host = host
        try:
            super().__init__((host, port), _Handler)
        except OSError as problem:
            raise ConfigError(
                f"nothing can listen on {host}:{port} ({problem.strerror}); name another --port or --host"
            ) from problem

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{self._host}:{self.server_port}/{self.token}/"

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Answers in the background."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            thread.join()
            end = time.monotonic() + GOODBYE_S
            for _ in range(WATCHERS):  # those who watch are told that it ends, unless they do not listen
                self.seats.acquire(timeout=max(end - time.monotonic(), 0.0))


def serve(make: Callable[[], str], host: str, port: int, say: Callable[[str], None]) -> None:
    """Serves the page that `make` returns until Ctrl-C; `say` is told its address.

    Raises:
        ConfigError: if nothing can listen there, which is said before the page is made.
    """
    with PageServer(host, port) as server:
        server.page = make()
        with contextlib.suppress(KeyboardInterrupt):
            say(f"{server.address} (Ctrl-C ends it)")
            server.serve_forever()
