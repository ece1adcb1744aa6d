"""Trains the same tasks with physai and with stable-baselines3 alone, and prints how long each took to solve them.

physai: `physai train CONFIG seed=N`, from the start of the process to its end. stable-baselines3: its PPO and
VecNormalize with the same hyperparameters, the same training episodes, batches and network, on a SubprocVecEnv of four
environments a core; its clock stands still while the policy is measured, on the same held-out episodes. What a
configuration has beyond PPO, as a start from demonstrations, stable-baselines3 has not; it is given up after `--limit`
seconds. What is done is kept in `time_to_solved.json` and not done again. Meant for a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium as gym
import kept
from soak import rows_of

import physai_configs
from physai.config import RunConfig
from physai.train import seeding
from physai.train.checkpoint import CheckpointStore
from physai_envs import registry

RECORDS = Path(__file__).with_suffix(".json")
TASKS = ("reach", "peg_insertion", "tidy_up", "amr_navigation", "valet_parking")
SEEDS = (0, 1, 2)
OURS, THEIRS = "physai", "stable-baselines3"
ENVS_A_CORE = 4  # with one, a process waits for the policy most of the time
CPUS = os.cpu_count() or 1


class Starts(gym.Wrapper[Any, Any, Any, Any]):
    """Plays the training episodes that one environment of a run plays."""

    def __init__(self, config: RunConfig, number: int) -> None:
        super().__init__(registry.make(config.task))
        self._episodes: Iterator[Any] = (seeding.episode(config, seeding.EPISODES, 0, number, n) for n in count())

    def reset(self, **_: Any) -> Any:
        """Begins the next one."""
        return self.env.reset(**seeding.reset_arguments(*next(self._episodes)))


@dataclass
class Clock:
    """Wall time without what is not to count."""

    started: float = field(default_factory=time.perf_counter)
    paused: float = 0.0

    def pause(self, since: float) -> None:
        """Takes off the time since then."""
        self.paused += time.perf_counter() - since

    @property
    def seconds(self) -> float:
        """What has counted so far."""
        return time.perf_counter() - self.started - self.paused


def loaded(name: str, seed: int, *more: str) -> RunConfig:
    """Returns the configuration of a training."""
    return RunConfig.load(Path(physai_configs.__path__[0]) / f"{name}.yaml", [f"seed={seed}", *more])


def succeeded(model: Any, config: RunConfig) -> float:
    """Returns the share of the held-out episodes in which a model of stable-baselines3 succeeds."""
    env, normalizer = registry.make(config.task), model.get_vec_normalize_env()
    seeds, passed = seeding.validation_seeds(config), 0
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            action, _ = model.predict(normalizer.normalize_obs(observation), deterministic=True)
            observation, _, terminated, truncated, info = env.step(action)
            ended = terminated or truncated
        passed += bool(info["is_success"])
    env.close()
    return passed / len(seeds)


def train_theirs(name: str, seed: int, limit_s: float) -> dict[str, Any]:
    """Trains with stable-baselines3 alone, in this process."""
    clock = Clock()
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.utils import LinearSchedule
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

    from physai.train.algorithms.ppo import ACTIVATIONS

    config = loaded(name, seed)
    plan: Any = config.algorithm
    envs = SubprocVecEnv([lambda n=n: Starts(config, n) for n in range(ENVS_A_CORE * CPUS)])  # type: ignore[misc]
    norm, layers = config.normalizer, list(plan.network)
    vec = VecNormalize(
        envs, norm_obs=norm.observations, norm_reward=norm.rewards, clip_obs=norm.clip, clip_reward=norm.clip,
        gamma=plan.gamma,
    )  # fmt: skip
    rate: Any = plan.learning_rate
    if plan.learning_rate_final is not None:
        rate = LinearSchedule(rate, plan.learning_rate_final, 1.0)
    model = PPO(
        "MlpPolicy", vec, learning_rate=rate, n_steps=config.steps_per_iteration // vec.num_envs,
        batch_size=plan.batch_size, n_epochs=plan.epochs, gamma=plan.gamma, gae_lambda=plan.gae_lambda,
        clip_range=plan.clip_range, ent_coef=plan.entropy, vf_coef=plan.value_coefficient,
        max_grad_norm=plan.max_grad_norm, target_kl=plan.target_kl, seed=seed, device="cpu",
        policy_kwargs={
            "net_arch": {"pi": layers, "vf": layers}, "activation_fn": ACTIVATIONS[plan.activation],
            "log_std_init": plan.log_std_init,
        },
    )  # fmt: skip
    judged = {"met": False, "success": 0.0, "steps": 0}

    class Judge(BaseCallback):
        """Measures the policy when it is due, and ends the training when it is solved or the time is up."""

        over = False

        def _on_step(self) -> bool:
            return not self.over

        def _on_rollout_start(self) -> None:
            late = clock.seconds > limit_s
            if late or self.num_timesteps - judged["steps"] >= config.stop.every_steps:
                self._measure()
                self.over = late or judged["met"]

        def _on_training_end(self) -> None:
            if not self.over:
                self._measure()

        def _measure(self) -> None:
            since = time.perf_counter()
            success = succeeded(model, config)
            judged.update(met=success >= (config.stop.success or 0.0), success=success, steps=self.num_timesteps)
            clock.pause(since)

    model.learn(config.stop.steps, callback=Judge())
    seconds = clock.seconds
    envs.close()
    return {**judged, "seconds": round(seconds, 1)}


def train_ours(name: str, seed: int) -> dict[str, Any]:
    """Trains with physai, in a process of its own as a user does."""
    with tempfile.TemporaryDirectory() as storage:
        clock = Clock()
        command = [Path(sys.executable).with_name("physai"), "train", name, f"seed={seed}", f"storage={storage}"]
        ended = subprocess.run([*command, "name=run"], capture_output=True, text=True, check=False)
        seconds, rows = clock.seconds, rows_of(Path(storage))
        if ended.returncode:
            raise RuntimeError(f"{name}, seed {seed} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
        (run,) = Path(storage).glob("*/run")
        best = CheckpointStore(run / "checkpoints", 1).best() or {}
    # a run that its demonstrations have solved has no iterations
    steps = int(rows[-1]["steps"]) if rows else 0
    return {"met": best.get("met"), "success": best.get("success"), "steps": steps, "seconds": round(seconds, 1)}


def theirs_apart(name: str, seed: int, limit_s: float) -> dict[str, Any]:
    """Trains with stable-baselines3 in a process of its own."""
    command = [sys.executable, __file__, "--theirs", name, str(seed), "--limit", str(limit_s)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{name}, seed {seed} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def cell(records: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Returns what a trainer reached by seed, in which time, and the median of the times; a miss is longer than all."""
    records = sorted(records, key=lambda record: int(record["seed"]))
    success = ", ".join(f"{record['success']:.1%}" for record in records)
    seconds = ", ".join(f"{record['seconds']:.0f}" if record["met"] else "not" for record in records)
    middle = statistics.median(record["seconds"] if record["met"] else float("inf") for record in records)
    return success, seconds, f"{middle:.0f} s" if middle < float("inf") else "not"


