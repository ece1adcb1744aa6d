"""Toys for the tests of the gate: environments that fail on one seed, or whose outcome a reset option decides."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from evaluation_toys import SPEC, Toy
from numpy.typing import NDArray

FAULTY = "gate_toys:GateToyFaulty-v0"
KILLED, ONCE = "gate_toys:GateToyKilled-v0", "GATE_TOY_ONCE"
HANGING = "gate_toys:GateToyHanging-v0"
SLOW = "gate_toys:GateToySlow-v0"
NARROW = "gate_toys:GateToyNarrow-v0"
CRASHES, RAISES = 1_000_002, 1_000_004  # environment seeds


class Faulty(Toy):
    """Kills its process in one episode, and raises what no simulator should in another."""

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self._time == 3 and self._seed == CRASHES:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._time == 3 and self._seed == RAISES:
            raise ZeroDivisionError("a wheel of no radius\nand a second line")
        return super().step(action)


class Killed(Toy):
    """Is killed from outside, once: by a mark in a file, as a memory that runs out would."""

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        mark = Path(os.environ[ONCE])
        if self._time == 3 and self._seed == CRASHES and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Slow(Toy):
    """Takes long enough to be killed in the middle."""

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        time.sleep(0.005)
        return super().step(action)


class Hanging(Toy):
    """Never returns from a step in one episode, and from the reset in another."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        if seed == RAISES:
            threading.Event().wait()
        return super().reset(seed=seed, options=options)

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self._time == 3 and self._seed == CRASHES:
            threading.Event().wait()
        return super().step(action)


class Narrow(Toy):
    """The same point, which calls its speed otherwise and turns less."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        position, speed = SPEC.observations
        velocity, turn = SPEC.actions
        self.policy_spec = replace(
            SPEC,
            task="GateToyNarrow-v0",
            observations=(position, replace(speed, name="velocity")),
            actions=(velocity, replace(turn, low=(-1.0,), high=(1.0,))),
        )


gym.register("GateToyFaulty-v0", entry_point=Faulty)
gym.register("GateToyKilled-v0", entry_point=Killed)
gym.register("GateToyHanging-v0", entry_point=Hanging)
gym.register("GateToySlow-v0", entry_point=Slow)
gym.register("GateToyNarrow-v0", entry_point=Narrow)
