"""Plays whole episodes and writes down what happened in each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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


def run_episodes(
    env_factory: Callable[[], gym.Env[Any, Any]],
    policy: Actor,
    seeds: Iterable[int],
    options: Mapping[str, Any] | None = None,
    on_episode: Callable[[EpisodeRecord], None] | None = None,
) -> list[EpisodeRecord]:
    """Plays one episode for each seed in one environment, in this process.

    Args:
        env_factory: makes the environment, which is closed afterwards.
        policy: asked with one observation at a time.
        seeds: which episodes.
        options: passed to every reset.
        on_episode: called with each record as it is made.

    Raises:
        SimulationError: if an observation, an action or a reward is not finite; names the seed.
    """
    env = env_factory()
    records = []
    try:
        for seed in seeds:
            records.append(play(env, policy, seed, options))
            if on_episode is not None:
                on_episode(records[-1])
    finally:
        env.close()
    return records


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
    steps, total, change, success_at = 0, 0.0, 0.0, None
    terms: dict[str, float] = {}
    last: NDArray[Any] | None = None
    done = False
    while not done:
        action = policy.act(finite(observation, "an observation", seed, steps)[None])[0]
        finite(action, "an action of the policy", seed, steps)
        if last is not None:
            change += action_change(policy.spec, last, action)
        last = action
        observation, reward, terminated, truncated, info = env.step(to_env(policy.spec, action))
        steps += 1
        total += float(finite(reward, "the reward", seed, steps))
        for name, value in info.get("reward_terms", {}).items():
            terms[name] = terms.get(name, 0.0) + float(finite(value, f"reward term {name!r}", seed, steps))
        if success_at is None and info.get("is_success"):
            success_at = steps
        done = bool(terminated or truncated)
        if on_step is not None:
            on_step(steps, info)
    success = bool(info["is_success"]) if "is_success" in info else None
    metrics = {k: float(finite(v, f"metric {k!r}", seed, steps)) for k, v in info.get("metrics", {}).items()}
    return EpisodeRecord(
        seed, steps, total, success, success_at, terms, metrics, change / max(1, steps - 1),
        time.perf_counter() - started, _physics_seconds(env) - physics_before,
    )  # fmt: skip


def to_env(spec: PolicySpec, action: NDArray[Any]) -> Any:
    """Returns an action (k,) in the form that the environment takes: an integer where it is a choice."""
    return int(action[0]) if spec.discrete else action


def action_change(spec: PolicySpec, before: NDArray[Any], after: NDArray[Any]) -> float:
    """Mean squared difference of two actions; of choices, whether they differ."""
    if spec.discrete:
        return float(before[0] != after[0])
    return float(np.mean(np.square(after.astype(np.float64) - before)))


def finite(value: Any, what: str, seed: int, step: int) -> NDArray[Any]:
    """Returns the value as an array.

    Raises:
        SimulationError: if it is not finite.
    """
    array = np.asarray(value)
    if not np.isfinite(array).all():
        raise SimulationError(f"{what} is not finite ({value}) in the episode with seed {seed}, step {step}")
    return array


def _physics_seconds(env: gym.Env[Any, Any]) -> float:
    return float(getattr(env.unwrapped, "seconds_in_physics", 0.0))
