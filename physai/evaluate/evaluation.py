"""Plays unseen episodes with a policy, spread over processes; the result does not depend on how they were spread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from physai.errors import ConfigError
from physai.evaluate import perturb
from physai.evaluate.early_stop import EarlyStop, early_stop
from physai.evaluate.episodes import EpisodeFailure, EpisodeRecord
from physai.evaluate.gate import Gate
from physai.evaluate.interface import load_for
from physai.evaluate.journal import Journal
from physai.evaluate.perturb import Grid
from physai.evaluate.progress import Meter
from physai.evaluate.provenance import physics_digest
from physai.evaluate.report import Report, Stopped
from physai.evaluate.words import counted
from physai.evaluate.workers import Crew, Host, Job, Outcome, Play, Processes
from physai.policy import BundlePolicy, Policy
from physai.spec import PolicySpec
from physai_envs import registry

SEEDS_PER_EVALUATION = 100_000  # evaluation seeds lie this far apart, so that their episodes never overlap
MOST_EVALUATIONS = 10_000  # environment seeds stay below 2**31 then
# An episode may take this long, whatever the machine does; the simulators that ship are hundreds of times faster.
LEAST_TIMEOUT_S, TIMES_REAL = 60.0, 10.0  # and so many times its own length
UNKNOWN_TIMEOUT_S = 600.0  # where nobody declares its length
NOMINAL = -1  # the point of the task as it is, beside those of a grid


def evaluate(
    policy_source: str | Path,
    *,
    task: str | None = None,
    episodes: int = 200,
    seed: int = 0,
    workers: int | None = None,
    difficulty: float = 1.0,
    progress: bool = True,
    gate: Gate | None = None,
    stop_risk: float | None = None,
    perturbations: Sequence[str] = (),
    journal: str | Path | None = None,
    resume: bool = False,
    timeout_s: float | None = None,
    host: Host | None = None,
) -> Report:
    """Plays unseen episodes with a policy, and reports. An episode that cannot be played is in the report, too.

    Args:
        policy_source: anything that `physai.policy.load_policy` takes.
        task: needed where the source does not name it; else one with the same observations and actions.
        episodes: how many; episode i is played with environment seed 1,000,000 + 100,000 `seed` + i.
        seed: of the evaluation; from 1,000,000 up it is the environment seed of the first episode.
        workers: processes; None means as many as `host` has room for.
        difficulty: of every episode, in [0, 1]; for tasks of ours.
        progress: show it on stderr.
        gate: what the policy has to meet; looked at before anything is played, and in the report.
        stop_risk: stop as soon as the gate's verdict on the success rate is clear, with this chance, each way, of
            saying something else than all episodes would; None plays all.
        perturbations: such as ``noise_scale=0:3:4``; the grid of all of them is played too, with the same seeds.
        journal: file in which finished episodes are kept while the evaluation goes on.
        resume: go on with the episodes that are in the journal.
        timeout_s: how long an episode may take before it counts as one that hangs; None: a minute more than ten times
            its length, or ten minutes where that is not declared.
        host: where the workers are; None: processes of this machine, one for each core that this process may use.

    Raises:
        ConfigError: if a number is out of range, or the gate asks for something that the task does not have.
        TaskError: if the policy does not fit the task, naming the terms.
        SimulationError: if the workers cannot be started.
        PhysaiError: whatever `load_policy` raises.
    """
    started = time.perf_counter()
    gate, host = gate or Gate(), host or Processes()
    first = first_seed(seed, episodes)
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; it must be at least 1")
    if timeout_s is not None and not timeout_s > 0.0:
        raise ConfigError(f"the timeout of an episode is {timeout_s} s; it must be more than 0")
    with Meter("evaluate", episodes, shown=progress) as meter:
        meter.advance(0, "loading the policy")
        loaded = load_for(policy_source, task)
        policy, spec = loaded.policy, loaded.spec
        gate.bound_to(spec)
        grid = perturb.parse(perturbations, spec)
        stop = _stop(gate, episodes, stop_risk, grid)
        level = _difficulty(spec, difficulty)
        plays = _plays(range(first, first + episodes), level, grid)
        meter.total = len(plays)
        identity = {
            "schema": "physai-journal/1", "policy": policy.digest, "task": loaded.task, "first_seed": first,
            "difficulty": level, "physics": physics_digest(spec), "grid": list(perturbations),
        }  # fmt: skip
        with Journal(None if journal is None else Path(journal), identity, resume=resume) as kept:
            job = Job(policy.source, loaded.trained_for, loaded.task, policy.digest)
            count = min(workers or host.room(), len(plays))
            tally = _Tally(plays[:episodes], stop, rules=len(gate.rules) + (gate.max_collision is not None))
            crew = partial(Crew, job, count, timeout_s or _timeout(spec), host)
            spent = _play_all(crew, plays, count, tally, kept, meter)
    report = Report(
        source=str(policy_source), task=task, spec=spec, policy=_describe(policy), records=tally.records,
        seed=seed, first_seed=first, difficulty=level, timing=_timing(started, count, tally, spent),
        planned=episodes, failures=tally.failures, stopped=tally.stopped, grid=grid, at_points=tally.at_points(grid),
    )  # fmt: skip
    return report.judged(gate)


def first_seed(seed: int, episodes: int) -> int:
    """Returns the environment seed of the first episode.

    Args:
        seed: of an evaluation; or the environment seed itself, from 1,000,000 up, as reports name single episodes.
        episodes: how many.

    Raises:
        ConfigError: if a number is out of range.
    """
    from physai_envs.env import TEST_SEED_START  # here, for it starts the simulator, and learners import this package

    end = TEST_SEED_START + (MOST_EVALUATIONS + 1) * SEEDS_PER_EVALUATION
    if not 1 <= episodes <= SEEDS_PER_EVALUATION:
        raise ConfigError(f"episodes is {episodes}; it must lie between 1 and {SEEDS_PER_EVALUATION:,}")
    if TEST_SEED_START <= seed <= end - episodes:
        return seed
    if not 0 <= seed <= MOST_EVALUATIONS:
        raise ConfigError(
            f"the evaluation seed is {seed}; it must lie between 0 and {MOST_EVALUATIONS:,}, or be an environment seed "
            f"of {TEST_SEED_START:,} or more"
        )
    return TEST_SEED_START + seed * SEEDS_PER_EVALUATION


def _stop(gate: Gate, episodes: int, risk: float | None, grid: Grid | None) -> EarlyStop | None:
    if risk is None:
        return None
    if gate.min_success is None:
        raise ConfigError("to stop early there must be a success rate to reach; give --min-success")
    if grid is not None:
        raise ConfigError("a grid of perturbations is played whole; leave out --early-stop or --perturb")
    return early_stop(gate.min_success, episodes, risk)


def _difficulty(spec: PolicySpec, difficulty: float) -> float | None:
    if not 0.0 <= difficulty <= 1.0:
        raise ConfigError(f"difficulty is {difficulty}; it must lie between 0 (easiest) and 1")
    if spec.task.startswith(registry.NAMESPACE):
        return difficulty
    if difficulty != 1.0:
        raise ConfigError(f"{spec.task} knows no difficulty; leave it out")
    return None


def _timeout(spec: PolicySpec) -> float:
    """How long an episode may take unless somebody says otherwise [s]."""
    if not spec.task.startswith(registry.NAMESPACE):
        return UNKNOWN_TIMEOUT_S
    return LEAST_TIMEOUT_S + TIMES_REAL * registry.task(spec.task).episode_s


def _describe(policy: Policy) -> dict[str, Any]:
    kind = "bundle" if isinstance(policy, BundlePolicy) else "stable-baselines3"
    return {"kind": kind, "algorithm": policy.algorithm, "sha256": policy.digest}


def _plays(seeds: range, difficulty: float | None, grid: Grid | None) -> list[Play]:
    base = None if difficulty is None else {"difficulty": difficulty}
    plays = [Play(seed, NOMINAL, base) for seed in seeds]
    for index, at in enumerate(grid.points if grid else ()):
        options = {**(base or {}), **perturb.options(at)}
        plays += [Play(seed, index, options) for seed in seeds]
    return plays


class _Tally:
    """Outcomes as they come in, and whether those of the task as it is suffice, in the order of the seeds."""

    def __init__(self, nominal: Sequence[Play], stop: EarlyStop | None, rules: int) -> None:
        self._nominal, self._stop, self._rules = nominal, stop, rules
        self.outcomes: dict[Play, Outcome] = {}
        self._looked = 0  # at so many of the first episodes
        self._successes: list[bool] = []
        self.stopped: Stopped | None = None

    def add(self, play: Play, outcome: Outcome) -> None:
        """Takes an outcome in."""
        self.outcomes[play] = outcome
        while self._stop is not None and not self.stopped and self._looked < len(self._nominal):
            next_ = self.outcomes.get(self._nominal[self._looked])
            if next_ is None:
                return
            if isinstance(next_, EpisodeFailure) or next_.success is None:
                self._stop = None  # there will be no verdict: play the rest and say what happened
                return
            self._looked += 1
            self._successes.append(next_.success)
            self._look(self._stop)

    def _look(self, stop: EarlyStop) -> None:
        verdict = stop.verdict(self._successes)
        if verdict is None or (verdict and self._rules > 1):  # what else is asked for is known at the end alone
            return
        self.stopped = Stopped(stop, len(self._successes), verdict, stop.certain(self._successes))

    @property
    def _counted(self) -> Sequence[Play]:
        return self._nominal[: self.stopped.played] if self.stopped else self._nominal

    @property
    def records(self) -> tuple[EpisodeRecord, ...]:
        """Finished episodes of the task as it is, in the order of the seeds."""
        return tuple(o for o in map(self.outcomes.get, self._counted) if isinstance(o, EpisodeRecord))

    @property
    def failures(self) -> tuple[EpisodeFailure, ...]:
        """Episodes that could not be played, those of the grid included."""
        counted = {*self._counted} | {play for play in self.outcomes if play.point != NOMINAL}
        failed = [(p, o) for p, o in self.outcomes.items() if p in counted and isinstance(o, EpisodeFailure)]
        return tuple(o for _, o in sorted(failed, key=lambda pair: (pair[0].point, pair[0].seed)))

    def at_points(self, grid: Grid | None) -> tuple[tuple[EpisodeRecord, ...], ...]:
        """Finished episodes at each point of the grid, in the order of the seeds."""
        seeds = [play.seed for play in self._nominal]
        found = [[self.outcomes.get(Play(s, i)) for s in seeds] for i in range(len(grid.points) if grid else 0)]
        return tuple(tuple(o for o in outcomes if isinstance(o, EpisodeRecord)) for outcomes in found)

    def so_far(self) -> str:
        """Says how it goes."""
        known = [o.success for o in self.outcomes.values() if isinstance(o, EpisodeRecord) and o.success is not None]
        failed = sum(isinstance(outcome, EpisodeFailure) for outcome in self.outcomes.values())
        told = [f"success {sum(known) / len(known):.1%}"] if known else []
        return " ".join(told + [f"({failed} could not be played)"] * bool(failed))


@dataclass(frozen=True)
class _Spent:
    """Where the time went [s], and how many episodes a journal had."""

    ready_at: float
    cpu_s: float
    resumed: int


def _play_all(
    hire: Callable[[], Crew], plays: list[Play], workers: int, tally: _Tally, journal: Journal, meter: Meter
) -> _Spent:
    for play in plays:
        if (play.point, play.seed) in journal.finished:
            tally.add(play, journal.finished[play.point, play.seed])
    resumed = len(tally.outcomes)
    waiting = [play for play in plays if play not in tally.outcomes]
    if tally.stopped or not waiting:
        return _Spent(time.perf_counter(), 0.0, resumed)
    meter.advance(resumed, f"starting {counted(workers, 'worker')}")
    with hire() as crew:
        for play, outcome in crew.play(waiting):
            if isinstance(outcome, EpisodeRecord):
                journal.add(play.point, outcome)
            tally.add(play, outcome)
            meter.advance(1, tally.so_far())
            if tally.stopped:
                break
        return _Spent(crew.ready_at or time.perf_counter(), crew.cpu_s, resumed)


def _timing(started: float, workers: int, tally: _Tally, spent: _Spent) -> Mapping[str, Any]:
    now = time.perf_counter()
    records = [outcome for outcome in tally.outcomes.values() if isinstance(outcome, EpisodeRecord)]
    steps, busy = sum(record.steps for record in records), sum(record.seconds for record in records)
    return {
        "wall_s": now - started,
        "start_s": spent.ready_at - started,
        "play_s": now - spent.ready_at,
        "cpu_s": spent.cpu_s,
        "workers": workers,
        "resumed": spent.resumed,
        "steps_per_s": steps / (now - started),
        "steps_per_s_and_worker": steps / busy if busy else 0.0,
        "physics_share": sum(record.physics_seconds for record in records) / busy if busy else 0.0,
    }
