"""Plays whole episodes and writes down what happened in each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from physai.errors import SimulationError
from physai.spec import PolicySpec


class Actor(Protocol):
    """What an episode asks for actions: `physai.policy.Policy`, or a learner's policy."""

    spec: PolicySpec

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Maps observations (n, m) to actions (n, k)."""
        ...

    def reset(self) -> None:
        """Forgets the episode so far."""
        ...


@dataclass(frozen=True)
class EpisodeRecord:
    """One finished episode.

    Attributes:
        seed: which episode.
        steps: control steps.
        episode_return: sum of rewards.
        success: ``is_success`` at the end; None if the environment does not say.
        success_at: control steps until success was first reported; None if never.
        reward_terms: sum of each unweighted term.
        metrics: the task's own figures.
        action_change: mean squared change of the action from step to step; of choices, the share of changes.
        seconds: wall time.
        physics_seconds: of it, inside the engine; 0 where the environment does not say.
    """

    seed: int
    steps: int
    episode_return: float
    success: bool | None
    success_at: int | None
    reward_terms: Mapping[str, float]
    metrics: Mapping[str, float]
    action_change: float
    seconds: float
    physics_seconds: float


@dataclass(frozen=True)
class EpisodeFailure:
    """An episode that could not be played to its end, and in one sentence why.

    `point` says at which point of a grid of perturbations; -1 is the task as it is.
    """

    seed: int
    error: str
    point: int = -1


def play(
    env: gym.Env[Any, Any],
    policy: Actor,
    seed: int,
    options: Mapping[str, Any] | None = None,
    on_step: Callable[[int, Mapping[str, Any]], None] | None = None,
) -> EpisodeRecord:
    """Plays one episode.

    Args:
        env: the environment; it stays open.
        policy: asked with one observation at a time.
        seed: which episode.
        options: passed to the reset.
        on_step: called after the reset (with step 0 and its info) and after each step, to look at the environment.

    Raises:
        SimulationError: if an observation, an action or a reward is not finite; names the seed.
    """
    started, physics_before = time.perf_counter(), _physics_seconds(env)
    observation, info = env.reset(seed=seed, options=dict(options) if options else None)
    policy.reset()
    if on_step is not None:
        on_step(0, info)
    spec, total, success_at = policy.spec, 0.0, None
    terms: dict[str, float] = {}
    actions: list[NDArray[Any]] = []
    done = False
    while not done:
        steps = len(actions)
        action = policy.act(finite(observation, "an observation", seed, steps)[None])[0]
        actions.append(finite(action, "an action of the policy", seed, steps))
        observation, reward, terminated, truncated, info = env.step(to_env(spec, action))
        total += finite_number(reward, "the reward", seed, steps + 1)
        given = info.get("reward_terms", {})
        for name, value in given.items():
            terms[name] = terms.get(name, 0.0) + float(value)
        if not isfinite(sum(terms.values())):  # one look at all of them, which are as good as always fine
            for name, value in given.items():
                finite_number(value, f"reward term {name!r}", seed, steps + 1)
        if success_at is None and info.get("is_success"):
            success_at = steps + 1
        done = bool(terminated or truncated)
        if on_step is not None:
            on_step(steps + 1, info)
    steps = len(actions)
    success = bool(info["is_success"]) if "is_success" in info else None
    metrics = {k: finite_number(v, f"metric {k!r}", seed, steps) for k, v in info.get("metrics", {}).items()}
    return EpisodeRecord(
        seed, steps, total, success, success_at, terms, metrics, action_change(spec, np.asarray(actions)),
        time.perf_counter() - started, _physics_seconds(env) - physics_before,
    )  # fmt: skip


def to_env(spec: PolicySpec, action: NDArray[Any]) -> Any:
    """Returns an action (k,) in the form that the environment takes: an integer where it is a choice."""
    return int(action[0]) if spec.discrete else action


def action_change(spec: PolicySpec, actions: NDArray[Any]) -> float:
    """Mean squared change of the actions (t, k) from step to step; of choices, the share of changes."""
    if len(actions) < 2:
        return 0.0
    if spec.discrete:
        return float(np.mean(actions[1:, 0] != actions[:-1, 0]))
    return float(np.mean(np.square(np.diff(actions.astype(np.float64), axis=0))))


def finite(value: Any, what: str, seed: int, step: int) -> NDArray[Any]:
    """Returns the value as an array.

    Raises:
        SimulationError: if it is not finite.
    """
    array = np.asarray(value)
    flat = array.ravel()
    if not isfinite(flat.dot(flat)) and not np.isfinite(array).all():  # the sum of squares is four times as fast
        raise _not_finite(value, what, seed, step)
    return array


def finite_number(value: Any, what: str, seed: int, step: int) -> float:
    """Returns the value as a float.

    Raises:
        SimulationError: if it is not finite.
    """
    number = float(value)
    if not isfinite(number):
        raise _not_finite(value, what, seed, step)
    return number


def _not_finite(value: Any, what: str, seed: int, step: int) -> SimulationError:
    return SimulationError(f"{what} is not finite ({value}) in the episode with seed {seed}, step {step}")


def _physics_seconds(env: gym.Env[Any, Any]) -> float:
    return float(getattr(env.unwrapped, "seconds_in_physics", 0.0))
