"""What the runtime asks of a robot: say what you have, read, send, stop. One small protocol; drivers implement it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from physai.spec import PolicySpec


@dataclass(frozen=True)
class Features:
    """What a robot has, known before it is connected.

    Attributes:
        observations: size of each term, by name and in order; units and frames are those of the task.
        commands: names of the elements of each command, by name and in order.
        rate_hz: at which it takes commands.
        resolution: of terms whose sensors have steps that are coarser than single precision, in the term's unit. A
            noisy term that repeats itself to the last bit counts as frozen, a coarse one later or never.
    """

    observations: dict[str, int]
    commands: dict[str, tuple[str, ...]]
    rate_hz: float
    resolution: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: PolicySpec) -> Features:
        """What a policy wants of a robot."""
        return cls(
            {term.name: term.size for term in spec.observations},
            {term.name: term.elements for term in spec.actions},
            spec.control_hz,
        )


@dataclass
class Reading:
    """The newest that is known of a robot; the driver writes into one and the same object.

    Attributes:
        values: (m,) in the order of the policy; terms that did not come keep their last value.
        received_ns: for each term, when it came, by `time.monotonic_ns` of the receiver.
        sequence: for each term, the number of the reading, which grows.
        follows: whether the actuators do what they are told; False while they brake by themselves.
        stopped: whether something stopped them for good: a watchdog, an emergency stop.
        done: whether the job is finished.
    """

    values: NDArray[np.float32]
    received_ns: list[int]
    sequence: list[int]
    follows: bool = True
    stopped: bool = False
    done: bool = False

    @classmethod
    def empty(cls, spec: PolicySpec) -> Reading:
        """A reading of which nothing has come yet."""
        terms = len(spec.observations)
        return cls(np.full(spec.observation_size, np.nan, np.float32), [0] * terms, [0] * terms)


class RobotIO(Protocol):
    """A robot, a simulated one, or a recording.

    Failures are raised as OSError: the runtime stops and latches a fault.
    """

    @property
    def features(self) -> Features:
        """What it has; works without a connection."""
        ...

    def connect(self) -> None:
        """Connects. Nothing moves."""
        ...

    def read(self, wait_s: float) -> Reading:
        """Returns the newest reading; waits for one that is newer than the last, but no longer than `wait_s`."""
        ...

    def send(self, command: Sequence[float], valid_s: float, tick: int) -> Sequence[float]:
        """Sends a command that expires after `valid_s`, when the actuators must brake by themselves.

        Returns:
            What was really sent, after whatever the driver clips or rounds.
        """
        ...

    def stop(self) -> None:
        """Tells the actuators to brake and to take no more commands until somebody starts a new job."""
        ...

    def stopper(self) -> Callable[[], None]:
        """Returns a function that stops the robot over a connection of its own; a watchdog calls it in its process."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


def _no_stop() -> None:
    """A recording has nothing that could be stopped."""


@dataclass
class Replay:
    """A recording instead of a robot: observations come from it, commands are kept for comparison.

    Attributes:
        observations: (t, m).
        commands: what was sent, in order.
    """

    spec: PolicySpec
    observations: NDArray[np.float32]
    clock: Callable[[], int]
    commands: list[list[float]] = field(default_factory=list)
    _at: int = 0

    def __post_init__(self) -> None:
        self._reading = Reading.empty(self.spec)

    @property
    def features(self) -> Features:
        """What the recorded robot had; not how fine, since what repeats itself in a recording may not have come."""
        return replace(Features.of(self.spec), resolution={term.name: math.inf for term in self.spec.observations})

    def connect(self) -> None:
        """Begins from the first observation."""
        self._at, self.commands = 0, []

    def read(self, wait_s: float) -> Reading:
        """Returns the next observation; the last one stays."""
        reading = self._reading
        if self._at < len(self.observations):
            reading.values[:] = self.observations[self._at]
            self._at += 1
            now = self.clock()
            for term in range(len(reading.sequence)):
                reading.received_ns[term], reading.sequence[term] = now, self._at
        reading.done = self._at >= len(self.observations)
        return reading

    def send(self, command: Sequence[float], valid_s: float, tick: int) -> Sequence[float]:
        """Keeps the command."""
        self.commands.append(list(command))
        return command

    def stop(self) -> None:
        """Nothing moves."""

    def stopper(self) -> Callable[[], None]:
        """Nothing moves."""
        return _no_stop

    def close(self) -> None:
        """Nothing is open."""
