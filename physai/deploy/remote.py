"""The robot's side of a server that computes for it: a thread owns the connection, the loop never waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from physai.deploy.bundle import Bundle
from physai.deploy.infer import (
    BUSY,
    HELLO,
    LARGEST_HELLO,
    PROTOCOL,
    REFUSED,
    RESPONSE,
    WELCOME,
    Array,
    Shape,
    check_exposure,
    json_frame,
    read_frame,
    read_json,
)
from physai.errors import DeployError

CONNECT_S = 2.0  # for name, connection, TLS and greeting
SILENT_S = 1.0  # without any answer: the other end may be gone without a word, so the connection is made anew
PAUSE_S = (0.1, 5.0)  # before the next try; it doubles from the first to the second


@dataclass(frozen=True)
class Answer:
    """What came back for a request: which bundle computed it, and when it was here, by the robot's own clock."""

    sequence: int
    digest: bytes
    received_ns: int
    command: Array
    memory: Mapping[str, Array]


class Remote:
    """A connection that comes and goes; only the newest answer is kept.

    Args:
        host, port: of the server.
        bundle: that it must have.
        tls: what the server's certificate is checked with; only on this machine may it be None.
        token: that the server asks for.

    Attributes:
        connected: whether somebody would hear a request.
        problem: why not, in words.
    """

    def __init__(
        self, host: str, port: int, bundle: Bundle, *, tls: ssl.SSLContext | None = None, token: str | None = None
    ) -> None:
        check_exposure(host, tls, token)
        self._host, self._port, self._tls = host, port, tls
        self._shape = Shape.of(bundle)
        rate = 1.0 / bundle.interface.control.period_s
        self._hello = json_frame(
            HELLO, {"protocol": PROTOCOL, "digest": bundle.digest, "rate_hz": rate, "token": token}
        )
        self.connected, self.problem = False, "not connected yet"
        self._newest: Answer | None = None
        self._news = threading.Condition()
        self._asked_ns = self._heard_ns = 0
        self._loop = asyncio.new_event_loop()
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="remote", daemon=True)

    def start(self, wait_s: float = CONNECT_S) -> None:
        """Begins to connect, and waits for it for a while; a robot starts without its server too."""
        self._thread.start()
        with self._news:
            self._news.wait_for(lambda: self.connected, wait_s)

    def ask(self, sequence: int, budget_s: float, observation: Array, memory: Mapping[str, Array]) -> bool:
        """Leaves a request for the thread, and never waits; False if nobody would hear it."""
        if not self.connected:
            return False
        self._asked_ns = self._asked_ns or time.monotonic_ns()
        request = self._shape.request(sequence, budget_s, observation, memory)
        with contextlib.suppress(RuntimeError):  # the thread has just ended
            self._loop.call_soon_threadsafe(self._send, request)
        return True

    def take(self, sequence: int, wait_s: float) -> Answer | None:
        """Returns the answer to that request; waits no longer than `wait_s`, and not at all for a lost connection."""
        with self._news:
            self._news.wait_for(lambda: self._has(sequence) or not self.connected, wait_s)
            return self._newest if self._has(sequence) else None

    def _has(self, sequence: int) -> bool:
        return self._newest is not None and self._newest.sequence == sequence

    def close(self) -> None:
        """Ends the connection and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._cancel)
            self._thread.join()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        self._task = self._loop.create_task(self._stay())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    def _send(self, request: bytes) -> None:
        # What the network does not take now would be late later, so it is dropped.
        if self._writer is not None and not self._writer.transport.get_write_buffer_size():
            self._writer.write(request)

    async def _stay(self) -> None:
        pause = PAUSE_S[0]
        while True:
            try:
                await self._session()
            except (OSError, EOFError, ValueError, asyncio.TimeoutError) as problem:
                self.problem = str(problem) or type(problem).__name__
            pause = PAUSE_S[0] if self.connected else min(2 * pause, PAUSE_S[1])
            with self._news:
                self.connected = False
                self._news.notify_all()
            await asyncio.sleep(pause)

    async def _session(self) -> None:
        opening = asyncio.open_connection(self._host, self._port, ssl=self._tls)
        reader, writer = await asyncio.wait_for(opening, CONNECT_S)
        self._writer = writer
        try:
            writer.write(self._hello)
            try:
                kind, body = await asyncio.wait_for(read_frame(reader, LARGEST_HELLO), CONNECT_S)
            except asyncio.IncompleteReadError as problem:
                hint = "" if self._tls else "; if it has a certificate, give --ca"
                raise ValueError(f"it hung up without an answer{hint}") from problem
            said = read_json(body)
            if kind == REFUSED:
                raise ValueError(str(said.get("reason"))[:200])
            if kind != WELCOME or said.get("digest") != self._shape.digest.hex():
                raise ValueError("the server has another bundle")
            with self._news:
                self._asked_ns, self.connected, self.problem = 0, True, ""
                self._news.notify_all()
            while True:
                try:
                    kind, body = await asyncio.wait_for(read_frame(reader), SILENT_S)
                except asyncio.TimeoutError:
                    if self._asked_ns:
                        raise
                    continue
                self._hear(kind, body)
        finally:
            writer.transport.abort()  # what is still in its buffers would be late

    def _hear(self, kind: int, body: bytes) -> None:
        now, self._asked_ns = time.monotonic_ns(), 0
        if kind == BUSY:
            return
        if kind != RESPONSE:
            raise ValueError("the server sent what is no answer")
        sequence, digest, command, memory = self._shape.read_response(body)
        with self._news:
            if self._newest is None or sequence > self._newest.sequence:
                self._newest = Answer(sequence, digest, now, command, memory)
            self._news.notify_all()


def client_tls(authority: Path) -> ssl.SSLContext:
    """Returns what checks the certificate of a server, its name included.

    Raises:
        DeployError: if the file holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as problem:
        raise DeployError(
            f"{authority} holds no certificate ({problem.strerror or 'malformed'}); give --ca FILE.pem"
        ) from problem
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
