"""Records episodes of a task's scripted expert, to look at or to learn from.

A recording is one NPZ file without pickle, flat over the episodes:

    observations (N, m) float32   what the robot sensed before each step, noise included
    actions      (N, k) float32   what the expert did, in [-1, 1]
    rewards      (N,)   float32
    starts       (E,)   int64     row at which each episode begins
    seeds        (E,)   int64     of the training range, so that no evaluation has them
    success      (E,)   bool
    spec         ()     str       JSON of `physai.spec.PolicySpec`: names, units and limits of the columns
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.errors import ConfigError, EpisodeError, StorageError
from physai.evaluate.progress import Meter
from physai_envs import registry


@dataclass(frozen=True)
class Demo:
    """One episode: observations (n, m), actions (n, k), rewards (n,), and whether it succeeded."""

    seed: int
    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    success: bool


def record(
    task: str, path: str | Path, *, episodes: int = 50, seed: int = 0, difficulty: float = 1.0,
    workers: int | None = None, progress: bool = True,
) -> list[Demo]:  # fmt: skip
    """Plays a task's expert and writes what it did. Episode i has the environment seed `seed` + i.

    Raises:
        ConfigError: if the task has no expert, or a seed is not of the training range.
        StorageError: if the file cannot be written.
        EpisodeError: if an episode breaks; names its seed.
    """
    from physai_envs.env import TEST_SEED_START  # starts the simulator

    if registry.task(task).expert is None:
        able = ", ".join(registry.slug(t.id) for t in registry.tasks() if t.expert is not None)
        raise ConfigError(f"{task} has no scripted expert; those that have one: {able}")
    if not 0 <= seed <= TEST_SEED_START - episodes:
        raise ConfigError(
            f"seeds {seed} to {seed + episodes - 1} are not all of the training range; "
            f"keep them between 0 and {TEST_SEED_START - 1:,}"
        )
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise StorageError(f"{target} cannot be written; name a file in a folder that exists")
    demos = []
    count = min(workers or len(os.sched_getaffinity(0)), episodes)
    with (
        Meter("demonstrations", episodes, shown=progress) as meter,
        ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        for demo in pool.map(partial(_play, task, difficulty=difficulty), range(seed, seed + episodes)):
            demos.append(demo)
            meter.advance(1, f"{sum(d.success for d in demos)} succeeded")
    write(target, task, demos)
    return demos


def write(path: Path, task: str, demos: Sequence[Demo]) -> None:
    """Writes a recording, complete or not at all.

    Raises:
        StorageError: if the disk refuses.
    """
    lengths = [len(demo.rewards) for demo in demos]
    arrays: dict[str, Any] = {
        "observations": np.concatenate([demo.observations for demo in demos]),
        "actions": np.concatenate([demo.actions for demo in demos]),
        "rewards": np.concatenate([demo.rewards for demo in demos]),
        "starts": np.cumsum([0, *lengths[:-1]]),
        "seeds": np.array([demo.seed for demo in demos]),
        "success": np.array([demo.success for demo in demos]),
        "spec": np.array(json.dumps(registry.task(task).policy_spec().to_dict())),
    }
    partial_path = path.with_name(f".{path.name}.partial")
    try:
        with partial_path.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(partial_path, path)
    except OSError as failure:
        partial_path.unlink(missing_ok=True)
        raise StorageError(
            f"{path} cannot be written ({failure.strerror}); give another place or free some"
        ) from failure


@lru_cache(maxsize=1)
def _environment(task: str) -> Any:
    return registry.make(task).unwrapped


def _play(task: str, seed: int, *, difficulty: float) -> Demo:
    env = _environment(task)
    observations, actions, rewards = [], [], []
    try:
        observation, info = env.reset(seed=seed, options={"difficulty": difficulty})
        ended = False
        while not ended:
            observations.append(observation)
            actions.append(env.expert_action())
            observation, reward, terminated, truncated, info = env.step(actions[-1])
            rewards.append(reward)
            ended = terminated or truncated
    except Exception as error:
        text = f"{error or type(error).__name__} (demonstration of {task} with seed {seed}, step {len(rewards)})"
        raise EpisodeError(text, seed, len(rewards)) from error
    return Demo(
        seed, np.stack(observations), np.stack(actions), np.array(rewards, np.float32), bool(info["is_success"])
    )
