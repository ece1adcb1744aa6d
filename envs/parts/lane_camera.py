"""A camera that looks for the lane: it needs time, and now and then it finds nothing for some frames."""

from __future__ import annotations

from collections import deque

import numpy as np

from physai_envs.world import Vector


class LaneCamera:
    """Late and interrupted readings of what the caller knows exactly.

    Where the camera finds nothing the last reading stays, and `age` tells how old it is. Such gaps begin at random and
    end at random, as with glare, worn paint and shadows.

    Args:
        period_s: between two frames [s].
        delay: frames from exposure to reading, at least 1: `expose` is called before a control step, and its end is the
            first moment at which somebody sees what came of it.
        loss: probability that a gap begins with a frame.
        mean_gap: mean length of a gap in frames.

    Attributes:
        reading: values of the last frame in which the lane was found.
        age: how old they are [s].
    """

    def __init__(self, period_s: float, *, delay: int, loss: float, mean_gap: float) -> None:
        self._period, self._delay, self._loss, self._stay = period_s, delay, loss, 1.0 - 1.0 / mean_gap
        self._frames: deque[Vector] = deque()
        self._rng = np.random.default_rng(0)
        self.reading: Vector = ()
        self.age, self._lost = 0.0, False

    def reset(self, rng: np.random.Generator, values: Vector) -> None:
        """Starts with a reading; before, the car drove straight on."""
        self._rng, self._lost = rng, False
        self._frames = deque([values] * (self._delay - 1))
        self.reading, self.age = values, self._delay * self._period

    def expose(self, values: Vector) -> None:
        """Takes a frame, and gives out the one that is due."""
        self._frames.append(values)
        ready = self._frames.popleft()
        self._lost = self._rng.random() < (self._stay if self._lost else self._loss)
        if self._lost:
            self.age += self._period
        else:
            self.reading, self.age = ready, self._delay * self._period
