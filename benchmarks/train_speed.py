"""Prints how much of the machine training uses: its steps a second against cores times one environment alone.

The environment alone does the very steps that the training did: after each checkpoint the fragments of all groups are
collected again, since they are pure functions, and then played by one environment in one process, with the time running
for those steps and the resets among them. Beside it stands how fast the same environment is when it moves at
random, which for a peg is mostly through the air.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import physai_configs
from physai.config import RunConfig
from physai.train import seeding, state
from physai.train.behaviour import Package
from physai.train.driver import inspect, train
from physai.train.fragment import Job
from physai.train.learner import Learner
from physai.train.progress import TerminalBoard
from physai.train.run_dir import CHECKPOINTS, RunFolder
from physai.train.work import InProcessFleet
from physai_envs import registry

RANDOM_STEPS = 40_000
WARM_UP = 20  # pieces that are played once before the time counts
SAVE_EVERY = 3  # iterations, so that the steps are from all of the run
SKIPPED_ITERATIONS = 2  # actors start, and the first iteration is for the statistics alone


@dataclass(frozen=True)
class Played:
    """Steps of one environment: an episode up to where they begin, what was done then, and the episodes after it."""

    seed: int
    options: Mapping[str, Any]
    before: Any  # (n, k) actions
    actions: Any  # (T, k)
    following: Callable[[], Iterator[tuple[int, Mapping[str, Any]]]]  # seeds and options of the next episodes


def alone(task: str, played: Sequence[Played]) -> float:
    """Returns control steps a second of one environment on one core; resets count, what is `before` does not."""
    env, steps, seconds = registry.make(task), 0, 0.0
    warm_up = played[:WARM_UP]
    for number, part in enumerate([*warm_up, *played]):
        following = part.following()
        env.reset(seed=part.seed, options=dict(part.options))
        for action in part.before:
            env.step(action)
        started = time.perf_counter()
        for action in part.actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                seed, options = next(following)
                env.reset(seed=seed, options=dict(options))
        if number >= len(warm_up):
            steps, seconds = steps + len(part.actions), seconds + time.perf_counter() - started
    env.close()
    return steps / seconds


def at_random(config: RunConfig) -> list[Played]:
    """Returns random actions."""
    env = registry.make(config.task)
    rng, size = np.random.default_rng(0), registry.policy_spec(env).action_size
    env.close()
    drawn = np.clip(0.6 * rng.standard_normal((RANDOM_STEPS, size)), -1, 1).astype(np.float32)
    return [Played(0, {}, (), drawn, lambda: ((seed, {}) for seed in count(1)))]


def as_played(config: RunConfig, run: Path) -> list[Played]:
    """Returns what all groups of a run did in the iterations after its checkpoints."""
    played = []
    with TerminalBoard("", shown=False) as board:
        learner = Learner(config, inspect(config), InProcessFleet(config), RunFolder.reopen(run, config), board)
        space, checkpoints = learner.interface.action_space, learner.run_folder.checkpoints
        for name in sorted(checkpoints.names()):
            files = {file.name: file.read_bytes() for file in (run / CHECKPOINTS / name).iterdir()}
            state.restore(learner, files)
            package = Package(0, name, learner.model.weights(), learner.normalizer.freeze())
            for group, where in learner.groups.items():
                fragment = learner.fleet.worker.sample(package, Job(group, learner.iteration, where))
                actions = np.clip(fragment.actions, space.low, space.high)
                for e, env in enumerate(where):
                    following = partial(episodes, config, group, e, env.episode + 1)
                    played.append(Played(env.seed, env.options, env.actions, actions[:, e], following))
        learner.store.close()
    return played


def episodes(config: RunConfig, group: int, e: int, first: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields seeds and options of the episodes that an environment of a group plays in training."""
    return (seeding.episode(config, seeding.EPISODES, group, e, n) for n in count(first))


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
            played, random = alone(config.task, as_played(config, run)), alone(config.task, at_random(config))
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
