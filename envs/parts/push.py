"""Somebody who pushes the robot: a horizontal force on its base, for a tenth of a second."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from physai_envs.engine import Vector
from physai_envs.world import Body, World

LASTING_S = 0.1


class Pusher:
    """A sensor by its hooks: Bullet applies an external force in one physics step, so each of them needs it again.

    Args:
        world: the world.
        body: who is pushed.
        control_hz: of the task.
    """

    def __init__(self, world: World, body: Body, control_hz: float) -> None:
        self._body, self._hz = body, control_hz
        self._physics_steps = round(world.physics.hz / control_hz)
        self._forces: dict[int, Vector] = {}  # of each control step in which somebody pushes
        self.reset()

    def plan(self, rng: np.random.Generator, windows: Sequence[tuple[float, float]], impulse: float) -> None:
        """Draws the pushes of an episode, one in each window of time [s], in any direction, of `impulse` [Ns]."""
        self._forces = {}
        newtons = impulse / LASTING_S
        for window in windows:
            first, angle = round(float(rng.uniform(*window)) * self._hz), float(rng.uniform(-math.pi, math.pi))
            force = (newtons * math.cos(angle), newtons * math.sin(angle), 0.0)
            self._forces |= {first + i: force for i in range(round(LASTING_S * self._hz))}

    def reset(self) -> None:
        """Starts the clock; what is planned stays."""
        self._step, self._left = -1, 0
        self._force: Vector | None = None

    def start(self) -> bool:
        """Tells whether somebody pushes in this control step, and pushes in its first physics step."""
        self._step += 1
        self._force, self._left = self._forces.get(self._step), self._physics_steps
        if self._force is None:
            return False
        self.after_physics_step()
        return True

    def after_physics_step(self) -> None:
        """Pushes in the next physics step of the same control step."""
        if self._left and self._force is not None:
            self._left -= 1
            self._body.push(self._force)
