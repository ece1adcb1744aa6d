"""Computes a bundle for robots elsewhere: on the GPU of a cell, or at a base station. It remembers nothing of them."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from physai.deploy.bundle import Bundle
from physai.deploy.infer import (
    BUSY,
    DECLINED,
    HELLO,
    LARGEST_HELLO,
    PROTOCOL,
    REFUSED,
    REQUEST,
    WELCOME,
    Shape,
    check_exposure,
    frame,
    json_frame,
    read_frame,
    read_json,
)
from physai.errors import DeployError

LOAD = 0.7  # share of its time that may be promised: queues grow without bound towards 1
GREETING_S = 5.0  # for the handshake: who says nothing is not waited for
IDLE_S = 60.0  # without a request: a robot that is gone without goodbye
MOST_ROBOTS = 64  # connections, greeted or not
HOP_S = 100e-6  # from the event loop to the thread that computes and back, which replaying does not see
FORGET = 0.05  # weight of the newest request in the measured time of one

ENDED = (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError)


class Server:
    """Serves one bundle.

    Args:
        bundle: has passed `load_bundle`, which measured what a command costs here.
        tls: certificate of the server; only on this machine may it be None.
        token: what a robot has to know; the same.
        tell: takes a line for each robot that comes, goes or is refused; no secrets are in it.

    Attributes:
        port: at which it listens, after `start`.
        served, declined: requests.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        tls: ssl.SSLContext | None = None,
        token: str | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.bundle, self.shape, self.port = bundle, Shape.of(bundle), 0
        self.served = self.declined = 0
        self._tls, self._token, self._tell = tls, token, tell
        self.cost_s = float(np.percentile(bundle.seconds, 99)) + HOP_S
        self._waiting, self._connections = 0, 0
        self._rates: dict[int, float] = {}
        self._thread = ThreadPoolExecutor(1, "infer")

    async def start(self, host: str, port: int) -> asyncio.Server:
        """Listens.

        Raises:
            DeployError: if that would be open to others, or the port is not free.
        """
        check_exposure(host, self._tls, self._token)
        try:
            listener = await asyncio.start_server(self._meet, host, port, ssl=self._tls)
        except OSError as problem:
            raise DeployError(f"nothing can listen at {host}:{port} ({problem.strerror}); choose another") from problem
        self.port = listener.sockets[0].getsockname()[1]
        return listener

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = "{}:{}".format(*writer.get_extra_info("peername")[:2])
        self._connections += 1
        try:
            rate = await self._greet(reader, writer, peer)
            if rate is not None:
                self._rates[id(writer)] = rate
                self._tell(f"{peer} joined at {rate:g} Hz")
                await self._talk(reader, writer)
        except ValueError as problem:
            self._tell(f"{peer} sent {problem}; it was disconnected")
        except ENDED:
            self._tell(f"{peer} left")
        finally:
            self._connections -= 1
            self._rates.pop(id(writer), None)
            writer.close()
            with contextlib.suppress(*ENDED):
                await writer.wait_closed()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str) -> float | None:
        """Returns the rate that a robot was granted; None after it was told why not."""
        kind, body = await asyncio.wait_for(read_frame(reader, LARGEST_HELLO), GREETING_S)
        hello = read_json(body)
        reason = "no greeting" if kind != HELLO else self._reason(hello)
        if reason:
            self._tell(f"{peer} was refused: {reason}")
            writer.write(json_frame(REFUSED, {"reason": reason}))
            await writer.drain()
            return None
        writer.write(json_frame(WELCOME, {"protocol": PROTOCOL, "digest": self.bundle.digest, "cost_s": self.cost_s}))
        return float(hello["rate_hz"])

    def _reason(self, hello: dict[str, Any]) -> str:
        """Why a robot is refused; the token first, so that a stranger learns nothing else."""
        given = hello.get("token")
        if self._token is not None and not (
            isinstance(given, str) and hmac.compare_digest(given.encode(), self._token.encode())
        ):
            return "the token is another one"
        if hello.get("protocol") != PROTOCOL:
            return f"this server speaks {PROTOCOL}"
        if hello.get("digest") != self.bundle.digest:
            return f"this server has the bundle {self.bundle.digest[:12]}"
        rate = hello.get("rate_hz")
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.0 < rate <= 10_000.0:
            return "rate_hz must lie between 0 and 10000"
        promised = sum(self._rates.values())
        if self._connections > MOST_ROBOTS or (promised + rate) * self.cost_s > LOAD:
            room = max(0.0, LOAD / self.cost_s - promised)
            return f"this server is full: room for {room:.0f} more requests a second"
        return ""

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            kind, body = await asyncio.wait_for(read_frame(reader), IDLE_S)
            if kind != REQUEST:
                raise ValueError("what is no request")
            sequence, budget_s, observation, memory = self.shape.read_request(body)
            if self._waiting and (self._waiting + 1) * self.cost_s > budget_s:
                self.declined += 1
                writer.write(frame(BUSY, DECLINED.pack(sequence)))
            else:
                self._waiting += 1
                started = time.perf_counter()
                try:
                    command, remembered = await loop.run_in_executor(
                        self._thread, self.bundle.graph.step, observation, memory
                    )
                finally:
                    self._waiting -= 1
                took = time.perf_counter() - started
                if self._waiting == 0:
                    self.cost_s += FORGET * (took - self.cost_s)
                self.served += 1
                writer.write(self.shape.response(sequence, took, command, remembered))
            await asyncio.wait_for(writer.drain(), GREETING_S)


def server_tls(certificate: Path, private_key: Path) -> ssl.SSLContext:
    """Returns what a server shows.

    Raises:
        DeployError: if one of the files cannot be read, or they do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, private_key)
    except (OSError, ssl.SSLError) as problem:
        raise DeployError(
            f"{certificate} and {private_key} are no certificate and its key ({problem.strerror or 'malformed'})"
        ) from problem
    return context


async def serve(server: Server, host: str, port: int, ended: asyncio.Event, tell: Callable[[str], None]) -> None:
    """Serves until `ended`."""
    async with await server.start(host, port):
        bundle = server.bundle
        rate = LOAD / server.cost_s
        tell(
            f"{bundle.manifest['name']} {bundle.digest[:12]} at {host}:{server.port}, for {rate:.0f} requests a second"
        )
        await ended.wait()
    tell(f"served {server.served} requests, declined {server.declined}")
