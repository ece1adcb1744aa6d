"""Real time for somebody who watches: an absolute clock, so that no delay adds up."""

from __future__ import annotations

import time
from collections.abc import Callable

LATEST_S = 0.25  # behind by more than this, the lost time is given up: the machine is slower than real time


class Clock:
    """Says how many control steps are due.

    Args:
        hz: control rate.
        now: a clock [s].

    Attributes:
        paused: nothing is due until `resume`.
    """

    def __init__(self, hz: float, now: Callable[[], float] = time.perf_counter) -> None:
        self.hz, self._now = hz, now
        self._speed, self.paused = 1.0, False
        self.restart()

    @property
    def speed(self) -> float:
        """Simulated seconds a second."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        self._speed = speed
        self.restart()

    def restart(self) -> None:
        """Counts from now; what was due is not any more."""
        self._origin, self._done = self._now(), 0

    def pause(self) -> None:
        """Stops."""
        self.paused = True

    def resume(self) -> None:
        """Goes on from here."""
        self.paused = False
        self.restart()

    def due(self) -> int:
        """Returns how many control steps should have been made by now and were not."""
        if self.paused:
            return 0
        elapsed = self._now() - self._origin
        due = int(elapsed * self.hz * self._speed + 1e-9) - self._done
        if due > max(1.0, LATEST_S * self.hz * self._speed):
            self.restart()
            self._done = -1  # one is due at once
            return 1
        return due

    def made(self) -> None:
        """Counts one control step."""
        self._done += 1

    def until_next(self) -> float:
        """Returns the time until a control step is due [s]; that of a picture while paused."""
        if self.paused:
            return 1.0 / 30.0
        return max(0.0, self._origin + (self._done + 1) / (self.hz * self._speed) - self._now())
