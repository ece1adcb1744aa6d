"""A second process that stops the robot when the control loop does not beat any more: frozen, killed, or starved.

It shares a few numbers in memory with the loop and has its own connection to the robot. It is software on the same
machine: a safety-rated device must be able to stop the robot without it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from ctypes import c_int64
from typing import Any

from physai.deploy.clock import PRIORITY, real_time
from physai.errors import DeployError

BEAT, ARMED, TRIPPED, READY, PARENT = range(5)  # places in the shared memory; times by CLOCK_MONOTONIC [ns]
LOOKS = 8  # within the time that it waits
START_S = 60.0


class Watchdog:
    """The side of the control loop.

    Args:
        timeout_s: without a beat for so long, the robot is stopped.
        stopper: stops it; called in the other process, so it must be picklable and open its own connection.
    """

    def __init__(self, timeout_s: float, stopper: Callable[[], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self._shared: Any = context.RawArray(c_int64, 5)
        self._shared[PARENT] = os.getpid()
        self._process = context.Process(target=_watch, args=(self._shared, timeout_s, stopper), daemon=True)

    def start(self) -> None:
        """Starts the process, and waits until it watches.

        Raises:
            DeployError: if it does not come up.
        """
        self._process.start()
        until = time.monotonic() + START_S
        while not self._shared[READY]:
            if time.monotonic() > until or not self._process.is_alive():
                raise DeployError("the watchdog process does not start; without it nothing is armed")
            time.sleep(0.01)

    def arm(self) -> None:
        """From now on it wants beats."""
        self.beat()
        self._shared[ARMED] = 1

    def beat(self) -> None:
        """The loop is alive."""
        self._shared[BEAT] = time.monotonic_ns()

    def disarm(self) -> None:
        """The robot is at rest."""
        self._shared[ARMED] = 0

    def acknowledge(self) -> None:
        """A person knows that it has stopped the robot."""
        self._shared[TRIPPED] = 0

    @property
    def tripped(self) -> bool:
        """Whether it has stopped the robot."""
        return bool(self._shared[TRIPPED])

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.is_alive()

    def close(self) -> None:
        """Ends the process."""
        self.disarm()
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()


def _watch(shared: Any, timeout_s: float, stopper: Callable[[], None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the loop, which stops the robot in an orderly way
    real_time(PRIORITY + 1)
    limit = round(timeout_s * 1e9)
    shared[READY] = 1
    while True:
        time.sleep(timeout_s / LOOKS)
        if shared[ARMED] and time.monotonic_ns() - shared[BEAT] > limit:
            shared[TRIPPED], shared[ARMED] = 1, 0
            with contextlib.suppress(OSError):  # gone already, and then its own expiry stops it
                stopper()
        if os.getppid() != shared[PARENT] and not shared[ARMED]:
            return
