"""A robot and a clock for the tests of the runtime: nothing is real but the policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from physai.deploy.bundle import Bundle, load_bundle
from physai.deploy.io import Features, Reading
from physai.deploy.loop import Loop
from physai.deploy.runtime import Runtime
from physai.policy import shipped_policy


class Clock:
    """Time that passes when somebody sleeps, or when it is told to."""

    def __init__(self) -> None:
        self.now = 10**12

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(0, round(seconds * 1e9))


class FakeRobot:
    """Shows the first golden observation with a little noise, and keeps what it is told."""

    def __init__(self, bundle: Bundle, clock: Clock) -> None:
        self.bundle, self.clock = bundle, clock
        self.reading = Reading.empty(bundle.spec)
        self.normal = bundle.golden[0][0][0]
        self.rng = np.random.default_rng(0)
        self.sent: list[list[float]] = []
        self.valid_s: list[float] = []
        self.ticks: list[int] = []
        self.stops = 0
        self.silent: set[int] = set()  # terms that do not come
        self.frozen: set[int] = set()  # terms that do not change
        self.before_reading: Callable[[FakeRobot], None] = lambda robot: None
        self.has = Features.of(bundle.spec)

    @property
    def features(self) -> Features:
        return self.has

    def connect(self) -> None: ...

    def read(self, wait_s: float) -> Reading:
        self.before_reading(self)
        reading = self.reading
        for index, (name, part) in enumerate(self.bundle.spec.observation_slices.items()):
            if index in self.silent:
                continue
            if index not in self.frozen:
                noise = 1e-4 * self.rng.standard_normal(part.stop - part.start)
                reading.values[part] = self.normal[part] + (0.0 if name == "time_left" else noise)
            reading.sequence[index] += 1
            reading.received_ns[index] = self.clock()
        return reading

    def send(self, command: Sequence[float], valid_s: float, tick: int) -> Sequence[float]:
        self.sent.append(list(command))
        self.valid_s.append(valid_s)
        self.ticks.append(tick)
        return command

    def stop(self) -> None:
        self.stops += 1

    def stopper(self) -> Callable[[], None]:
        return _nothing

    def close(self) -> None: ...


def _nothing() -> None: ...


class Graph:
    """A policy that says what it is told to say."""

    def __init__(self, says: Callable[[], Sequence[float]]) -> None:
        self.says, self.resets = says, 0

    def __call__(self, observation: Any) -> Any:
        return np.array([self.says()], dtype=np.float32)

    def reset(self) -> None:
        self.resets += 1


class Recurrent:
    """A policy that remembers the mean of what it saw, in a memory of two parts."""

    def __init__(self) -> None:
        self.initial = {"sum": np.zeros((1, 1, 2), np.float32), "steps": np.zeros((1,), np.float32)}
        self.reset()

    def reset(self) -> None:
        self.memory = dict(self.initial)

    def __call__(self, observation: Any) -> Any:
        command, self.memory = self.step(observation, self.memory)
        return command

    def step(self, observation: Any, memory: Any) -> Any:
        after = {"sum": memory["sum"] + observation[0, :2], "steps": memory["steps"] + 1}
        mean = (after["sum"] / after["steps"]).ravel()
        return np.array([[*mean, after["steps"][0]]], np.float32), after


class FakeWatchdog:
    """One that is told what happened."""

    def __init__(self) -> None:
        self.beats, self.armed, self.tripped, self.alive = 0, False, False, True

    def arm(self) -> None:
        self.armed = True

    def disarm(self) -> None:
        self.armed = False

    def beat(self) -> None:
        self.beats += 1

    def acknowledge(self) -> None:
        self.tripped = False


class FakeLog:
    """One that keeps all in a list."""

    def __init__(self) -> None:
        self.failed: str | None = None
        self.records: list[tuple[dict[str, Any], str]] = []

    def put(self, record: dict[str, Any], event: str = "") -> None:
        self.records.append((record, event))


class Setup:
    """A runtime with everything around it, of the policy that ships for Reach."""

    def __init__(self, says: Callable[[], Sequence[float]] | None = None, **options: Any) -> None:
        self.bundle = replace(load_bundle(shipped_policy("reach")), seconds=np.full(10, 1e-4))
        if says is not None:
            self.bundle = replace(self.bundle, graph=Graph(says))  # type: ignore[arg-type]
        self.clock, self.log, self.watchdog = Clock(), FakeLog(), FakeWatchdog()
        self.robot = FakeRobot(self.bundle, self.clock)
        known = {"log": self.log, "watchdog": self.watchdog, **options}
        self.runtime = Runtime(self.bundle, self.robot, clock=self.clock, **known)
        self.control = self.runtime.control

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.sleep(self.control.period_s)
            self.runtime.tick()

    def running(self) -> Setup:
        """Arms it, and ticks until it runs."""
        self.runtime.arm()
        self.tick(10)
        return self

    def loop(self) -> Loop:
        return Loop(self.runtime, self.clock, self.clock.sleep)
