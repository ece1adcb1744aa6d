"""The clock of a controller: ticks at absolute times, late ones are skipped and never caught up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from physai.deploy.clock import undisturbed
from physai.deploy.runtime import ACTIVE, Runtime, State

WAIT_SHARE = 0.2  # of a period, for an observation that is a little late
DRIFT_SHARE = 0.05  # of a period, by which a tick may move towards the observations, so that those are fresh


class Loop:
    """Runs a runtime until it rests.

    Attributes:
        skipped: ticks that were left out because the one before took too long.
        late_s: how late each tick began, the worst.
    """

    def __init__(
        self,
        runtime: Runtime,
        clock: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.runtime, self._clock, self._sleep = runtime, clock, sleep
        self.period_ns = round(runtime.control.period_s * 1e9)
        self.skipped, self.late_s = 0, 0.0
        self._wait_s = WAIT_SHARE * runtime.control.period_s

    def run(self, ended: Callable[[], bool] = lambda: False) -> State:
        """Arms the runtime, and ticks until it rests; `ended` is asked before each tick, and true stops it in order.

        Returns:
            The state in which it rests: VERIFIED, or FAULT.
        """
        runtime, period = self.runtime, self.period_ns
        with undisturbed():
            runtime.arm()
            next_tick = self._clock()
            while runtime.state in ACTIVE:
                now = self._clock()
                if now < next_tick:
                    self._sleep((next_tick - now) * 1e-9)
                    now = self._clock()
                self.late_s = max(self.late_s, (now - next_tick) * 1e-9)
                if ended():
                    runtime.stop()
                # Until it starts, ticks wait for observations, so that they follow them; then the clock leads.
                armed = runtime.state is State.ARMED
                runtime.tick(runtime.control.period_s if armed else self._wait_s)
                if armed:
                    next_tick = self._clock() + period
                    continue
                next_tick += period + self._drift(next_tick)
                late = self._clock() - next_tick
                if late > 0:
                    left_out = math.ceil(late / period)
                    self.skipped += left_out
                    next_tick += left_out * period
                    runtime.held(left_out)
        return runtime.state

    def _drift(self, tick: int) -> int:
        """Moves the ticks slowly to just after the observations, so that those are as fresh as they can be."""
        received = self._clock() - round(self.runtime.monitor.oldest_s * 1e9)
        offset = (received - tick) % self.period_ns
        step = round(DRIFT_SHARE * self.period_ns)
        if offset > self.period_ns // 2:
            offset -= self.period_ns
        return max(-step, min(step, offset))
