"""Spreads episodes over processes. Each is the same wherever it is played, so the result does not depend on them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym

from physai.errors import ConfigError, PhysaiError, SimulationError
from physai.evaluate.episodes import EpisodeRecord, play
from physai.evaluate.progress import Meter
from physai.evaluate.report import Report
from physai.policy import BundlePolicy, Policy, load_policy
from physai_envs import registry

SEEDS_PER_EVALUATION = 100_000  # evaluation seeds lie this far apart, so that their episodes never overlap


@dataclass(frozen=True)
class Job:
    """What a worker is told: names, never objects."""

    source: str
    task: str
    digest: str
    difficulty: float | None


def evaluate(
    policy_source: str | Path,
    *,
    task: str | None = None,
    episodes: int = 200,
    seed: int = 0,
    workers: int | None = None,
    difficulty: float = 1.0,
    progress: bool = True,
) -> Report:
    """Plays unseen episodes with a policy, and reports.

    Args:
        policy_source: anything that `physai.policy.load_policy` takes.
        task: needed where the source does not name it.
        episodes: how many; episode i is played with environment seed 1,000,000 + 100,000 `seed` + i.
        seed: of the evaluation.
        workers: processes; None means one for each core that this process may use.
        difficulty: of every episode, in [0, 1]; for tasks of ours.
        progress: show it on stderr.

    Raises:
        ConfigError: if a number is out of range.
        SimulationError: if an episode breaks; names its seed.
        PhysaiError: whatever `load_policy` raises.
    """
    started = time.perf_counter()
    first = first_seed(seed, episodes)
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; it must be at least 1")
    count = min(workers or len(os.sched_getaffinity(0)), episodes)
    with Meter("evaluate", episodes, shown=progress) as meter:
        meter.advance(0, "loading the policy")
        policy = load_policy(policy_source, task)
        job = Job(policy.source, policy.task, policy.digest, _difficulty(policy, difficulty))
        meter.advance(0, f"starting {count} workers")
        records = _play_all(job, range(first, first + episodes), count, meter)
    wall = time.perf_counter() - started
    steps = sum(record.steps for record in records)
    busy = sum(record.seconds for record in records)
    return Report(
        source=str(policy_source), task=task, spec=policy.spec, policy=_describe(policy), records=tuple(records),
        seed=seed, first_seed=first, difficulty=job.difficulty,
        timing={
            "wall_s": wall,
            "workers": count,
            "steps_per_s": steps / wall,
            "steps_per_s_and_worker": steps / busy,
            "physics_share": sum(record.physics_seconds for record in records) / busy,
        },
    )  # fmt: skip


def first_seed(seed: int, episodes: int) -> int:
    """Returns the environment seed of the first episode.

    Raises:
        ConfigError: if a number is out of range.
    """
    from physai_envs.env import TEST_SEED_START  # here, for it starts the simulator, and learners import this package

    if not 1 <= episodes <= SEEDS_PER_EVALUATION:
        raise ConfigError(f"episodes is {episodes}; it must lie between 1 and {SEEDS_PER_EVALUATION:,}")
    if not 0 <= seed <= 10_000:  # environment seeds stay below 2**31 then
        raise ConfigError(f"the evaluation seed is {seed}; it must lie between 0 and 10,000")
    return TEST_SEED_START + seed * SEEDS_PER_EVALUATION


def _difficulty(policy: Policy, difficulty: float) -> float | None:
    if not 0.0 <= difficulty <= 1.0:
        raise ConfigError(f"difficulty is {difficulty}; it must lie between 0 (easiest) and 1")
    if policy.spec.task.startswith(registry.NAMESPACE):
        return difficulty
    if difficulty != 1.0:
        raise ConfigError(f"{policy.spec.task} knows no difficulty; leave it out")
    return None


def _describe(policy: Policy) -> dict[str, Any]:
    kind = "bundle" if isinstance(policy, BundlePolicy) else "stable-baselines3"
    return {"kind": kind, "algorithm": policy.algorithm, "sha256": policy.digest}


def _play_all(job: Job, seeds: range, workers: int, meter: Meter) -> list[EpisodeRecord]:
    # New interpreters, not forks: a fork would copy the simulator's and torch's threads and locks in whatever state.
    context = multiprocessing.get_context("spawn")
    records: dict[int, EpisodeRecord] = {}
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        waiting: set[Future[EpisodeRecord]] = {pool.submit(_play_one, job, seed) for seed in seeds}
        try:
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    record = future.result()
                    records[record.seed] = record
                meter.advance(len(finished), _so_far(records))
        except BrokenProcessPool as broken:
            raise SimulationError(
                "an evaluation worker ended unexpectedly: out of memory, killed, or the calling script lacks "
                "`if __name__ == '__main__':`; try fewer workers"
            ) from broken
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [records[seed] for seed in seeds]


def _so_far(records: Mapping[int, EpisodeRecord]) -> str:
    known = [record.success for record in records.values() if record.success is not None]
    return f"success {sum(known) / len(known):.1%}" if known else ""


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent, which then tells the workers to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@lru_cache(maxsize=1)
def _equip(job: Job) -> tuple[gym.Env[Any, Any], Policy]:
    policy = load_policy(job.source, job.task)
    if policy.digest != job.digest:
        raise ConfigError(f"{job.source} changed while it was evaluated; evaluate it when nothing writes to it")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # workers share the cores; and one thread gives the same bits anywhere
    return registry.make(job.task, goal_env=policy.spec.goal_env), policy


def _play_one(job: Job, seed: int) -> EpisodeRecord:
    env, policy = _equip(job)
    options = None if job.difficulty is None else {"difficulty": job.difficulty}
    try:
        return play(env, policy, seed, options)
    except PhysaiError as failure:
        if f"seed {seed}" in str(failure):
            raise
        raise type(failure)(f"{failure} (episode with seed {seed})") from failure
