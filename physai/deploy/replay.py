"""A log as a robot: the same observations again, to see what this policy, or another one, would have commanded."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader
from zstandard import ZstdError

from physai.deploy.bundle import Bundle, command_error
from physai.deploy.io import Replay
from physai.deploy.log import TICK
from physai.deploy.loop import Loop
from physai.deploy.runtime import Runtime
from physai.errors import DeployError


@dataclass(frozen=True)
class Comparison:
    """What came out: how many ticks, how the runtime ended, and the largest difference of a command (share of half)."""

    ticks: int
    state: str
    interventions: int
    difference: float


class _Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def __call__(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the ticks of a log; one that was cut off is read as far as it goes.

    Raises:
        DeployError: if there is no log, or it holds no ticks.
    """
    ticks: list[dict[str, Any]] = []
    try:
        with open(path, "rb") as stream:
            for _, _, message in NonSeekingReader(stream).iter_messages([TICK], log_time_order=False):
                ticks.append(json.loads(message.data))
    except (McapError, struct.error, EOFError, ZstdError):
        pass  # the end is missing; what was read holds
    except (OSError, ValueError) as problem:
        raise DeployError(
            f"log {path} cannot be read ({problem}); give a file that `physai deploy run --log` wrote"
        ) from problem
    if not ticks:
        raise DeployError(f"log {path} holds no ticks; give a file that `physai deploy run --log` wrote")
    return [tick for tick in ticks if "observation" in tick]


def replay(bundle: Bundle, path: Path) -> Comparison:
    """Plays the first job of a log through the whole runtime, as fast as it goes.

    Raises:
        DeployError: if the log cannot be read, or is that of another robot.
    """
    ticks = read_log(path)
    first = next((i for i, tick in enumerate(ticks) if i and tick["tick"] <= ticks[i - 1]["tick"]), len(ticks))
    observations = np.array([tick["observation"] for tick in ticks[:first]], dtype=np.float32)
    if observations.ndim != 2 or observations.shape[1] != bundle.spec.observation_size:
        raise DeployError(f"log {path} is that of another robot: its observations have another size")
    clock = _Clock()
    robot = Replay(bundle.spec, observations, clock)
    runtime = Runtime(bundle, robot, clock=clock)
    Loop(runtime, clock, clock.sleep).run()
    logged = [tick["command"] for tick in ticks[:first]]
    pairs = zip(robot.commands[: len(logged) - 1], logged, strict=False)
    difference = max((float(np.max(command_error(bundle.spec, a, b))) for a, b in pairs), default=0.0)
    return Comparison(runtime.ticks, runtime.state.value, runtime.interventions, difference)
