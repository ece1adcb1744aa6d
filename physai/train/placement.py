"""Where rollout actors are: on every node as many as it has cores for them, on a new node within seconds.

The driver owns the actors, so that they outlive a learner. Each is bound to its node: left to Ray, an actor whose node
is lost would wait for a place on a full one, and nobody would see that it does.
"""

from __future__ import annotations

import heapq
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from physai.config import RunConfig
from physai.errors import ClusterError, PhysaiError
from physai.train.actor import RolloutActor
from physai.train.nodes import cause_of

# Less than a whole core: else nothing is left for a learner's worker on a machine where each core has an actor,
# and Ray waits for ever and says nothing.
ACTOR_CPUS = 0.9
LOOK_S = 1.0  # how often the driver looks for nodes that came or went
POLL_S = 0.5
START_TIMEOUT_S = 120.0
GRACE_S = 15.0  # so long the first actors wait for the others; who is later joins a run that has begun
log = logging.getLogger("physai")


@dataclass(frozen=True)
class Node:
    """A living node of the cluster, and what it has for us."""

    id: str
    name: str
    cores: int
    gpus: int


def nodes() -> dict[str, Node]:
    """Asks Ray for the living nodes."""
    found = {}
    for entry in ray.nodes():
        if entry["Alive"]:
            has = entry["Resources"]
            name = entry["NodeManagerHostname"]
            found[entry["NodeID"]] = Node(entry["NodeID"], name, int(has.get("CPU", 0)), int(has.get("GPU", 0)))
    return found


def room(node: Node, config: RunConfig) -> int:
    """Returns how many actors a node has cores for.

    Learners elsewhere than in the driver live where the GPUs are, and feed them: a core is left for each.
    """
    kept = min(node.gpus, node.cores - 1) if config.learner.workers else 0
    return node.cores - max(0, kept)


def missing(rooms: Mapping[str, int], there: Mapping[str, int], wanted: int) -> list[str]:
    """Returns the node of each actor that is to be started; each goes where the smallest share of the cores is taken.

    Args:
        rooms: how many each node can have.
        there: how many each node has.
        wanted: how many there should be.
    """
    counts = Counter({node: there.get(node, 0) for node in rooms})
    free = [(counts[node] / rooms[node], -rooms[node], node) for node in rooms if counts[node] < rooms[node]]
    heapq.heapify(free)
    added: list[str] = []
    for _ in range(min(wanted, sum(rooms.values())) - sum(counts.values())):
        if not free:
            break
        _, _, node = heapq.heappop(free)
        counts[node] += 1
        added.append(node)
        if counts[node] < rooms[node]:
            heapq.heappush(free, (counts[node] / rooms[node], -rooms[node], node))
    return added


class Crew(Protocol):
    """Who is there to work, as a fleet sees it."""

    def members(self) -> Mapping[str, ActorHandle]:
        """Handles of the actors on living nodes, by name; does not wait."""
        ...


@dataclass
class _Hired:
    handle: ActorHandle
    node: Node
    ready: Any  # reference of its first answer; None when it has come
    since: float


