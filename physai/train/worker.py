"""The learners as Ray Train runs them, and how a learner in another process talks to the person at the driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from physai.errors import PhysaiError
from physai.train.behaviour import Package
from physai.train.collective import Collective
from physai.train.fleet import RayFleet
from physai.train.learner import Learner
from physai.train.outcome import Outcome
from physai.train.placement import Crew
from physai.train.progress import Board, Row
from physai.train.quarantine import Crash
from physai.train.run_dir import RunFolder
from physai.train.work import Fleet

TELL_EVERY_S = 0.5


def learn_here(settings: dict[str, Any]) -> Outcome:
    """Train loop of Ray Train's local mode: it runs in the driver, and failures come out as they are."""
    return _learner(settings, settings["board"], Collective()).run()


def learn_there(settings: dict[str, Any]) -> None:
    """Train loop of a worker. The first one leaves the result in the mailbox; a failure that a retry repeats, too."""
    mailbox, collective = settings["mailbox"], Collective.joined()
    outcome, failure = None, None
    try:
        outcome = _learner(settings, RemoteBoard(mailbox, speaks=collective.leader), collective).run()
    except PhysaiError as error:
        failure = error
    if collective.leader:
        ray.get(mailbox.finish.remote(outcome, failure))


def _learner(settings: dict[str, Any], board: Board, collective: Collective) -> Learner:
    config, crew = settings["config"], settings["crew"]
    fleet: Fleet = RayFleet(crew, config, board)
    if collective.size > 1:
        fleet = ShardedFleet(RayFleet(ShareOfCrew(crew, collective), config, board), fleet)
    run = RunFolder(settings["run"], config.checkpoint.keep)
    return Learner(config, settings["interface"], fleet, run, board, collective=collective, device=settings["device"])


class ShareOfCrew:
    """Every `size`-th actor. With fewer actors than learners some have two masters: slower, with the same fragments.

    Args:
        crew: all actors.
        collective: the learners, and which of them this is.
    """

    def __init__(self, crew: Crew, collective: Collective) -> None:
        self._crew, self._collective = crew, collective

    def members(self) -> Mapping[str, ActorHandle]:
        """Those that are there now."""
        everyone = sorted(self._crew.members().items())
        return dict(everyone[self._collective.rank :: self._collective.size] or everyone)


class ShardedFleet:
    """Collects with a learner's own share of the actors, and does everything else with all of them.

    So each actor has one master at a time: only the first learner measures, while the others wait.
    """

    def __init__(self, own: Fleet, everyone: Fleet) -> None:
        self._own, self._everyone, self._now = own, everyone, own

    @property
    def workers(self) -> int:
        """All actors."""
        return self._everyone.workers

    @property
    def restarts(self) -> int:
        """Those that this learner saw."""
        return self._own.restarts + self._everyone.restarts

    @property
    def redone(self) -> int:
        """Those that this learner saw."""
        return self._own.redone + self._everyone.redone

    @property
    def crashes(self) -> Sequence[Crash]:
        """Of the last batch."""
        return self._now.crashes

    def start(self, method: str, package: Package, jobs: Sequence[Any]) -> None:
        """Hands out jobs."""
        self._now = self._own if method == "sample" else self._everyone
        self._now.start(method, package, jobs)

    def finish(self, waiting: Callable[[], None]) -> list[Any]:
        """Waits for the answers."""
        return self._now.finish(waiting)


class Mailbox:
    """Carries words from the learner to the driver, and the wish to stop back."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.rows: list[Row] = []
        self.doing = ""
        self.stop = False
        self.outcome: tuple[Outcome | None, PhysaiError | None] = (None, None)

    def tell(self, lines: list[str], rows: list[Row], doing: str) -> bool:
        """Takes what the learner says; returns whether it shall stop."""
        self.lines += lines
        self.rows += rows
        self.doing = doing or self.doing
        return self.stop

    def hear(self, stop: bool) -> tuple[list[str], list[Row], str]:
        """Hands out what was said since the last time."""
        self.stop = self.stop or stop
        said = self.lines, self.rows, self.doing
        self.lines, self.rows = [], []
        return said

    def finish(self, outcome: Outcome | None, error: PhysaiError | None) -> None:
        """Takes the end of the run."""
        self.outcome = outcome, error

    def result(self) -> tuple[Outcome | None, PhysaiError | None]:
        """Hands out the end of the run."""
        return self.outcome


class RemoteBoard:
    """The board of a learner in another process: it writes to the mailbox, twice a second at most.

    Args:
        mailbox: to which it writes.
        speaks: False for all learners but one: they listen for the wish to stop.
    """

    def __init__(self, mailbox: ActorHandle, *, speaks: bool) -> None:
        self._mailbox, self._speaks, self._stop, self._told = mailbox, speaks, False, 0.0
        self._lines: list[str] = []
        self._rows: list[Row] = []
        self._doing = ""

    def say(self, text: str) -> None:
        """Shows a line that stays."""
        self._lines.append(text)
        self._tell(now=True)

    def phase(self, text: str) -> None:
        """Says what goes on now."""
        self._doing = text
        self._tell()

    def show(self, row: Row) -> None:
        """Shows the figures of an iteration."""
        self._rows.append(row)
        self._tell(now=True)

    def stopping(self) -> bool:
        """Whether somebody asked to stop."""
        self._tell()
        return self._stop

    def _tell(self, *, now: bool = False) -> None:
        if not now and time.monotonic() - self._told < TELL_EVERY_S:
            return
        said = (self._lines, self._rows, self._doing) if self._speaks else ([], [], "")
        self._stop = ray.get(self._mailbox.tell.remote(*said))
        self._lines, self._rows, self._told = [], [], time.monotonic()


def mailbox() -> ActorHandle:
    """Starts a mailbox; it ends with the driver."""
    return ray.remote(num_cpus=0)(Mailbox).remote()


def relay(mailbox: ActorHandle, board: Any) -> None:
    """Shows on the driver's board what the learner told, and passes on the wish to stop."""
    lines, rows, doing = ray.get(mailbox.hear.remote(board.stopping()))
    for text in lines:
        board.say(text)
    for row in rows:
        board.show(row)
    if doing:
        board.phase(doing)


def result(mailbox: ActorHandle) -> tuple[Outcome | None, PhysaiError | None]:
    """Returns how the learner ended: its outcome, or the failure."""
    found: tuple[Outcome | None, PhysaiError | None] = ray.get(mailbox.result.remote())
    return found
