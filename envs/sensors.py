"""Sensors that look between control steps: force meters sampled at every physics step."""

from __future__ import annotations

from typing import Protocol

from physai_envs.robot import Robot
from physai_envs.world import Body, Vector, World


class Sensor(Protocol):
    """Something that is sampled after every physics step."""

    def reset(self) -> None:
        """Forgets the last episode."""

    def start(self) -> bool | None:
        """Called at the beginning of each control step; False if there is nothing to sample in it."""

    def after_physics_step(self) -> None:
        """Takes a sample."""


class WrenchSensor:
    """Force and torque between flange and tool, averaged over a control step as such sensors filter.

    The average is of the reaction in the sensor's frame, weight and inertia of the tool included.
    """

    def __init__(self, robot: Robot) -> None:
        self._body, self._joint = robot.body, [robot.wrench_joint]
        self.reset()

    def reset(self) -> None:
        """Reads zero until the first step."""
        self._sum, self._count = [0.0] * 6, 1

    def start(self) -> None:
        """Starts a new average."""
        self._sum, self._count = [0.0] * 6, 0

    def after_physics_step(self) -> None:
        """Adds one sample."""
        self._sum = [a + b for a, b in zip(self._sum, self._body.read_joints(self._joint)[0][2], strict=True)]
        self._count += 1

    @property
    def wrench(self) -> Vector:
        """(fx, fy, fz, tx, ty, tz) [N, Nm], in the flange frame."""
        return tuple(v / self._count for v in self._sum)


class ContactMeter:
    """Sum of the normal forces between two bodies.

    Attributes:
        mean: over the last control step [N].
        peak: largest over the episode, of the mean over `window` physics steps [N].
    """

    def __init__(self, world: World, a: Body, b: Body, window: int = 1) -> None:
        self._world, self._a, self._b, self._window = world, a, b, window
        self.reset()

    def reset(self) -> None:
        """Forgets the peak."""
        self.peak = 0.0
        self._recent = [0.0] * self._window
        self._sum, self._count = 0.0, 1

    def start(self) -> None:
        """Starts a new average."""
        self._sum, self._count = 0.0, 0

    def after_physics_step(self) -> None:
        """Adds one sample."""
        force = self._world.contact_force(self._a, self._b)
        self._recent[self._count % self._window] = force
        self._sum += force
        self._count += 1
        level = sum(self._recent) / self._window
        if level > self.peak:
            self.peak = level

    @property
    def mean(self) -> float:
        """Mean force over the last control step [N]."""
        return self._sum / self._count