class Placement:
    """Starts the actors of a run and keeps as many as the cluster has room for, until it is closed.

    Args:
        config: of the run.
        say: told who came and who went.
    """

    def __init__(self, config: RunConfig, say: Callable[[str], None] = lambda text: None) -> None:
        self._config, self._say = config, say
        self._hired: dict[str, _Hired] = {}
        self._count = 0
        self._barred: dict[str, float] = {}  # nodes on which actors cannot start, until when
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._board: ActorHandle | None = None
        self._number, self._posted = 0, frozenset[str]()  # of the newest list for the board, and who is on it
        self._group = ray.util.get_current_placement_group()  # of a trial: its resources are reserved on one node
        asked = config.rollout.actors
        self._wanted = config.rollout.groups if asked == "auto" else min(config.rollout.groups, asked)

    def start(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Starts the actors and waits for them, then looks after them in a thread.

        Raises:
            ClusterError: if the cluster is too small, or none of them starts.
            PhysaiError: what the first one raised.
        """
        cores = self._check_room()
        self._adapt()
        ends, grace = time.monotonic() + START_TIMEOUT_S, None
        while any(hired.ready is not None for hired in self._hired.values()):
            waiting()
            ray.wait([h.ready for h in self._hired.values() if h.ready is not None], timeout=POLL_S)
            self._adapt()
            if not self._hired:
                self._check_room()  # all nodes were lost meanwhile
            self._look(raising=True)
            started = [h for h in self._hired.values() if h.ready is None]
            grace = grace or (time.monotonic() + GRACE_S if started else None)
            if grace and time.monotonic() > grace:
                late = len(self._hired) - len(started)
                self._say(f"{late} of {len(self._hired)} rollout actors are late; they join when the cluster has room")
                break
            if time.monotonic() > ends:
                free = ray.available_resources().get("CPU", 0.0)
                raise ClusterError(
                    f"none of {len(self._hired)} rollout actors started in {START_TIMEOUT_S:g} s ({free:g} of {cores} "
                    "CPUs are free); is the cluster busy? Give fewer with rollout.actors="
                )
        self._thread.start()

    def _check_room(self) -> int:
        """Returns for how many actors there are cores.

        Raises:
            ClusterError: if they are too few.
        """
        asked, cores = self._config.rollout.actors, sum(room(node, self._config) for node in self._nodes().values())
        if cores < (1 if asked == "auto" else self._wanted):
            raise ClusterError(
                f"rollout.actors is {asked} and Ray has {cores} CPUs for them; "
                + (f"give rollout.actors={cores}, or " if cores else "give it ")
                + "a larger cluster"
            )
        return cores

    def members(self) -> dict[str, ActorHandle]:
        """Handles of the actors on living nodes, by name."""
        with self._lock:
            return {name: hired.handle for name, hired in self._hired.items()}

    def shared(self) -> RemoteCrew:
        """Returns what a learner in another process sees of it."""
        if self._board is None:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            remote = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(NoticeBoard)
            self._board = remote.remote()
        self._post()
        return RemoteCrew(self._board)

    def __enter__(self) -> Placement:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the actors; a Ray that others use too gets its CPUs back."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        for handle in [*self.members().values(), *([self._board] if self._board is not None else [])]:
            ray.kill(handle)

    # ---- looking after them ----------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._closed.wait(LOOK_S):
            try:
                self._adapt()
                self._look(raising=False)
                if self._board is not None:
                    self._post()
            except RayError as error:  # the head is away: the actors and the learner may still be there
                log.warning("the cluster does not answer (%s); looking again", error)

    def _adapt(self) -> None:
        """Starts actors where there is room for them, and forgets those whose node is lost."""
        living = self._nodes()
        lost = Counter(hired.node for hired in self._hired.values() if hired.node.id not in living)
        with self._lock:
            self._hired = {name: hired for name, hired in self._hired.items() if hired.node.id in living}
        for node, count in lost.items():
            self._say(f"node {node.name} was lost, and {count} rollout actors with it; {len(self._hired)} are left")
        open_ = {node.id for node in living.values() if self._barred.get(node.id, 0.0) <= time.monotonic()}
        rooms = {node.id: room(node, self._config) for node in living.values() if node.id in open_}
        there = Counter(hired.node.id for hired in self._hired.values())
        for node in missing(rooms, there, self._wanted):
            self._hire(living[node])

    def _post(self) -> None:
        """Tells the board who is there, if that changed or if it has been restarted: thousands of handles are slow."""
        members, board = self.members(), self._board
        if board is None:
            return
        if self._number == 0 or members.keys() != self._posted:
            self._number, self._posted = self._number + 1, frozenset(members)
        if ray.get(board.number.remote(), timeout=START_TIMEOUT_S) != self._number:
            ray.get(board.post.remote(self._number, members), timeout=START_TIMEOUT_S)

    def _nodes(self) -> dict[str, Node]:
        """Living nodes on which this run may have actors."""
        found = nodes()
        if self._group is None:
            return found
        here = ray.get_runtime_context().get_node_id()
        return {name: node for name, node in found.items() if name == here}

    def _hire(self, node: Node) -> None:
        here: Any = NodeAffinitySchedulingStrategy(node.id, soft=False)
        if self._group is not None:
            here = PlacementGroupSchedulingStrategy(self._group)
        remote = ray.remote(num_cpus=ACTOR_CPUS, max_restarts=-1, max_task_retries=0, scheduling_strategy=here)
        handle = remote(RolloutActor).remote(self._config, [os.path.abspath(path) for path in sys.path])
        with self._lock:
            self._hired[f"actor-{self._count:05d}"] = _Hired(handle, node, handle.ready.remote(), time.monotonic())
        self._count += 1

    def _look(self, *, raising: bool) -> None:
        """Notes which of the new actors have started, and bars a node where one could not."""
        new = {hired.ready: name for name, hired in self._hired.items() if hired.ready is not None}
        for reference in ray.wait(list(new), num_returns=len(new), timeout=0)[0] if new else ():
            name = new[reference]
            hired = self._hired[name]
            try:
                ray.get(hired.ready)
            except (RayTaskError, RayError) as error:
                if hired.node.id not in self._nodes():
                    continue  # the node was lost: `_adapt` deals with it
                cause = getattr(error, "cause", None)
                if raising and isinstance(cause, PhysaiError):
                    raise cause from error
                with self._lock:
                    del self._hired[name]
                self._barred[hired.node.id] = time.monotonic() + START_TIMEOUT_S
                self._say(f"node {hired.node.name}: a rollout actor cannot start there ({cause_of(error)})")
                if raising and not self._hired:
                    raise ClusterError(f"no rollout actor can start: {cause_of(error)}") from error
                continue
            hired.ready = None
            if not raising:
                self._say(f"node {hired.node.name}: a rollout actor joined; there are {len(self._hired)}")


class NoticeBoard:
    """Carries the list of actors from the driver to learners in other processes."""

    def __init__(self) -> None:
        self._number = 0  # of the list; 0 as long as nothing was posted, also after a restart
        self._members: dict[str, ActorHandle] = {}

    def post(self, number: int, members: dict[str, ActorHandle]) -> None:
        """Takes the list."""
        self._number, self._members = number, members

    def number(self) -> int:
        """Tells which list it has."""
        return self._number

    def read(self, known: int) -> tuple[int, dict[str, ActorHandle]] | None:
        """Hands out the list with its number; None to who knows it, and if there is none."""
        return None if self._number in (0, known) else (self._number, self._members)


class RemoteCrew:
    """The actors of a run as a process beside the driver sees them; may be pickled.

    Args:
        board: the notice board of the placement.
    """

    def __init__(self, board: ActorHandle) -> None:
        self._board = board
        self._number, self._members = 0, dict[str, ActorHandle]()
        self._asked: Any = None
        self._next = 0.0

    def members(self) -> dict[str, ActorHandle]:
        """Handles of the actors on living nodes, by name, as they were a second ago."""
        if self._asked is None and time.monotonic() >= self._next:
            self._asked, self._next = self._board.read.remote(self._number), time.monotonic() + LOOK_S
        if self._asked is not None and ray.wait([self._asked], timeout=0 if self._members else START_TIMEOUT_S)[0]:
            try:
                told = ray.get(self._asked)
                self._number, self._members = told or (self._number, self._members)
            except RayError:
                log.warning("the list of rollout actors cannot be read just now")
            self._asked = None
        return self._members
