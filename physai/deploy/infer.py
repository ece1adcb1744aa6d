"""What a robot and a server that computes for it say to each other: `physai.infer/1`, framed binary over TCP and TLS.

    robot   HELLO  JSON: protocol, digest of the bundle, rate of the loop, token
    server  WELCOME or REFUSED  JSON: why not
    robot   REQUEST   sequence, budget, observation, memory
    server  RESPONSE  sequence, time it took, digest, command, memory   or   BUSY  sequence

A frame has a fixed head and a bounded length; sizes follow from the bundle, and whatever else comes ends the
connection. The server remembers nothing: what a recurrent policy remembers travels. Times are lengths, so no two clocks
are compared. TCP, because the standard library has TLS for it; what is lost comes late, and what is late is not used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import ssl
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.deploy.bundle import Bundle
from physai.deploy.files import strict_json
from physai.errors import DeployError

PROTOCOL = "physai.infer/1"
MAGIC = b"PHIN"
HELLO, WELCOME, REFUSED, REQUEST, RESPONSE, BUSY = b"HWXQRB"
HEAD = struct.Struct("<4sBI")  # magic, kind, length of what follows
ASKED = struct.Struct("<QI")  # sequence, budget [us]; then observation and memory, float32
ANSWERED = struct.Struct("<QI32s")  # sequence, time in the server [us], digest; then command and memory
DECLINED = struct.Struct("<Q")  # sequence
LARGEST = 262_144  # bytes of a frame: a memory of 65,000 numbers; every connection may cost that much at most
LARGEST_HELLO = 4096
TOKEN, SHORTEST_TOKEN = "PHYSAI_EDGE_TOKEN", 16  # variable of the environment; characters

Array = NDArray[Any]


@dataclass(frozen=True)
class Shape:
    """Sizes of what travels for one bundle, and the type of a command."""

    digest: bytes
    observation: int
    command: int
    memory: tuple[tuple[str, tuple[int, ...]], ...]
    discrete: bool

    @classmethod
    def of(cls, bundle: Bundle) -> Shape:
        """Those of a bundle.

        Raises:
            DeployError: if it does not fit into a frame.
        """
        memory = tuple((name, first.shape) for name, first in bundle.graph.initial.items())
        spec = bundle.spec
        shape = cls(bytes.fromhex(bundle.digest), spec.observation_size, spec.action_size, memory, spec.discrete)
        if (size := 4 * (shape.observation + shape.remembered) + ASKED.size) > LARGEST:
            raise DeployError(
                f"a request of this policy has {size} bytes, and {LARGEST} are allowed; compute it on board"
            )
        return shape

    @property
    def remembered(self) -> int:
        """Numbers in the memory."""
        return sum(int(np.prod(shape)) for _, shape in self.memory)

    def request(self, sequence: int, budget_s: float, observation: Array, memory: Mapping[str, Array]) -> bytes:
        """Packs a request."""
        body = ASKED.pack(sequence, round(budget_s * 1e6)) + observation.astype("<f4").tobytes()
        return frame(REQUEST, body + self._memory_bytes(memory))

    def read_request(self, body: bytes) -> tuple[int, float, Array, dict[str, Array]]:
        """Returns sequence, budget [s], observation (1, m) and memory.

        Raises:
            ValueError: if its size is another one, or it is not finite.
        """
        sequence, budget_us = ASKED.unpack_from(
            self._sized(body, ASKED.size + 4 * (self.observation + self.remembered))
        )
        values = np.frombuffer(body, "<f4", offset=ASKED.size)
        if not np.isfinite(values).all():
            raise ValueError("a request that is not finite")
        return sequence, budget_us * 1e-6, values[None, : self.observation], self._memory(values[self.observation :])

    def response(self, sequence: int, took_s: float, command: Array, memory: Mapping[str, Array]) -> bytes:
        """Packs an answer."""
        body = ANSWERED.pack(sequence, min(round(took_s * 1e6), 0xFFFFFFFF), self.digest)
        return frame(RESPONSE, body + command.astype(self._command_type).tobytes() + self._memory_bytes(memory))

    def read_response(self, body: bytes) -> tuple[int, bytes, Array, dict[str, Array]]:
        """Returns sequence, digest, command (1, k) and memory.

        Raises:
            ValueError: if its size is another one.
        """
        width = self.command * np.dtype(self._command_type).itemsize
        sequence, _, digest = ANSWERED.unpack_from(self._sized(body, ANSWERED.size + width + 4 * self.remembered))
        command = np.frombuffer(body, self._command_type, self.command, ANSWERED.size)
        return sequence, digest, command[None], self._memory(np.frombuffer(body, "<f4", offset=ANSWERED.size + width))

    @property
    def _command_type(self) -> str:
        return "<i8" if self.discrete else "<f4"

    def _memory_bytes(self, memory: Mapping[str, Array]) -> bytes:
        return b"".join(memory[name].astype("<f4").tobytes() for name, _ in self.memory)

    def _memory(self, values: Array) -> dict[str, Array]:
        parts, at = {}, 0
        for name, shape in self.memory:
            size = int(np.prod(shape))
            parts[name], at = values[at : at + size].reshape(shape), at + size
        return parts

    @staticmethod
    def _sized(body: bytes, size: int) -> bytes:
        if len(body) != size:
            raise ValueError(f"a message of {len(body)} bytes instead of {size}")
        return body


def frame(kind: int, body: bytes) -> bytes:
    """Returns a frame."""
    return HEAD.pack(MAGIC, kind, len(body)) + body


def json_frame(kind: int, data: Any) -> bytes:
    """Returns a frame that holds JSON."""
    return frame(kind, json.dumps(data).encode())


def read_json(body: bytes) -> dict[str, Any]:
    """Returns the object in a frame.

    Raises:
        ValueError: if there is none.
    """
    data = strict_json(body, "a greeting")
    if not isinstance(data, dict):
        raise ValueError("a greeting that is no object")
    return data


async def read_frame(reader: asyncio.StreamReader, most: int = LARGEST) -> tuple[int, bytes]:
    """Returns kind and contents of the next frame.

    Raises:
        ValueError: if it is none, or longer than `most` bytes.
        asyncio.IncompleteReadError: if the connection ends.
    """
    magic, kind, length = HEAD.unpack(await reader.readexactly(HEAD.size))
    if magic != MAGIC or length > most:
        raise ValueError(f"no frame of {PROTOCOL}, or one of more than {most} bytes")
    return kind, await reader.readexactly(length)


def read_token(path: Path | None) -> str | None:
    """Returns the token in a file, or in the environment; None if there is none. It is never on a command line.

    Raises:
        DeployError: if the file cannot be read, or it is too short to be a secret.
    """
    try:
        text = os.environ.get(TOKEN) if path is None else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise DeployError(f"the token file {path} cannot be read; give one that holds a line of text") from problem
    if text is None:
        return None
    if len(text.strip()) < SHORTEST_TOKEN:
        raise DeployError(f"the token is shorter than {SHORTEST_TOKEN} characters; `openssl rand -hex 32` makes one")
    return text.strip()


def is_loopback(host: str) -> bool:
    """Whether an address stays on this machine; a name other than localhost may not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, tls: ssl.SSLContext | None, token: str | None) -> None:
    """Refuses to leave this machine without encryption and a secret.

    Raises:
        DeployError: if one of both is missing.
    """
    if not is_loopback(host) and (tls is None or token is None):
        raise DeployError(
            f"{host} is beyond this machine, and that needs TLS and a token: give --certificate and --private-key "
            f"(server) or --ca (robot), and --token-file or {TOKEN}"
        )
