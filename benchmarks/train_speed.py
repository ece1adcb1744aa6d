"""Prints how much of the machine training uses: its steps a second against cores times one environment alone.

The environment alone plays what the training played, at difficulties, with actions and so with contacts that the
training had: episodes are taken from its checkpoints, one after the other in one process. Beside it stands how fast the
same environment is when it moves at random, which for a peg is mostly through the air.

Both are measured in turns, so that a machine that is busy with something else is busy for both.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, cycle
from pathlib import Path
from typing import Any

import numpy as np

import physai_configs
from physai.config import RunConfig
from physai.train.checkpoint import unpack_state
from physai.train.driver import train
from physai_envs import registry

RAW_SECONDS = 5.0
WARM_UP_EPISODES = 20
SAVE_EVERY = 3  # iterations, so that the episodes are from all of the run
SKIPPED_ITERATIONS = 2  # actors start, and the first iteration is for the statistics alone


def alone(task: str, episodes: Iterable[tuple[int, Mapping[str, Any], Iterable[Any]]]) -> float:
    """Returns control steps a second of one environment on one core, resets included.

    Args:
        task: its id.
        episodes: seed, reset options and actions of each.
    """
    env, steps, started = registry.make(task), 0, 0.0
    for number, (seed, options, actions) in enumerate(episodes):
        if number == WARM_UP_EPISODES:
            steps, started = 0, time.perf_counter()
        elif started and time.perf_counter() - started > RAW_SECONDS:
            break
        env.reset(seed=seed, options=dict(options))
        for action in actions:
            steps += 1
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                break
    env.close()
    return steps / (time.perf_counter() - started)


def at_random(task: str) -> Iterator[tuple[int, Mapping[str, Any], Iterable[Any]]]:
    """Episodes of random actions without end."""
    env = registry.make(task)
    rng, size = np.random.default_rng(0), registry.policy_spec(env).action_size
    env.close()
    for seed in count():
        yield seed, {}, np.clip(0.6 * rng.standard_normal((1000, size)), -1, 1).astype(np.float32)


def as_played(run: Path) -> list[tuple[int, Mapping[str, Any], Iterable[Any]]]:
    """Episodes that a run was playing when it saved its checkpoints."""
    states = [unpack_state(file.read_bytes())[1] for file in sorted(run.glob("checkpoints/*/state.npz"))]
    return [
        (env.seed, env.options, env.actions)
        for groups in states
        for group in groups.values()
        for env in group
        if len(env.actions)
    ]


def train_once(config: RunConfig, folder: str) -> tuple[Path, float, float, float]:
    """Trains, and returns the run, steps a second, the learner's share of the time, and the share in the engine."""
    run = Path(str(train(config.model_copy(update={"storage": folder}), quiet=True)))
    with (run / "progress.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[SKIPPED_ITERATIONS:-1]  # the last one measures the policy as well
    seconds = sum(float(row["seconds"]) for row in rows)
    busy, physics = (
        sum(float(row[k]) * float(row["seconds"]) for row in rows) / seconds for k in ("learner_busy", "physics")
    )
    return run, len(rows) * config.steps_per_iteration / seconds, busy, physics


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="peg_insertion", help="one of configs/, by name")
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("overrides", nargs="*", help="key=value, such as rollout.max_policy_lag=1")
    options = parser.parse_args()
    path = Path(physai_configs.__path__[0]) / f"{options.config}.yaml"
    config = RunConfig.load(path, ["warm_start=null", "stop.success=null", *options.overrides])
    steps = options.iterations * config.steps_per_iteration
    stop = config.stop.model_copy(update={"steps": steps, "every_steps": steps, "episodes": 1})
    saving = config.checkpoint.model_copy(update={"every_iterations": SAVE_EVERY, "keep": options.iterations})
    config = config.model_copy(update={"stop": stop, "checkpoint": saving})
    cores, shares = os.cpu_count() or 1, []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            run, rate, busy, physics = train_once(config, folder)
            played, random = alone(config.task, cycle(as_played(run))), alone(config.task, at_random(config.task))
        shares.append(rate / (cores * played))
        sys.stdout.write(
            f"{config.task}, round {number + 1}: training {rate:,.0f} steps/s (learner busy {busy:.0%}, in physics "
            f"{physics:.0%}); one environment alone plays the same at {played:,.0f} steps/s x {cores} cores: "
            f"{shares[-1]:.0%}; at random {random:,.0f} x {cores}: {rate / (cores * random):.0%}\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"median {statistics.median(shares):.0%} with max_policy_lag {config.rollout.max_policy_lag}\n")


if __name__ == "__main__":
    main()
