"""Sensors that look between control steps, at every physics step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from physai_envs.world import Body, World


class Sensor(Protocol):
    """Something that looks at every physics step."""

    def reset(self) -> None:
        """Forgets the last episode."""

    def start(self) -> bool | None:
        """Called at the beginning of each control step; False if there is nothing to look at in it."""

    def after_physics_step(self) -> None:
        """Takes a sample."""


class ContactMeter:
    """Sum of the normal forces between two bodies.

    Args:
        world: the world.
        a: one body.
        b: the other.
        near: tells at the beginning of a control step whether they can touch in it; else it does not look.

    Attributes:
        mean: over the last control step [N].
        peak: largest of a physics step in the episode [N].
    """

    def __init__(self, world: World, a: Body, b: Body, near: Callable[[], bool] = lambda: True) -> None:
        self._world, self._a, self._b, self._near = world, a, b, near
        self.reset()

    def reset(self) -> None:
        """Forgets the peak."""
        self.peak, self._sum, self._count = 0.0, 0.0, 0

    def start(self) -> bool:
        """Starts a new average, and tells whether there is anything to look at."""
        self._sum, self._count = 0.0, 0
        return self._near()

    def after_physics_step(self) -> None:
        """Adds one sample."""
        force = self._world.contact_force(self._a, self._b)
        self._count += 1
        if force:
            self._sum += force
            if force > self.peak:
                self.peak = force

    @property
    def mean(self) -> float:
        """Mean force over the last control step [N]."""
        return self._sum / self._count if self._count else 0.0
