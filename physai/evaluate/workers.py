"""Plays episodes in other processes, each the same wherever it is played; one that takes down its process is named."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import gymnasium as gym

from physai.errors import ConfigError, PhysaiError, SimulationError
from physai.evaluate.episodes import EpisodeFailure, EpisodeRecord, play
from physai.policy import Policy, load_policy
from physai_envs import registry

AHEAD = 2  # episodes that a worker has been told, so that it need not wait for the next
TRIES = 2  # of an episode that takes down its process: the first time, somebody else may have killed it
STOP_S = 5.0  # how long a worker may take to end
START_LIMIT_S = 600.0  # for libraries, policy and environment, from a slow disk on a busy machine


@dataclass(frozen=True)
class Job:
    """What a worker is told: names, never objects."""

    source: str
    trained_for: str | None
    task: str
    digest: str


@dataclass(frozen=True)
class Play:
    """One episode to be played.

    Attributes:
        seed: of the environment.
        point: which point of a grid of perturbations; -1 is the task as it is.
        options: passed to the reset.
    """

    seed: int
    point: int = -1
    options: Mapping[str, Any] | None = field(default=None, compare=False)


Outcome = EpisodeRecord | EpisodeFailure


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    told: deque[Play] = field(default_factory=deque)
    ready: bool = False
    since: float = field(default_factory=time.monotonic)  # it does what it does now


class Crew:
    """Worker processes that play episodes with one policy; used as a context manager.

    Args:
        job: what they load.
        workers: how many.
        limit_s: how long an episode may take; one that takes longer hangs, and its worker is replaced.

    Attributes:
        ready_at: when the first worker had loaded everything, on `time.perf_counter`'s clock; None before.
        cpu_s: CPU time that the workers have spent on episodes [s].
    """

    def __init__(self, job: Job, workers: int, limit_s: float) -> None:
        # New interpreters, not forks: a fork copies the simulator's and torch's threads and locks in whatever state.
        self._context = multiprocessing.get_context("spawn")
        self.job, self.cpu_s, self._limit_s = job, 0.0, limit_s
        self.ready_at: float | None = None
        self._deaths: dict[Play, int] = {}
        self._workers = [self._start() for _ in range(workers)]

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(STOP_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self.job), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def play(self, plays: Sequence[Play]) -> Iterator[tuple[Play, Outcome]]:
        """Plays all episodes, the first first, and yields each as it ends; who stops asking stops the playing.

        Raises:
            PhysaiError: if the workers cannot load the policy or the environment.
            SimulationError: if a worker ends, or hangs, before it has played anything.
        """
        waiting, open_ = deque(plays), len(plays)
        while open_:
            for worker in self._workers:
                while waiting and worker.ready and len(worker.told) < AHEAD:
                    if not worker.told:
                        worker.since = time.monotonic()
                    worker.told.append(waiting.popleft())
                    with suppress(OSError):  # it has just died, which the pipe says below
                        worker.pipe.send(worker.told[-1])
            ready = wait([worker.pipe for worker in self._workers], self._patience())
            for pipe in ready:
                index = next(i for i, worker in enumerate(self._workers) if worker.pipe is pipe)
                found = self._hear(index, waiting)
                if found is not None:
                    open_ -= 1
                    yield found
            for index, worker in enumerate(self._workers):
                if self._left(worker) <= 0.0 and not worker.pipe.poll():  # it may have answered meanwhile
                    open_ -= 1
                    yield self._hung(index, waiting)

    def _hear(self, index: int, waiting: deque[Play]) -> tuple[Play, Outcome] | None:
        worker = self._workers[index]
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            return self._buried(index, waiting)
        if isinstance(message, PhysaiError):
            raise message
        if message is None:
            worker.ready, self.ready_at = True, self.ready_at or time.perf_counter()
            return None
        outcome, cpu_s = message
        self.cpu_s += cpu_s
        worker.since = time.monotonic()
        return worker.told.popleft(), outcome

    def _left(self, worker: _Worker) -> float:
        """How much longer a worker may take for what it does [s]; infinite if it does nothing."""
        if worker.ready and not worker.told:
            return float("inf")
        return worker.since + (self._limit_s if worker.ready else START_LIMIT_S) - time.monotonic()

    def _patience(self) -> float | None:
        """How long to wait for the workers before one of them hangs [s]; None for ever."""
        left = min(map(self._left, self._workers))
        return None if left == float("inf") else max(left, 0.0)

    def _hung(self, index: int, waiting: deque[Play]) -> tuple[Play, Outcome]:
        """Replaces a worker that hangs, and returns its episode; a second try would take as long."""
        worker = self._workers[index]
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        if not worker.ready:
            raise SimulationError(
                f"an evaluation worker could not load policy and environment within {START_LIMIT_S:g} s; "
                "see whether the environment waits for something"
            )
        culprit, *others = worker.told
        self._workers[index] = self._start()
        waiting.extendleft(reversed(others))
        text = (
            f"it did not end within {self._limit_s:g} s and was stopped (episode with seed {culprit.seed}); mend the "
            "environment, or allow more with --timeout"
        )
        return culprit, EpisodeFailure(culprit.seed, text, culprit.point)

    def _buried(self, index: int, waiting: deque[Play]) -> tuple[Play, Outcome] | None:
        """Replaces a worker that died; returns its episode if that is what killed it."""
        dead = self._workers[index]
        dead.process.join()
        dead.pipe.close()
        how = _how(dead.process.exitcode)
        if not dead.ready:
            raise SimulationError(
                f"an evaluation worker {how} before it could play: out of memory, killed, or the calling script lacks "
                "`if __name__ == '__main__':`; try fewer workers"
            )
        self._workers[index] = self._start()
        if not dead.told:
            return None
        waiting.extendleft(reversed(list(dead.told)[1:]))
        culprit = dead.told[0]
        self._deaths[culprit] = self._deaths.get(culprit, 0) + 1
        if self._deaths[culprit] < TRIES:
            waiting.appendleft(culprit)
            return None
        text = f"the process that plays it {how}, {TRIES} times (episode with seed {culprit.seed})"
        return culprit, EpisodeFailure(culprit.seed, text, culprit.point)


def _how(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"was ended by {signal.Signals(-exitcode).name}"
    return f"ended with exit code {exitcode}"


def _work(pipe: Connection, job: Job) -> None:
    """A worker's life: load, say so, then play what is asked for until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then tells the workers to stop
    with suppress(EOFError, BrokenPipeError):
        try:
            policy, env = _load(job)
        except PhysaiError as failure:
            pipe.send(failure)
            return
        pipe.send(None)
        while True:
            asked: Play = pipe.recv()
            started = time.process_time()
            outcome = _play_one(env, policy, asked)
            pipe.send((outcome, time.process_time() - started))
            if isinstance(outcome, EpisodeFailure):
                env = _again(env, job, policy)


