"""Prints how training scales with the number of rollout actors: hundreds of them on one machine, which sleep.

Fleet, learner loop, recording and object store are the real ones; weights go out and fragments come back as in a
cluster. Only the actors are not: a few processes of many threads answer for all of them, and a job sleeps as long as a
core would simulate. So the machine has time for what is measured: the part of the work that all actors share.

An iteration can take no less than its fragments take to collect, and no less than the learner takes to learn from them.
With a lag of one both go on at the same time, so

    ideal = max(steps x environments x time of a step, one update on the same data with no fleet beside it)
    efficiency = ideal / measured

Everything else counts against it: handing out jobs and weights, fetching fragments, filling the buffer, merging
statistics, figures and checkpoints, and that this machine's cores are the actors' as well. Both are measured in turns,
and the fastest round of each counts: other work on the machine only ever adds. Where the learner is the slower one, the
same is told of the CPU time of its thread, which neither other work nor the actors change.

    python benchmarks/scale.py --groups 8 64 256 1000
"""

from __future__ import annotations

import argparse
import cProfile
import math
import os
import pstats
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import ray
from ray.actor import ActorHandle

from physai.config import RunConfig
from physai.evaluate.episodes import EpisodeRecord
from physai.train import cluster
from physai.train.behaviour import Package
from physai.train.fleet import RayFleet
from physai.train.fragment import EnvState, Episode, Job, OnPolicyFragment
from physai.train.learner import Learner
from physai.train.normalizer import Moments, SpacesOnly
from physai.train.outcome import Interface
from physai.train.progress import TerminalBoard
from physai.train.run_dir import RunFolder
from physai_envs import registry

OBSERVATIONS, ACTIONS = 32, 6  # between Reach (23 and 4) and a quadruped (about 48 and 12)
EPISODE_STEPS = 160  # 8 s at 20 Hz, as the tasks that ship
TERMS = ("align", "reach", "smooth", "time")  # rewards that an episode tells by name
PROCESSES = 4  # that answer for all actors
SKIPPED = 2  # first iterations: the first is for the statistics alone, and caches are cold
MB = 1e6


@dataclass(frozen=True)
class Sizes:
    """Of a fragment, and how long its steps take."""

    steps: int
    envs: int
    step_s: float

    @property
    def seconds(self) -> float:
        """In which a core simulates a fragment."""
        return self.steps * self.envs * self.step_s


