"""Plays episodes in other processes, here or on a cluster; one that takes down its process, or hangs, is named."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import gymnasium as gym

from physai.errors import ConfigError, PhysaiError, SimulationError
from physai.evaluate.episodes import EpisodeFailure, EpisodeRecord, play
from physai.policy import Policy, load_policy
from physai_envs import registry

AHEAD = 2  # episodes that a worker has been told, so that it need not wait for the next
TRIES = 2  # of an episode that takes down its process: the first time, somebody else may have killed it
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


class Seat(Protocol):
    """One worker, as the crew sees it."""

    def tell(self, play: Play) -> None:
        """Asks for an episode; episodes are played in the order in which they are asked for."""
        ...

    def hear(self) -> Any:
        """Returns the next answer: None or a PhysaiError after loading, then (outcome, CPU time [s]) of each episode.

        Raises:
            EOFError: if the worker has died.
        """
        ...

    def answered(self) -> bool:
        """Whether there is something to hear."""
        ...

    def end(self) -> None:
        """Ends the worker, whatever it does."""
        ...

    def ended(self) -> str:
        """Says how the worker died."""
        ...


class Host(Protocol):
    """Where workers are."""

    def room(self) -> int:
        """How many workers there is room for."""
        ...

    def hire(self, job: Job) -> Seat:
        """Starts a worker."""
        ...

    def wait(self, seats: Sequence[Seat], patience_s: float | None) -> None:
        """Returns when one of them has answered, or after `patience_s`; None waits for ever."""
        ...


@dataclass
class _Worker:
    seat: Seat
    told: deque[Play] = field(default_factory=deque)
    ready: bool = False
    since: float = field(default_factory=time.monotonic)  # it does what it does now


class Crew:
    """Workers that play episodes with one policy; used as a context manager.

    Args:
        job: what they load.
        workers: how many.
        limit_s: how long an episode may take; one that takes longer hangs, and its worker is replaced.
        host: where they are; None: processes of this machine.

    Attributes:
        ready_at: when the first worker had loaded everything, on `time.perf_counter`'s clock; None before.
        cpu_s: CPU time that the workers have spent on episodes [s].
    """

    def __init__(self, job: Job, workers: int, limit_s: float, host: Host | None = None) -> None:
        self.job, self.cpu_s, self._limit_s, self._host = job, 0.0, limit_s, host or Processes()
        self.ready_at: float | None = None
        self._deaths: dict[Play, int] = {}
        self._workers = [self._start() for _ in range(workers)]

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.seat.end()

    def _start(self) -> _Worker:
        return _Worker(self._host.hire(self.job))

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
                    worker.seat.tell(worker.told[-1])
            self._host.wait([worker.seat for worker in self._workers], self._patience())
            for index, worker in enumerate(self._workers):
                found = None
                if worker.seat.answered():
                    found = self._hear(index, waiting)
                elif self._left(worker) <= 0.0:
                    found = self._hung(index, waiting)
                if found is not None:
                    open_ -= 1
                    yield found

    def _hear(self, index: int, waiting: deque[Play]) -> tuple[Play, Outcome] | None:
        worker = self._workers[index]
        try:
            message = worker.seat.hear()
        except EOFError:
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
        worker.seat.end()
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
        how = dead.seat.ended()
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


class Processes:
    """New processes of this machine: not forks, which copy the threads and locks of simulator and torch as they are."""

    def room(self) -> int:
        """One for each core that this process may use."""
        return len(os.sched_getaffinity(0))

    def hire(self, job: Job) -> Seat:
        """Starts a process."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, job), daemon=True)
        process.start()
        theirs.close()
        return _Process(process, ours)

    def wait(self, seats: Sequence[Seat], patience_s: float | None) -> None:
        """Waits at their pipes."""
        wait([seat.pipe for seat in seats if isinstance(seat, _Process)], patience_s)


@dataclass
class _Process:
    """A worker that is a process; its pipe is at its end when it dies."""

    process: BaseProcess
    pipe: Connection

    def tell(self, play: Play) -> None:
        with suppress(OSError):  # it has just died, which `hear` says
            self.pipe.send(play)

    def hear(self) -> Any:
        try:
            return self.pipe.recv()
        except OSError as gone:
            raise EOFError from gone

    def answered(self) -> bool:
        return self.pipe.poll()

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    def ended(self) -> str:
        self.process.join()
        self.pipe.close()
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


def _work(pipe: Connection, job: Job) -> None:
    """The life of a process: load, say so, then play what is asked for until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends the workers
    player = Player(job)
    with suppress(EOFError, BrokenPipeError):
        failure = player.load()
        pipe.send(failure)
        while failure is None:
            pipe.send(player.play(pipe.recv()))


class Player:
    """What a worker does, wherever it is: loads policy and environment, and plays one episode after the other."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def load(self) -> PhysaiError | None:
        """Loads; returns why it cannot."""
        job = self._job
        try:
            self._policy = load_policy(job.source, job.trained_for)
            if self._policy.digest != job.digest:
                raise ConfigError(f"{job.source} changed while it was evaluated; evaluate it when nothing writes to it")
            if "torch" in sys.modules:  # workers share the cores; and one thread gives the same bits anywhere
                sys.modules["torch"].set_num_threads(1)
            self._env = _make(job, self._policy)
        except PhysaiError as failure:
            return failure
        return None

    def play(self, asked: Play) -> tuple[Outcome, float]:
        """Plays an episode; returns what came of it, and the CPU time that it took [s]."""
        started = time.process_time()
        outcome = _play_one(self._env, self._policy, asked)
        spent = time.process_time() - started
        if isinstance(outcome, EpisodeFailure):  # nobody knows in what state the environment is
            with suppress(Exception):  # it has failed already, which is in the report
                self._env.close()
            self._env = _make(self._job, self._policy)
        return outcome, spent


def _make(job: Job, policy: Policy) -> gym.Env[Any, Any]:
    try:
        return registry.make(job.task, goal_env=policy.spec.goal_env)
    except PhysaiError:
        raise
    except Exception as failure:  # of somebody's environment: it may raise anything
        raise SimulationError(f"{job.task} cannot be made: {_said(failure)}; mend the environment") from failure


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