def _load(job: Job) -> tuple[Policy, gym.Env[Any, Any]]:
    policy = load_policy(job.source, job.trained_for)
    if policy.digest != job.digest:
        raise ConfigError(f"{job.source} changed while it was evaluated; evaluate it when nothing writes to it")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # workers share the cores; and one thread gives the same bits anywhere
    return policy, _make(job, policy)


def _make(job: Job, policy: Policy) -> gym.Env[Any, Any]:
    try:
        return registry.make(job.task, goal_env=policy.spec.goal_env)
    except PhysaiError:
        raise
    except Exception as failure:  # of somebody's environment: it may raise anything
        raise SimulationError(f"{job.task} cannot be made: {_said(failure)}; mend the environment") from failure


def _again(env: gym.Env[Any, Any], job: Job, policy: Policy) -> gym.Env[Any, Any]:
    """A fresh environment in place of one that failed, and of which nobody knows in what state it is."""
    with suppress(Exception):  # it has failed already, which is in the report
        env.close()
    return _make(job, policy)


def _play_one(env: gym.Env[Any, Any], policy: Policy, asked: Play) -> Outcome:
    where = f"seed {asked.seed}"
    try:
        return play(env, policy, asked.seed, asked.options)
    except PhysaiError as failure:
        text = str(failure)
    except Exception as failure:  # of somebody's environment: it may raise anything, and the other episodes are kept
        text = f"it raised {_said(failure)}"
    return EpisodeFailure(asked.seed, text if where in text else f"{text} (episode with {where})", asked.point)


def _said(failure: Exception) -> str:
    return f"{type(failure).__name__}: {failure}".splitlines()[0].removesuffix(": ")
