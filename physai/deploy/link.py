"""A robot in another process, over a local socket: what is sent each way, and the controller's side of it.

Messages are packets of a few numbers, never pickled. The two clocks are not the same: a command carries for how long it
is valid, and an observation is as old as it is later than the fastest one that ever came. So one that has waited in a
queue is not taken for fresh. The cell of `physai.twin` is at the other end; a driver in any language could be.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from physai.deploy.io import Features, Reading
from physai.errors import DeployError
from physai.spec import PolicySpec

HELLO, GO, OBSERVATION, COMMAND, STOP, RESULT = b"HGOCSR"
KIND = struct.Struct("<B")
# kind, flags, job, sequence, when it was taken [ns], terms that are in it (a bit each); then float32 values
OBSERVED = struct.Struct("<BBHIqQ")
COMMANDED = struct.Struct("<BxHII")  # kind, job, tick, valid [us]; then float64 values
FOLLOWS, STOPPED, DONE = 1, 2, 4  # flags
LARGEST = 65_536  # bytes of a packet
PATIENCE_S = 120.0
DRIFT = 1e-4  # of two clocks: by so much the fastest way is forgotten


def pack_json(kind: int, data: Any) -> bytes:
    """Returns a packet that holds JSON."""
    return KIND.pack(kind) + json.dumps(data).encode()


def open_socket(path: Path | str) -> socket.socket:
    """Connects to a cell; packets arrive whole and in order, or the connection is gone."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(str(path))
    return connection


def stop_over(path: str) -> None:
    """Stops the robot over a connection of its own."""
    with open_socket(path) as connection:
        connection.send(KIND.pack(STOP))


class LinkedRobot:
    """The robot at the other end of a socket.

    Args:
        path: of the socket.
        spec: of the policy that will drive it.

    Attributes:
        result: what the cell said about the last job that was done.
    """

    def __init__(self, path: Path, spec: PolicySpec) -> None:
        self.path, self.spec = path, spec
        self.result: dict[str, Any] = {}
        self._reading = Reading.empty(spec)
        self._slices = list(spec.observation_slices.values())
        self._buffer = bytearray(LARGEST)
        self._values = np.frombuffer(self._buffer, np.float32, spec.observation_size, OBSERVED.size)
        self._packet = bytearray(COMMANDED.size + 8 * spec.action_size)
        self._pack = struct.Struct(f"<{spec.action_size}d").pack_into
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._job = 0
        self._waits_for_first = False
        self._offset, self._offset_ns = 0.0, 0  # own clock less that of the cell [ns], and when it was found

    @property
    def features(self) -> Features:
        """What it has: what the policy's task declares; the cell must say the same when it is connected."""
        return Features.of(self.spec)

    def connect(self) -> None:
        """Connects.

        Raises:
            DeployError: if nobody answers, or the cell is another one.
        """
        until = time.monotonic() + PATIENCE_S
        while self._socket is None:
            try:
                self._socket = open_socket(self.path)
            except OSError as problem:
                if time.monotonic() > until:
                    raise DeployError(
                        f"nobody answers at {self.path} ({problem.strerror}); start the cell"
                    ) from problem
                time.sleep(0.02)
        self._socket.settimeout(PATIENCE_S)
        hello = self._socket.recv(LARGEST)
        said = json.loads(hello[1:]) if hello[:1] == KIND.pack(HELLO) else {}
        if said.get("task") != self.spec.task:
            raise DeployError(
                f"the cell at {self.path} is for {said.get('task')!r} and the policy for {self.spec.task!r}"
            )
        self._socket.setblocking(False)
        self._poll.register(self._socket, select.POLLIN)

    def go(self, seed: int) -> None:
        """Starts a job: the cell prepares episode `seed`, and begins with the first command."""
        self._job, self.result, self._waits_for_first = self._job + 1, {}, True
        fresh = Reading.empty(self.spec)
        self._reading.values[:], self._reading.done = fresh.values, False
        self._reading.received_ns[:], self._reading.sequence[:] = fresh.received_ns, fresh.sequence
        self._send(pack_json(GO, {"job": self._job, "seed": seed}))

    def read(self, wait_s: float) -> Reading:
        """Returns the newest reading; see `RobotIO`."""
        until = time.monotonic() + wait_s
        fresh = self._drain()
        if self._waits_for_first and fresh:  # how long it has been there nobody knows: the next one is timed
            self._waits_for_first, self._offset_ns, fresh = False, 0, False
        while not fresh:
            left = until - time.monotonic()
            if left <= 0.0 or not self._poll.poll(max(1, round(left * 1e3))):
                break
            fresh = self._drain()
        return self._reading

    def _drain(self) -> bool:
        """Takes all packets that are there; whether an observation of this job was among them."""
        fresh = False
        while self._socket is not None:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                break
            if size == 0:
                raise ConnectionResetError(0, "the cell has ended the connection")
            kind = self._buffer[0]
            if kind == OBSERVATION:
                fresh = self._take() or fresh
            elif kind == RESULT:
                self.result = json.loads(bytes(self._buffer[1:size]))
        return fresh

    def _take(self) -> bool:
        _, flags, job, sequence, taken, terms = OBSERVED.unpack_from(self._buffer)
        if job != self._job:
            return False
        reading, now = self._reading, time.monotonic_ns()
        allowed = self._offset + DRIFT * (now - self._offset_ns)
        if now - taken < allowed or not self._offset_ns:
            self._offset, self._offset_ns = float(now - taken), now
        came = min(now, taken + round(self._offset))
        reading.follows, reading.stopped, reading.done = (
            bool(flags & FOLLOWS),
            bool(flags & STOPPED),
            bool(flags & DONE),
        )
        for index, part in enumerate(self._slices):
            if terms >> index & 1 and sequence > reading.sequence[index]:
                reading.values[part] = self._values[part]
                reading.received_ns[index], reading.sequence[index] = came, sequence
        return True

    def send(self, command: Sequence[float], valid_s: float, tick: int) -> Sequence[float]:
        """Sends a command; see `RobotIO`."""
        COMMANDED.pack_into(self._packet, 0, COMMAND, self._job, tick, round(valid_s * 1e6))
        self._pack(self._packet, COMMANDED.size, *command)
        self._send(self._packet)
        return command

    def _send(self, packet: bytes | bytearray) -> None:
        if self._socket is None:
            raise ConnectionError(0, "the robot is not connected")
        self._socket.send(packet)

    def stop(self) -> None:
        """Tells the cell to brake for good."""
        self._send(KIND.pack(STOP))

    def stopper(self) -> Callable[[], None]:
        """Returns what a watchdog calls."""
        return partial(stop_over, str(self.path))

    def close(self) -> None:
        """Ends the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