def table(records: list[dict[str, Any]]) -> str:
    """Returns a line for each task and trainer."""
    lines = [
        "| task | trainer | success held out, by seed | seconds to the bar, by seed | median |",
        "|---|---|---|---|---|",
    ]
    for name in TASKS:
        for trainer in (OURS, THEIRS):
            if found := [r for r in records if (r["task"], r["trainer"]) == (name, trainer)]:
                lines.append(f"| {name} | {trainer} | {' | '.join(cell(found))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains what is missing, keeps it, and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=TASKS, help=f"of {', '.join(TASKS)}")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that stable-baselines3 gets")
    parser.add_argument("--trainer", choices=(OURS, THEIRS), help="only this one")
    parser.add_argument("--theirs", nargs=2, metavar=("TASK", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.theirs:
        name, seed = options.theirs
        sys.stdout.write(f"\n{json.dumps(train_theirs(name, int(seed), options.limit))}\n")
        return
    records = kept.read(RECORDS)
    for name in options.tasks:
        for seed in SEEDS:
            for trainer in (options.trainer,) if options.trainer else (OURS, THEIRS):
                key = {"task": name, "trainer": trainer, "seed": seed}
                if any(key.items() <= record.items() for record in records):
                    continue
                found = train_ours(name, seed) if trainer == OURS else theirs_apart(name, seed, options.limit)
                kept.add(RECORDS, records, {**key, **found})
    sys.stdout.write(table(records))


if __name__ == "__main__":
    main()
