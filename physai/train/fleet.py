"""Hands jobs to rollout actors. Jobs are pure functions, so one that is lost with its actor is done by another."""

from __future__ import annotations

import heapq
import logging
import math
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import ObjectLostError, ObjectStoreFullError, OutOfDiskError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from physai.config import RunConfig
from physai.errors import ClusterError, EpisodeError, PhysaiError
from physai.train.actor import Witness
from physai.train.behaviour import Package
from physai.train.placement import POLL_S, START_TIMEOUT_S, Crew
from physai.train.progress import Board
from physai.train.quarantine import Crash, Findings, Place

MOST_ATTEMPTS = 8  # of a job whose actor is lost each time, at places that do not agree: then it is not the episode
SAME_PLACE = 2  # watched tries that end in the same call: a pure function will always end there
# An actor that is lost again without having done a job waits, each time twice as long; then it is left out for good.
BACK_OFF_S, LONGEST_BACK_OFF_S, MOST_LOSSES = 1.0, 60.0, 10
WITNESS_S = MEET_S = 10.0
LINGER_S = 0.01  # after the first answer, for others: with hundreds of actors, to look at all for each of them adds up
STORAGE_ERRORS = (ObjectLostError, ObjectStoreFullError, OutOfDiskError)
log = logging.getLogger("physai")


@dataclass
class _Member:
    """An actor as the fleet sees it: the jobs it has, in its order, and since when it does the first one."""

    name: str
    handle: ActorHandle
    given: deque[tuple[Any, int, str | None]] = field(default_factory=deque)  # reference, number, name for the witness
    since: float = 0.0
    ping: Any = None  # reference of the call that tells when it is there
    started: bool = False
    retry_at: float = 0.0
    losses: int = 0  # since it last did a job


