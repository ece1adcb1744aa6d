"""Prints how much of the machine training uses: its steps a second against cores times one environment alone.

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
from pathlib import Path

import numpy as np

import physai_configs
from physai.config import RunConfig
from physai.train.driver import train
from physai_envs import registry

RAW_SECONDS = 5.0
SKIPPED_ITERATIONS = 2  # actors start, and the first iteration is for the statistics alone


def raw_rate(task: str, actions: np.ndarray) -> float:
    """Returns control steps a second of one environment on one core, resets included."""
    env = registry.make(task)
    steps, episode = 0, 0
    env.reset(seed=episode)
    started = time.perf_counter()
    while time.perf_counter() - started < RAW_SECONDS:
        _, _, terminated, truncated, _ = env.step(actions[steps % len(actions)])
        steps += 1
        if terminated or truncated:
            episode += 1
            env.reset(seed=episode)
    rate = steps / (time.perf_counter() - started)
    env.close()
    return rate


def training_rate(config: RunConfig) -> tuple[float, float, float]:
    """Trains, and returns steps a second, the learner's share of the time, and the share spent in the engine."""
    with tempfile.TemporaryDirectory() as folder:
        run = train(config.model_copy(update={"storage": folder}), quiet=True)
        with (run / "progress.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[SKIPPED_ITERATIONS:-1]  # the last one measures the policy as well
    seconds = sum(float(row["seconds"]) for row in rows)
    busy, physics = (
        sum(float(row[k]) * float(row["seconds"]) for row in rows) / seconds for k in ("learner_busy", "physics")
    )
    return len(rows) * config.steps_per_iteration / seconds, busy, physics


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
    config = config.model_copy(update={"stop": stop})
    size = registry.policy_spec(registry.make(config.task)).action_size
    actions = np.clip(0.6 * np.random.default_rng(0).standard_normal((4096, size)), -1, 1).astype(np.float32)
    cores = os.cpu_count() or 1
    shares = []
    for _ in range(options.rounds):
        before = raw_rate(config.task, actions)
        rate, busy, physics = training_rate(config)
        raw = statistics.mean((before, raw_rate(config.task, actions)))
        shares.append(rate / (cores * raw))
        sys.stdout.write(
            f"{config.task}: training {rate:,.0f} steps/s, one environment alone {raw:,.0f} steps/s x {cores} cores: "
            f"{shares[-1]:.0%} (learner busy {busy:.0%}, in physics {physics:.0%})\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"median {statistics.median(shares):.0%} with max_policy_lag {config.rollout.max_policy_lag}\n")


if __name__ == "__main__":
    main()
