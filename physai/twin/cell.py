"""The simulated cell: physics on a clock of its own, sensors and drives with delays, and a socket to talk to.

The physics of a period is computed at its end, with the command that was in force in its middle. So a command that
takes less than half a period acts in the period that it was computed for, as in training; a later one in the next.
"""

from __future__ import annotations

import heapq
import json
import os
import selectors
import socket
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np

from physai.deploy.bundle import Bundle
from physai.deploy.clock import PRIORITY, real_time
from physai.deploy.link import (
    COMMAND,
    COMMANDED,
    DONE,
    FOLLOWS,
    GO,
    HELLO,
    LARGEST,
    OBSERVATION,
    OBSERVED,
    RESULT,
    STOP,
    STOPPED,
    pack_json,
)
from physai.errors import DeployError
from physai.twin.actuators import Actuators, Command
from physai.twin.faults import Faults
from physai_envs import registry
from physai_envs.terms import set_command_delay

FAULT_STREAM = 2  # of the random numbers of an episode; 0 and 1 are the environment's own
AFTER_S = 5.0  # for so long a job goes on after the controller is gone, to see the robot come to rest
LOST = (BlockingIOError, BrokenPipeError, ConnectionResetError)


class Cell:
    """One robot in its cell.

    Args:
        bundle: whose task is simulated, and whose limits are checked.
        path: of the socket; only this user can open it.
        faults: what goes wrong.
        report: called with the facts of each job that has ended.
    """

    def __init__(self, bundle: Bundle, path: Path, faults: Faults, report: Any) -> None:
        self.spec, self.faults, self.report = bundle.spec, faults, report
        if self.spec.discrete or not np.isfinite(self.spec.command_scale).all():
            raise DeployError(f"{self.spec.task} has no limited commands; the twin plays physai's own tasks")
        self.env: Any = registry.make(bundle.manifest["task"], goal_env=self.spec.goal_env)
        # The way of a command is a real one here, with the delays of `faults`; what a task draws would come on top.
        drawn = self.env.unwrapped.task.randomization
        self._options = {"randomization": {r.name: 0.0 for r in drawn if r.apply is set_command_delay}}
        self.actuators = Actuators(bundle.safety, self.spec)
        self.period_ns = round(1e9 / self.spec.control_hz)
        self._all_terms = (1 << len(self.spec.observations)) - 1
        self._values = struct.Struct(f"<{self.spec.action_size}d")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(4)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._master: socket.socket | None = None
        self._job, self._seed, self._running, self._done = 0, 0, False, True
        self._due: list[tuple[int, int, bytes]] = []
        self._sequence = self._step = 0
        self._rng = np.random.default_rng(0)
        self._gone_ns, self._closing, self._parent = 0, False, os.getppid()
        self._stop_ns = self._late = 0

    def serve(self) -> None:
        """Serves until the controller has gone and the robot rests."""
        real_time(PRIORITY)
        self._next = time.monotonic_ns() + self.period_ns
        while not self._closing:
            until = min([self._next, *(entry[0] for entry in self._due[:1])])
            self._listen(max(0, until - time.monotonic_ns()) * 1e-9)
            now = time.monotonic_ns()
            while self._due and self._due[0][0] <= now:
                self._transmit(heapq.heappop(self._due)[2])
            if now >= self._next:
                self._period()
                self._next += self.period_ns
                if time.monotonic_ns() > self._next + self.period_ns:
                    self._late += 1  # a world cannot skip: it runs slower for a moment
                    self._next = time.monotonic_ns()
        self.env.close()
        self._listener.close()

    @property
    def _time_s(self) -> float:
        return self._step / self.spec.control_hz

    def _period(self) -> None:
        """One period of the world: drives, physics, sensors."""
        if self._running and not self._done:
            middle = self._next - self.period_ns // 2
            command = self.actuators.apply(middle)
            action = self.spec.to_action(command)
            self._observation, _, ended, late, info = self.env.step(action)
            self._step += 1
            if self.actuators.safety.workspace is not None:
                self.actuators.check_place(self.env.unwrapped.scene.robot.tip_position)
            self._done = bool(ended or late)
            if self._done:
                self._end(bool(info["is_success"]))
        elif not self._done:  # the world waits for its first command, its sensors do not
            seen = self.env.unwrapped._observe()  # sensors err anew
            self._observation = self.env.observation(seen) if self.spec.goal_env else seen
            self._running = self.actuators.started
        if self._job:
            self._publish()
        if not self._gone_ns and self._master is None and os.getppid() != self._parent:
            self._gone_ns = time.monotonic_ns()
        gone = self._gone_ns and time.monotonic_ns() - self._gone_ns
        if gone and (self._done or not self._running or self.actuators.rested_ns or gone > AFTER_S * 1e9):
            if not self._done:
                self._end(False)
            self._closing = True

    def _publish(self) -> None:
        """Sends an observation on its way."""
        time_s, faults = self._time_s, self.faults
        self._sequence += 1
        if not faults.frozen(time_s) or self._step == 0:
            self._seen = np.asarray(self._observation, np.float32).tobytes()
        lost = faults.drop and float(self._rng.random()) < faults.drop
        if (lost or faults.stalled(time_s)) and not self._done:
            return
        flags = FOLLOWS * self.actuators.follows | STOPPED * self.actuators.stopped | DONE * self._done
        now = time.monotonic_ns()
        packet = OBSERVED.pack(OBSERVATION, flags, self._job, self._sequence, now, self._all_terms) + self._seen
        due = now + round(faults.delay_s(self._rng) * 1e9)
        heapq.heappush(self._due, (due, self._sequence, packet))

    def _transmit(self, packet: bytes) -> None:
        if self._master is not None:
            try:
                self._master.send(packet)
            except LOST:
                return  # nobody reads: the selector will say that it has gone

    def _end(self, success: bool) -> None:
        """Tells the result of a job, with what was seen at the actuators."""
        a = self.actuators
        result = {
            "job": self._job, "seed": self._seed, "success": success, "steps": self._step, "done": self._done,
            "violations": a.violations, "stopped": a.stopped, "gaps": a.gaps, "late": self._late,
            "braked_ns": a.braked_ns, "rested_ns": a.rested_ns, "last_command_ns": self._last_ns,
        }  # fmt: skip
        self._transmit(pack_json(RESULT, result))
        self.report(result)

    def _listen(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                self._selector.register(connection, selectors.EVENT_READ)
                with_hello = pack_json(HELLO, {"task": self.spec.task, "rate_hz": self.spec.control_hz})
                try:
                    connection.send(with_hello)
                except LOST:
                    continue  # it came only to say stop, and that is read next
            elif isinstance(key.fileobj, socket.socket):
                self._receive(key.fileobj)

    def _receive(self, connection: socket.socket) -> None:
        while True:
            try:
                packet = connection.recv(LARGEST)
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet = b""
            if not packet:
                self._selector.unregister(connection)
                connection.close()
                if connection is self._master:
                    self._master, self._gone_ns = None, time.monotonic_ns()
                return
            self._obey(packet, connection)

    def _obey(self, packet: bytes, connection: socket.socket) -> None:
        now, kind = time.monotonic_ns(), packet[0]
        if kind == STOP:
            self._stop_ns = now
            self.actuators.stop(now)
        elif kind == GO:
            self._master = connection
            self._begin(json.loads(packet[1:]))
        elif kind == COMMAND and connection is self._master:
            _, job, tick, valid_us = COMMANDED.unpack_from(packet)
            if job == self._job and not self.faults.stalled(self._time_s):
                effective = now + round(self.faults.delay_s(self._rng) * 1e9)
                values = list(self._values.unpack_from(packet, COMMANDED.size))
                self._last_ns = now
                self.actuators.receive(Command(effective, effective + valid_us * 1000, tick, values))

    def _begin(self, job: dict[str, Any]) -> None:
        self._job, self._seed = int(job["job"]), int(job["seed"])
        self._rng = np.random.default_rng([self._seed, FAULT_STREAM])
        self._observation, _ = self.env.reset(seed=self._seed, options=self._options)
        self.actuators.begin()
        self._due.clear()
        self._step, self._running, self._done, self._late, self._last_ns = 0, False, False, 0, 0
        self._next = time.monotonic_ns()