class RayFleet:
    """Hands jobs to the actors that are there, and takes care of those that die or hang.

    Several processes may have one over the same actors: an actor does jobs in the order in which they come.

    Args:
        crew: who is there; it may change at any time.
        config: of the run.
        board: told when there is nobody.
    """

    def __init__(self, crew: Crew, config: RunConfig, board: Board) -> None:
        self._crew, self._board = crew, board
        self._timeout_s, self._patience_s = config.rollout.timeout_s, config.rollout.patience_s
        self._task = config.task
        self._members: dict[str, _Member] = {}
        self.restarts = self.redone = 0
        self._method, self._package, self._jobs = "", None, []
        self._packed: Any = None  # reference of the package
        self._todo: deque[int] = deque()
        self._homes: dict[int, str] = {}  # group: the actor that holds it
        self._attempts: dict[int, int] = {}
        self._places: dict[int, list[Place]] = {}
        self._findings = Findings(config)
        self._answers: dict[int, Any] = {}
        self._witness: ActorHandle | None = None
        self._alive_at = time.monotonic()
        self._handing: threading.Thread | None = None
        self._problem: Exception | None = None  # of that thread
        self._update()
        self._meet()

    @property
    def workers(self) -> int:
        """Actors that work now, and one if there is none."""
        return max(1, sum(member.started for member in list(self._members.values())))

    @property
    def crashes(self) -> Sequence[Crash]:
        """Episodes that the last batch left out."""
        return self._findings.crashes

    # ---- jobs ------------------------------------------------------------------------------------

    def start(self, method: str, package: Package, jobs: Sequence[Any]) -> None:
        """Puts the package into the object store once, and begins to give every actor its first jobs.

        They are given in a thread: a call takes a quarter of a millisecond, and the learner has better things to do
        than to make a thousand of them.

        Raises:
            ClusterError: if the object store stays full.
        """
        self._handed_out()
        self._method, self._package, self._jobs = method, package, list(jobs)
        self._todo, self._answers = deque(range(len(jobs))), {}
        self._attempts, self._places = {}, {}
        self._findings.begin(package)
        self._alive_at = time.monotonic()
        self._put()
        self._handing = threading.Thread(target=self._hand_out, daemon=True)
        self._handing.start()

    def _hand_out(self) -> None:
        try:
            self._update()
            self._assign()
        except Exception as error:
            self._problem = error

    def _handed_out(self) -> None:
        """Waits until the first jobs are given; raises what went wrong there."""
        if self._handing is not None:
            self._handing.join()
            self._handing = None
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem

    def finish(self, waiting: Callable[[], None]) -> list[Any]:
        """Waits for all answers.

        Raises:
            PhysaiError: what a job raised.
            SimulationError: if an episode takes down its actors and is not for the quarantine, or if it is full.
            ClusterError: if a job takes down every actor that tries it, or no actor is there for too long.
        """
        self._handed_out()
        looked = 0.0
        while len(self._answers) < len(self._jobs):
            if not self._starving():
                waiting()
            self._update()
            self._assign()
            done = self._wait()
            told = [m for m in self._members.values() if m.ping in done or (m.given and m.given[0][0] in done)]
            fetched = _fetch([m.given[0][0] for m in told if m.given and m.given[0][0] in done])
            for member in told:
                self._look_at(member, done, fetched)
            if time.monotonic() - looked > POLL_S:
                looked = time.monotonic()
                self._look_for_silence()
        return [self._answers.pop(number) for number in range(len(self._jobs))]

    def _wait(self) -> set[Any]:
        members = self._members.values()
        waited = [m.given[0][0] for m in members if m.given] + [m.ping for m in members if m.ping is not None]
        if not waited:
            time.sleep(POLL_S)
            return set()
        if not ray.wait(waited, num_returns=1, timeout=POLL_S)[0]:
            return set()
        return set(ray.wait(waited, num_returns=len(waited), timeout=LINGER_S)[0])

    def _put(self) -> None:
        ends, pause = time.monotonic() + self._patience_s, BACK_OFF_S
        while True:
            try:
                self._packed = ray.put(self._package)
                return
            except (ObjectStoreFullError, OutOfDiskError) as error:
                if time.monotonic() > ends:
                    raise ClusterError(
                        f"Ray's object store has been full for {self._patience_s:g} s; give Ray more memory or "
                        "disk, or collect less at a time (rollout.steps, envs_per_group); continue with --resume"
                    ) from error
                self._board.phase("waiting: Ray's object store is full")
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_BACK_OFF_S)

    def _assign(self) -> None:
        """Gives jobs to actors that can take one more: a group goes where it was before, if that actor is free."""
        ready = self._ready()
        if not self._todo or not ready:
            return
        # Fragments are equally long, and handed out at once they are collected while the learner learns.
        depth = math.ceil(len(self._jobs) / len(ready)) if self._method == "sample" else 2
        at_home, rest = defaultdict(deque), deque()
        for number in self._todo:
            home = self._homes.get(number) if self._method == "sample" else None
            (at_home[home] if home is not None else rest).append(number)
        for member in ready:
            mine = at_home[member.name]
            while mine and len(member.given) < depth:
                self._give(member, mine.popleft())
        for left in at_home.values():
            rest.extend(left)
        self._todo = deque(sorted(rest))
        free = [(len(member.given), place) for place, member in enumerate(ready) if len(member.given) < depth]
        heapq.heapify(free)
        while self._todo and free:  # always to who has least
            count, place = free[0]
            self._give(ready[place], self._todo.popleft())
            heapq.heapreplace(free, (count + 1, place)) if count + 1 < depth else heapq.heappop(free)

    def _give(self, member: _Member, number: int) -> None:
        if not member.given:
            member.since = time.monotonic()
        watched, witness = None, None
        if self._attempts.get(number):
            watched = uuid.uuid4().hex
            witness = self._witnessed(), watched
        skip = self._findings.skip(number)
        rare = (skip, witness) if skip or witness else ()  # each argument is pickled by itself
        reference = member.handle.do.remote(self._method, self._packed, self._jobs[number], *rare)
        member.given.append((reference, number, watched))
        if self._method == "sample":
            self._homes[number] = member.name

    # ---- actors ----------------------------------------------------------------------------------

    def _update(self) -> None:
        """Takes in the actors that joined, and takes their jobs back from those that left."""
        there = self._crew.members()
        for name in [name for name in self._members if name not in there]:
            self._take_back(self._members.pop(name))
        for name, handle in there.items():
            if name not in self._members:
                self._members[name] = _Member(name, handle)
                self._ping(self._members[name])

    def _meet(self) -> None:
        """Waits a moment for all to answer, so that not the fastest gets everything."""
        pings = [member.ping for member in self._members.values()]
        if pings:
            done = set(ray.wait(pings, num_returns=len(pings), timeout=MEET_S)[0])
            for member in self._members.values():
                self._look_at(member, done, {})

    def _ready(self) -> list[_Member]:
        now = time.monotonic()
        return [member for member in self._members.values() if member.started and now >= member.retry_at]

    def _look_at(self, member: _Member, done: set[Any], fetched: Mapping[Any, Any]) -> None:
        if member.ping is not None and member.ping in done:
            reference, member.ping = member.ping, None
            try:
                ray.get(reference)
                member.started, self._alive_at = True, time.monotonic()
            except RayError:
                member.retry_at = max(member.retry_at, time.monotonic() + POLL_S)  # not back yet
        if not member.given or member.given[0][0] not in done:
            return
        reference, number, _ = member.given[0]
        try:
            answer = fetched[reference] if reference in fetched else ray.get(reference)
        except RayTaskError as error:
            self._raised(member, number, error)
        except STORAGE_ERRORS as error:
            self._again(member, f"an answer was lost ({type(error).__name__})")
        except RayError as error:
            self._lost(member, f"died ({type(error).__name__})")
        else:
            self._next(member)
            member.losses = 0
            self._answers[number] = answer

    def _next(self, member: _Member) -> None:
        member.given.popleft()
        member.since = self._alive_at = time.monotonic()

    def _raised(self, member: _Member, number: int, error: RayTaskError) -> None:
        """Deals with what a job raised: an episode for the quarantine, a lost package, or the end of the run."""
        cause = error.cause
        if isinstance(cause, EpisodeError):
            self._findings.raised(number, cause, self._method)
            self._again(member, f"an episode failed ({cause})")
        elif isinstance(cause, RayError):
            self._put()
            self._again(member, f"the policy was lost on its way ({type(cause).__name__})")
        elif isinstance(cause, PhysaiError):
            raise cause from error
        else:
            raise error

    def _again(self, member: _Member, why: str) -> None:
        """Does the first job of an actor again; it is not to blame."""
        log.warning("%s; the job is done again", why)
        self.redone += 1
        self._todo.appendleft(member.given[0][1])
        self._next(member)

    def _look_for_silence(self) -> None:
        now = time.monotonic()
        for member in self._members.values():
            if member.given and now - member.since > self._timeout_s:
                ray.kill(member.handle, no_restart=False)
                self._lost(member, f"was silent for {self._timeout_s:g} s")
            elif not member.started and member.losses and now - member.since > START_TIMEOUT_S:
                ray.kill(member.handle, no_restart=False)
                self._lost(member, f"did not come back in {START_TIMEOUT_S:g} s")
            elif member.ping is None and not member.started and now >= member.retry_at:
                self._ping(member)

    def _ping(self, member: _Member) -> None:
        try:
            member.ping = member.handle.ready.remote()
        except RayError:
            member.retry_at = time.monotonic() + POLL_S

    def _take_back(self, member: _Member) -> None:
        """Hands the jobs of an actor to others; a job that was lost already is not given twice."""
        self.redone += len(member.given)
        self._todo.extendleft(number for _, number, _ in reversed(member.given))
        member.given.clear()
        self._homes = {group: name for group, name in self._homes.items() if name != member.name}

    def _lost(self, member: _Member, what: str) -> None:
        """Takes the jobs of an actor back and waits for its successor, which Ray starts by itself."""
        self.restarts += 1
        member.losses += 1
        member.started, member.ping, member.since = False, None, time.monotonic()
        pause = min(BACK_OFF_S * 2 ** (member.losses - 2), LONGEST_BACK_OFF_S) if member.losses > 1 else 0.0
        member.retry_at = time.monotonic() + (math.inf if member.losses > MOST_LOSSES else pause)
        log.warning("a rollout actor %s; its work is done again elsewhere", what)
        first = member.given[0] if member.given else None
        self._take_back(member)
        self._ping(member)
        if first is not None:
            self._blame(first[1], first[2], what)

    # ---- blame -----------------------------------------------------------------------------------

    def _witnessed(self) -> ActorHandle:
        if self._witness is None:  # beside us: if its node is lost, so are we
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            self._witness = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Witness).remote()
        return self._witness

    def _blame(self, number: int, watched: str | None, what: str) -> None:
        """Decides whether it was the episode: two watched tries of a job that end in the same call say so.

        Raises:
            SimulationError: if it was, and it is not for the quarantine.
            ClusterError: if the job was tried too often, and nothing is known.
        """
        self._attempts[number] = self._attempts.get(number, 0) + 1
        places = self._places.setdefault(number, [])
        if watched is not None and self._witness is not None:
            try:
                place = ray.get(self._witness.last.remote(watched), timeout=WITNESS_S)
            except RayError:
                log.warning("the witness is gone too; the next try will tell")
                place = None
            places += [place] if place is not None else []
            if place is not None and places.count(place) >= SAME_PLACE:
                if place.seed is None:
                    raise ClusterError(f"{self._task} takes down its actor while it is made (it {what}); mend it")
                self._findings.crashed(number, Crash(place.seed, place.step, what, self._method))
                places.clear()
                self._attempts[number] = 1  # the next one is watched as well
        if self._attempts[number] >= MOST_ATTEMPTS:
            where = f", {'; '.join(str(place) for place in places)}" if places else ""
            raise ClusterError(
                f"a job took down its actor {MOST_ATTEMPTS} times{where} (it {what}); memory may be short (fewer "
                "rollout.actors or envs_per_group), or rollout.timeout_s too short; continue with --resume"
            )

    def _starving(self) -> bool:
        """Says so if no actor can work, and ends the run when it has waited long enough.

        Raises:
            ClusterError: when its patience is over.
        """
        left = [member for member in self._members.values() if member.retry_at < math.inf]
        if any(member.started for member in left):
            self._alive_at = time.monotonic()
            return False
        waited = time.monotonic() - self._alive_at
        if waited > self._patience_s or (self._members and not left):
            raise ClusterError(
                f"no rollout actor has been there for {waited:.0f} s; bring nodes back and continue with --resume, or "
                "give more time with rollout.patience_s"
            )
        if waited < POLL_S or self._board.stopping():
            return False
        self._board.phase(f"no rollout actor is left; waiting up to {self._patience_s:g} s for one")
        return True


def _fetch(references: list[Any]) -> dict[Any, Any]:
    """Returns answers, all in one request; none if one of them is a failure, which has to be looked at by itself."""
    try:
        return dict(zip(references, ray.get(references), strict=True))
    except RayError:
        return {}
