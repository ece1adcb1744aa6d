"""Rollout actors on Ray. Jobs are pure functions, so one that is lost with its actor is simply done by another."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from physai.config import RunConfig
from physai.errors import ClusterError, PhysaiError
from physai.train.behaviour import Package
from physai.train.rollout import RolloutWorker

# Less than a whole core: else nothing is left for a learner's worker on a machine where each core has an actor,
# and Ray waits for ever and says nothing.
ACTOR_CPUS = 0.9
POLL_S = 0.5
START_TIMEOUT_S = 120.0
MOST_ATTEMPTS = 3  # a job that takes its actor down this often will always do so
log = logging.getLogger("physai")


class RolloutActor:
    """A `RolloutWorker` in a process of its own, with one thread.

    Args:
        config: of the run.
        paths: where the driver finds modules, such as that of a foreign environment.
    """

    def __init__(self, config: RunConfig, paths: Sequence[str]) -> None:
        sys.path.extend(path for path in paths if path not in sys.path)
        import torch

        torch.set_num_threads(1)
        self._worker = RolloutWorker(config)

    def ready(self) -> int:
        """Answers with the process id as soon as the actor can work."""
        return os.getpid()

    def do(self, method: str, package: Package, job: Any) -> Any:
        """Does a job: a method of `RolloutWorker`, by name."""
        return getattr(self._worker, method)(package, job)


@dataclass
class _Member:
    """An actor as the fleet sees it: the jobs it has, in its order, and since when it does the first one."""

    handle: ActorHandle
    given: deque[tuple[Any, int]] = field(default_factory=deque)  # (reference, number of the job)
    since: float = 0.0
    ping: Any = None  # reference of the call that tells when it is back
    retry_at: float = 0.0


def launch(config: RunConfig, waiting: Callable[[], None] = lambda: None) -> list[ActorHandle]:
    """Starts the actors of a run, as many as it asks for or as the cluster has cores, at most one a group.

    Raises:
        ClusterError: if the cluster is too small, or they do not start.
    """
    cores = int(ray.cluster_resources().get("CPU", 0))
    wanted = config.rollout.actors
    count = min(config.rollout.groups, max(1, cores) if wanted == "auto" else wanted)
    if count > cores:
        raise ClusterError(
            f"rollout.actors is {count} and Ray has {cores} CPUs; give "
            f"rollout.actors={max(1, cores)}, or a larger cluster"
        )
    remote = ray.remote(num_cpus=ACTOR_CPUS, max_restarts=-1, max_task_retries=0)(RolloutActor)
    paths = [os.path.abspath(path) for path in sys.path]
    handles = [remote.remote(config, paths) for _ in range(count)]
    left, ends = [handle.ready.remote() for handle in handles], time.monotonic() + START_TIMEOUT_S
    while left:
        waiting()
        done, left = ray.wait(left, num_returns=len(left), timeout=POLL_S)
        _get(done)
        if left and time.monotonic() > ends:
            free = ray.available_resources().get("CPU", 0.0)
            raise ClusterError(
                f"{len(left)} of {count} rollout actors did not start in {START_TIMEOUT_S:g} s ({free:g} of {cores} "
                "CPUs are free); is the cluster busy? Give fewer with rollout.actors="
            )
    return handles


def _get(references: Sequence[Any]) -> list[Any]:
    """Fetches answers; failures that physai explains itself come out as they were raised."""
    try:
        return list(ray.get(list(references)))
    except RayTaskError as error:
        if isinstance(error.cause, PhysaiError):
            raise error.cause from error
        raise


class RayFleet:
    """Hands jobs to actors and takes care of those that die or hang.

    Args:
        handles: what `launch` returned.
        timeout_s: an actor that works longer on one job is replaced.
    """

    def __init__(self, handles: Sequence[ActorHandle], timeout_s: float) -> None:
        self._members = [_Member(handle) for handle in handles]
        self._timeout_s = timeout_s
        self.workers, self.restarts = len(handles), 0
        self._method, self._package, self._jobs = "", None, []
        self._todo: deque[int] = deque()
        self._attempts: list[int] = []
        self._answers: dict[int, Any] = {}
        self._depth = 1
        self._alive_at = time.monotonic()

    def start(self, method: str, package: Package, jobs: Sequence[Any]) -> None:
        """Puts the package into the object store once, and gives every actor its first jobs."""
        self._method, self._package, self._jobs = method, ray.put(package), list(jobs)
        self._todo, self._answers = deque(range(len(jobs))), {}
        self._attempts = [0] * len(jobs)
        # Fragments are equally long, and handed out at once they are collected while the learner learns.
        self._depth = math.ceil(len(jobs) / self.workers) if method == "sample" else 2
        self._alive_at = time.monotonic()
        self._assign()

    def finish(self, waiting: Callable[[], None]) -> list[Any]:
        """Waits for all answers.

        Raises:
            PhysaiError: what a job raised.
            ClusterError: if a job takes down every actor that tries it, or no actor comes back.
        """
        while len(self._answers) < len(self._jobs):
            waiting()
            self._assign()
            waited = [m.given[0][0] for m in self._members if m.given]
            waited += [m.ping for m in self._members if m.ping is not None]
            if not waited:
                time.sleep(POLL_S)
            done = set(ray.wait(waited, num_returns=1, timeout=POLL_S)[0]) if waited else set()
            for member in self._members:
                self._look_at(member, done)
            self._check_alive()
        return [self._answers[number] for number in range(len(self._jobs))]

    def _assign(self) -> None:
        """Gives jobs to actors that can take one more: a group goes where it was before, if that actor is free."""
        for member in self._ready():
            while len(member.given) < self._depth:
                number = self._next_for(member)
                if number is None:
                    break
                if not member.given:
                    member.since = time.monotonic()
                reference = member.handle.do.remote(self._method, self._package, self._jobs[number])
                member.given.append((reference, number))

    def _ready(self) -> list[_Member]:
        return [member for member in self._members if member.ping is None and time.monotonic() >= member.retry_at]

    def _next_for(self, member: _Member) -> int | None:
        at, ready = self._members.index(member), len(self._ready())
        if self._method != "sample" or ready < self.workers:
            return self._todo.popleft() if self._todo else None
        mine = next((number for number in self._todo if number % self.workers == at), None)
        if mine is not None:
            self._todo.remove(mine)
        return mine

    def _look_at(self, member: _Member, done: set[Any]) -> None:
        if member.ping is not None and member.ping in done:
            self._look_at_ping(member)
        elif member.given and member.given[0][0] in done:
            reference, number = member.given[0]
            try:
                answer = _get([reference])[0]
            except RayTaskError:
                raise
            except RayError as error:
                self._lost(member, f"died ({type(error).__name__})")
                return
            member.given.popleft()
            member.since = self._alive_at = time.monotonic()
            self._answers[number] = answer
        elif member.given and time.monotonic() - member.since > self._timeout_s:
            ray.kill(member.handle, no_restart=False)
            self._lost(member, f"was silent for {self._timeout_s:g} s")

    def _look_at_ping(self, member: _Member) -> None:
        try:
            _get([member.ping])
        except RayTaskError:
            raise
        except (RayError, GetTimeoutError):
            member.retry_at = time.monotonic() + POLL_S  # not back yet
            member.ping = None
            self._ping(member)
            return
        member.ping = None
        self._alive_at = time.monotonic()

    def _ping(self, member: _Member) -> None:
        try:
            member.ping = member.handle.ready.remote()
        except RayError:
            member.retry_at = time.monotonic() + POLL_S

    def _lost(self, member: _Member, what: str) -> None:
        """Takes the jobs of an actor back and waits for its successor, which Ray starts by itself."""
        self.restarts += 1
        number = member.given[0][1]
        self._attempts[number] += 1
        log.warning("a rollout actor %s; its work is done again elsewhere", what)
        self._todo.extendleft(number for _, number in reversed(member.given))
        member.given.clear()
        if self._attempts[number] >= MOST_ATTEMPTS:
            raise ClusterError(
                f"job {self._jobs[number]} took down its actor {MOST_ATTEMPTS} times (it {what}); the environment "
                "crashes or hangs there, or memory is short (fewer rollout.actors or envs_per_group), or "
                "rollout.timeout_s is too short"
            )
        self._ping(member)

    def _check_alive(self) -> None:
        if any(member.ping is None for member in self._members):
            return
        silent = time.monotonic() - self._alive_at
        if silent > max(START_TIMEOUT_S, self._timeout_s):
            raise ClusterError(f"no rollout actor came back in {silent:.0f} s; is the cluster still there?")


def dismiss(handles: Sequence[ActorHandle]) -> None:
    """Ends the actors; a Ray that others use too gets its CPUs back."""
    for handle in handles:
        ray.kill(handle)
