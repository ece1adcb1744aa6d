"""The drives of a simulated cell: commands take effect late, expire, and are checked here, where they arrive."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from physai.deploy.safety import Safety, element_names
from physai.deploy.shield import Shield
from physai.spec import PolicySpec

ROUNDING = 1e-6  # of a limit: commands travel in double precision, limits began in single


@dataclass(frozen=True)
class Command:
    """One that has arrived; times by the cell's clock [ns]."""

    effective_ns: int
    expires_ns: int
    tick: int
    values: list[float]


class Actuators:
    """Applies one command in each period: the newest that had taken effect by its middle.

    They brake by themselves when it has expired, with the limits of ``safety.json``, and follow again once they rest
    and are told to rest. After `stop` they follow no more until the next job.

    Attributes:
        violations: limits that a command broke, by name and how often. None is ever expected.
        braked_ns, rested_ns: when they began to brake by themselves, and when they came to rest; 0 if they did not.
    """

    def __init__(self, safety: Safety, spec: PolicySpec) -> None:
        self.safety, self.names = safety, element_names(spec)
        self.shield = Shield(safety, spec)
        self.hz = spec.control_hz
        self.begin()

    def begin(self) -> None:
        """A new job: at rest, and following."""
        self.shield.reset()
        self.follows, self.stopped = True, False
        self.violations: dict[str, int] = {}
        self.braked_ns = self.rested_ns = 0
        self.gaps = self.received = 0
        self._pending: deque[Command] = deque()
        self._force: Command | None = None
        self._history: list[tuple[int, np.ndarray]] = []

    @property
    def started(self) -> bool:
        """Whether a command has come."""
        return self.received > 0

    def receive(self, command: Command) -> None:
        """Takes a command; it waits until it is effective."""
        self.received += 1
        self._pending.append(command)

    def stop(self, now_ns: int) -> None:
        """Brakes, and follows no more."""
        self.stopped = True
        self._brake(now_ns)

    def _brake(self, now_ns: int) -> None:
        if self.follows:
            self.follows, self.braked_ns, self.rested_ns = False, now_ns, 0
            if self.shield.resting:
                self.rested_ns = now_ns

    def apply(self, middle_ns: int) -> list[float]:
        """Returns the command of the period around this time, as it is applied."""
        for command in [c for c in self._pending if c.effective_ns <= middle_ns]:
            self._pending.remove(command)
            if self._force is None or command.tick > self._force.tick:
                self._take(command)
        if self.follows and self._force is not None and middle_ns > self._force.expires_ns:
            self._brake(self._force.expires_ns)
        if self.follows and self._force is not None:
            self._set(self._force.values)
        elif self._force is not None:
            self._own_brake(middle_ns)
        return self.shield.last

    def _take(self, command: Command) -> None:
        newest, self._force = self._force, command
        if self.follows:
            if newest is not None and command.tick != newest.tick + 1:
                self.gaps += 1
            self._check(command)
        elif not self.stopped and self.rested_ns and command.values == [e.rest for e in self.shield.elements]:
            self.follows = True
            self._history = []

    def _own_brake(self, now_ns: int) -> None:
        self.shield.stop()
        if not self.rested_ns and self.shield.resting:
            self.rested_ns = now_ns

    def _set(self, values: list[float]) -> None:
        for value, element in zip(values, self.shield.elements, strict=True):
            element.step, element.last = value - element.last, value
        self.shield.last = list(values)

    def _check(self, command: Command) -> None:
        """Compares a command with the limits: its range, its rate since the one before, and the change of that."""
        values, safety = np.array(command.values), self.safety
        history = self._history
        broken = {"range": ~((values >= safety.low - ROUNDING) & (values <= safety.high + ROUNDING))}
        if history:
            ticks = command.tick - history[-1][0]
            step = (values - history[-1][1]) / ticks
            broken["rate"] = ~(np.abs(step) <= safety.rate / self.hz * (1.0 + ROUNDING) + 1e-12)
            if ticks == 1 and len(history) > 1 and history[-1][0] - history[-2][0] == 1:
                change = np.abs(step - (history[-1][1] - history[-2][1]))
                broken["rate_change"] = ~(change <= safety.rate_change / self.hz**2 * (1.0 + ROUNDING) + 1e-12)
        for what, where in broken.items():
            for index in np.flatnonzero(where):
                self._violated(f"{self.names[index]} {what}")
        self._history = [*history[-1:], (command.tick, values)]

    def _violated(self, what: str) -> None:
        self.violations[what] = self.violations.get(what, 0) + 1

    def check_place(self, position: tuple[float, ...]) -> None:
        """Compares where the point really is with the workspace."""
        space = self.safety.workspace
        if space is None:
            return
        inside = space.inside
        if not all(a <= p <= b for a, p, b in zip(inside.low, position, inside.high, strict=True)):
            self._violated("workspace")
        for box in space.keep_out:
            if all(a < p < b for a, p, b in zip(box.low, position, box.high, strict=True)):
                self._violated(box.name)
