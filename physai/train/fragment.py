"""What travels between actors and learner: where a group stands, what happened in it, and what it teaches.

The loop of a group writes down a `Trace`; the behaviour policy of the algorithm turns it into the arrays of a fragment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.train.normalizer import Moments

Array = NDArray[Any]


@dataclass(frozen=True)
class Episode:
    """A finished training episode; `success` is None where the environment does not say."""

    seed: int
    difficulty: float
    length: int
    episode_return: float
    success: bool | None
    reward_terms: Mapping[str, float]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class EnvState:
    """Where one environment stands: which episode it plays, and what was done in it, (n, k) or (n,) for choices.

    `memory` is that of a recurrent policy after the last step, (4, layers, size).
    """

    episode: int
    seed: int
    options: Mapping[str, Any]
    actions: NDArray[Any]
    observation: NDArray[np.float32]
    memory: NDArray[np.float32] | None = None


GroupState = tuple[EnvState, ...]


@dataclass(frozen=True)
class Job:
    """One fragment to collect. `state` is None at the beginning of a run."""

    group: int
    iteration: int
    state: GroupState | None


@dataclass
class Trace:
    """T steps of E environments as they happened; nothing is normalised.

    `ended` are the last observations of episodes: (step, environment, observation, whether the clock cut it off).
    """

    observations: NDArray[np.float32]  # (T, E, m) before each step
    actions: Array  # (T, E, k) as drawn, before clipping
    sent: Array  # (T, E, k), or (T, E) for choices, as done
    rewards: NDArray[np.float32]  # (T, E)
    episode_starts: NDArray[np.float32]  # (T, E)
    last: NDArray[np.float32]  # (E, m) after the last step
    last_dones: NDArray[np.bool_]  # (E,)
    ended: list[tuple[int, int, NDArray[np.float32], bool]] = field(default_factory=list)


@dataclass(frozen=True)
class Fragment:
    """What a group saw in T steps of its E environments, for any algorithm; subclasses add what theirs learns from."""

    group: int
    iteration: int
    version: int
    observations: NDArray[np.float32]  # (T, E, m)
    actions: Array  # (T, E, k)
    rewards: NDArray[np.float32]  # (T, E)
    observation_moments: Moments
    return_moments: Moments
    episodes: tuple[Episode, ...]
    state: GroupState
    rebuilt: int  # steps played again to get to where the group stood
    reproducible: bool  # False when playing again led somewhere else
    physics_s: float
    seconds: float

    @property
    def steps(self) -> int:
        """Control steps in it."""
        return int(self.rewards.size)


@dataclass(frozen=True)
class OnPolicyFragment(Fragment):
    """For algorithms that learn from the newest experience: observations and rewards are normalised.

    Actions are as drawn, before clipping. The value of the last observation is added to the reward where an episode
    was cut off by its clock. `last_values` and `last_dones` (E,) belong to the observation after the last step.
    """

    episode_starts: NDArray[np.float32]  # (T, E)
    values: NDArray[np.float32]  # (T, E)
    log_probs: NDArray[np.float32]  # (T, E)
    last_values: NDArray[np.float32]
    last_dones: NDArray[np.bool_]


@dataclass(frozen=True)
class RecurrentFragment(OnPolicyFragment):
    """With the memory before the first step, from which the learner computes all others."""

    memory: NDArray[np.float32]  # (E, 4, layers, size)


@dataclass(frozen=True)
class ReplayFragment(Fragment):
    """For replay: observations and rewards are raw, since statistics will have changed when they are replayed.

    Actions are scaled to [-1, 1]. The next observation of a last step is what was seen then, and not the next episode.
    """

    next_observations: NDArray[np.float32]  # (T, E, m)
    dones: NDArray[np.bool_]  # (T, E)
    timeouts: NDArray[np.bool_]  # (T, E): of these, cut off by the clock