class Sleepers:
    """Stands in for many rollout actors; it is called by as many threads.

    Args:
        sizes: of a fragment.
        log_std: of the actions.
    """

    def __init__(self, sizes: Sizes, log_std: float) -> None:
        self._sizes = sizes
        rng, shape = np.random.default_rng(os.getpid()), (sizes.steps, sizes.envs)
        observations = rng.standard_normal((*shape, OBSERVATIONS), np.float32)
        drawn, rewards = rng.standard_normal((*shape, ACTIONS), np.float32), rng.standard_normal(shape, np.float32)
        log_probs = -0.5 * (drawn**2).sum(axis=-1) - ACTIONS * (log_std + 0.5 * math.log(2.0 * math.pi))
        self._moments = Moments.of(observations.reshape(-1, OBSERVATIONS)), Moments.of(rewards.reshape(-1))
        self._arrays = {
            "observations": observations, "actions": drawn * np.float32(math.exp(log_std)), "rewards": rewards,
            "episode_starts": np.zeros(shape, np.float32), "values": np.zeros(shape, np.float32),
            "log_probs": log_probs.astype(np.float32), "last_values": np.zeros(sizes.envs, np.float32),
            "last_dones": np.zeros(sizes.envs, bool),
        }  # fmt: skip

    def ready(self) -> int:
        """Answers with the process id."""
        return os.getpid()

    def do(self, method: str, package: Package, job: Any, skip: frozenset[int] = frozenset()) -> Any:
        """Sleeps and makes up an answer; what that costs is a part of the time."""
        if method == "judge":
            return [EpisodeRecord(seed, EPISODE_STEPS, 0.0, False, None, {}, {}, 0.0, 0.0, 0.0) for seed in job]
        started = time.perf_counter()
        fragment = self._fragment(package, job)
        time.sleep(max(0.0, self._sizes.seconds - (time.perf_counter() - started)))
        return fragment

    def _fragment(self, package: Package, job: Job) -> OnPolicyFragment:
        sign = np.float32(1.0 if (job.group + job.iteration) % 2 else -1.0)  # all of them of their own
        arrays = {name: array if array.dtype == bool else array.copy() for name, array in self._arrays.items()}
        arrays["observations"] *= sign
        seen, returns = self._moments
        return OnPolicyFragment(
            group=job.group, iteration=job.iteration, version=package.version, **arrays, observation_moments=seen,
            return_moments=returns, episodes=self._episodes(job), state=self._state(job), rebuilt=0, reproducible=True,
            physics_s=0.8 * self._sizes.seconds, seconds=self._sizes.seconds,
        )  # fmt: skip

    def _episodes(self, job: Job) -> tuple[Episode, ...]:
        count = max(1, self._sizes.steps * self._sizes.envs // EPISODE_STEPS)
        terms = dict.fromkeys(TERMS, 1.0)
        return tuple(Episode(job.group, 1.0, EPISODE_STEPS, 1.0, False, terms, {}) for _ in range(count))

    def _state(self, job: Job) -> tuple[EnvState, ...]:
        actions, observations = self._arrays["actions"], self._arrays["observations"]
        done = [(37 * e + job.iteration * self._sizes.steps) % EPISODE_STEPS for e in range(self._sizes.envs)]
        return tuple(
            EnvState(
                episode=job.iteration, seed=1000 * job.group + e, options={"difficulty": 1.0},
                actions=np.resize(actions[:, e], (done[e], ACTIONS)), observation=observations[0, e].copy(),
            )
            for e in range(self._sizes.envs)
        )  # fmt: skip


class SleepingCrew:
    """As many members as there are groups, each with a core of its own as far as the fleet can see."""

    def __init__(self, count: int, sizes: Sizes, log_std: float) -> None:
        threads = math.ceil(count / PROCESSES)
        remote = ray.remote(num_cpus=0, max_concurrency=threads)(Sleepers)
        self.processes: list[ActorHandle] = [remote.remote(sizes, log_std) for _ in range(min(PROCESSES, count))]
        self._members = {f"actor-{n:05d}": self.processes[n % len(self.processes)] for n in range(count)}

    def members(self) -> Mapping[str, ActorHandle]:
        """All of them."""
        return self._members

    def __enter__(self) -> SleepingCrew:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.processes:
            ray.kill(handle)


class Stopwatches:
    """Adds up wall time and CPU time of this thread inside methods, by name."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)

    def on(self, owner: Any, method: str, name: str) -> None:
        """Puts one around a method of an object."""
        inner: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **named: Any) -> Any:
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return inner(*arguments, **named)
            finally:
                self.wall[name] += time.perf_counter() - wall
                self.cpu[name] += time.thread_time() - cpu

        setattr(owner, method, timed)


@dataclass(frozen=True)
class Moment:
    """What the clocks said at the end of an iteration."""

    wall: float
    cpu: float  # of this process, all threads
    thread_cpu: float  # of the learner's
    waiting: float  # wall time inside `gather`
    parts: Mapping[str, float]  # CPU time of the learner's thread


class Watch(TerminalBoard):
    """Notes the clocks at the end of each iteration."""

    def __init__(self, watches: Stopwatches) -> None:
        super().__init__("", shown=False)
        self._watches = watches
        self.moments: list[Moment] = []

    def show(self, row: Mapping[str, Any]) -> None:
        """Notes them."""
        clocks = time.perf_counter(), time.process_time(), time.thread_time()
        self.moments.append(Moment(*clocks, self._watches.wall["gather"], dict(self._watches.cpu)))


@dataclass(frozen=True)
class Result:
    """Of one round, in seconds an iteration."""

    groups: int
    steps: int
    megabytes: float
    slept: float
    alone: float
    alone_cpu: float
    measured: float
    measured_cpu: float  # of the learner's thread
    waiting: float
    parts: Mapping[str, float]  # CPU time
    driver_cpu: float  # cores
    resident_mb: float


def config_of(options: argparse.Namespace, groups: int, folder: str) -> RunConfig:
    """Returns a run of so many groups, with minibatches in proportion."""
    size = groups * options.envs * options.steps
    return RunConfig.model_validate(
        {
            "task": "none", "storage": folder, "name": "scale",
            "algorithm": {
                "batch_size": size // options.minibatches, "epochs": options.epochs, "network": options.network,
                "learning_rate": 1e-6,  # the arithmetic counts, and made-up experience teaches nothing
            },
            "rollout": {
                "groups": groups, "envs_per_group": options.envs, "steps": options.steps,
                "max_policy_lag": options.lag,
            },
            "stop": {"steps": (options.iterations + SKIPPED + 1) * size, "every_steps": 10**12, "episodes": 1},
        }
    )  # fmt: skip


def once(options: argparse.Namespace, groups: int, crew: SleepingCrew, sizes: Sizes) -> Result:
    """Trains for a few iterations with the fleet, then updates alone on what is in the buffer."""
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(options, groups, folder)
        watches = Stopwatches()
        board = Watch(watches)
        box = gym.spaces.Box(-np.inf, np.inf, (OBSERVATIONS,), np.float32)
        moves = gym.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)
        interface = Interface(box, moves, registry.policy_spec(SpacesOnly(box, moves)))
        fleet = RayFleet(crew, config, board)
        learner = Learner(config, interface, fleet, RunFolder.create(config), board)
        for owner, method, name in (
            (fleet, "start", "hand out"), (fleet, "finish", "gather"), (learner.model, "ingest", "ingest"),
            (learner.model, "update", "update"), (learner.normalizer, "merge", "statistics"),
            (learner, "save", "checkpoint"), (learner.store, "add", "figures"),
        ):  # fmt: skip
            watches.on(owner, method, name)
        learner.run()
        alone = [timed(lambda: learner.model.update(learner.normalizer)) for _ in range(options.alone)]
    first, last = board.moments[SKIPPED - 1], board.moments[-2]  # the last iteration measures the policy as well
    count = len(board.moments) - 1 - SKIPPED
    wall = last.wall - first.wall
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    bytes_each = sizes.steps * sizes.envs * 4 * (OBSERVATIONS + ACTIONS + 4)
    return Result(
        groups=groups, steps=config.steps_per_iteration, megabytes=groups * bytes_each / MB, slept=sizes.seconds,
        alone=statistics.mean(wall for wall, _ in alone), alone_cpu=statistics.mean(cpu for _, cpu in alone),
        measured=wall / count, measured_cpu=(last.thread_cpu - first.thread_cpu) / count,
        parts={name: (last.parts[name] - first.parts.get(name, 0.0)) / count for name in last.parts},
        waiting=(last.waiting - first.waiting) / count,
        driver_cpu=(last.cpu - first.cpu) / wall, resident_mb=pages * os.sysconf("SC_PAGE_SIZE") / MB,
    )  # fmt: skip


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Returns wall time and CPU time of this thread that some work takes."""
    wall, cpu = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - wall, time.thread_time() - cpu


PARTS = ("hand out", "gather", "ingest", "statistics", "figures", "checkpoint")
HEAD = (
    "| groups | steps an iteration | MB | collecting, s | update alone, s | iteration, s | efficiency | in CPU time | "
    f"steps/s | gathering, s | {' | '.join(PARTS)} | driver, cores | driver, MB |"
)


def line(rounds: Sequence[Result]) -> str:
    """Returns a row of the table: of times the fastest round; CPU time of the parts in milliseconds, the median."""

    def least(name: str) -> float:
        return min(getattr(result, name) for result in rounds)

    first, measured, alone = rounds[0], least("measured"), least("alone")
    by_cpu = f"{least('alone_cpu') / least('measured_cpu'):.0%}" if alone > first.slept else ""
    cells = [
        f"{first.groups:,}", f"{first.steps:,}", f"{first.megabytes:.1f}", f"{first.slept:.2f}", f"{alone:.2f}",
        f"{measured:.2f}", f"{max(first.slept, alone) / measured:.0%}", by_cpu, f"{first.steps / measured:,.0f}",
        f"{least('waiting'):.2f}",
        *(f"{1000 * statistics.median(r.parts.get(name, 0.0) for r in rounds):,.0f}" for name in PARTS),
        f"{statistics.median(r.driver_cpu for r in rounds):.2f}", f"{max(r.resident_mb for r in rounds):,.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, nargs="+", default=[8, 64, 256, 1000])
    parser.add_argument("--envs", type=int, default=8, help="of a group")
    parser.add_argument("--steps", type=int, default=64, help="of each environment in an iteration")
    parser.add_argument("--step-us", type=float, default=200.0, help="in which a core simulates a control step")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--minibatches", type=int, default=8, help="an epoch")
    parser.add_argument("--network", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--lag", type=int, choices=(0, 1), default=1)
    parser.add_argument("--iterations", type=int, default=10, help="that count, a round")
    parser.add_argument("--alone", type=int, default=3, help="updates with no fleet, a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="also print where the driver's Python spends its time")
    parser.add_argument("--quick", action="store_true", help="8 and 16 groups, seconds: whether it works at all")
    options = parser.parse_args(arguments)
    if options.quick:
        options.groups, options.iterations, options.rounds, options.alone = [8, 16], 2, 1, 1
    sizes = Sizes(options.steps, options.envs, options.step_us / 1e6)
    log_std = RunConfig(task="none").algorithm.log_std_init  # type: ignore[union-attr]
    sys.stdout.write(f"{HEAD}\n|{'---|' * (HEAD.count('|') - 1)}\n")
    with cluster.connected(None):
        for groups in options.groups:
            with SleepingCrew(groups, sizes, log_std) as crew:
                profile = cProfile.Profile()
                if options.profile:
                    profile.enable()
                rounds = [once(options, groups, crew, sizes) for _ in range(options.rounds)]
                profile.disable()
            sys.stdout.write(line(rounds) + "\n")
            sys.stdout.flush()
            if options.profile:
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
