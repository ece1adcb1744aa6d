"""What a learner is told of its environment, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from physai.errors import PhysaiError
from physai.spec import PolicySpec


class LearningError(PhysaiError):
    """Raised when the learner's numbers are no longer finite; the last checkpoint is from before."""


class StopAskedError(Exception):
    """Raised inside the loop when somebody asked the run to stop."""


@dataclass(frozen=True)
class Interface:
    """What the learner must know of the environment. Observations are flat, or a Dict of goals for hindsight."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    spec: PolicySpec


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `met` is None where no bar was set; `stopped` when somebody asked."""

    steps: int
    stopped: bool
    met: bool | None
    best: Mapping[str, Any] | None
