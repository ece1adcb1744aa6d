"""The learner as Ray Train runs it, and how a learner in another process talks to the person at the driver."""

from __future__ import annotations

import time
from typing import Any

import ray
from ray.actor import ActorHandle

from physai.errors import PhysaiError
from physai.train.fleet import RayFleet
from physai.train.learner import Learner, Outcome
from physai.train.progress import Board, Row
from physai.train.run_dir import RunFolder

TELL_EVERY_S = 0.5


def learn_here(settings: dict[str, Any]) -> Outcome:
    """Train loop of Ray Train's local mode: it runs in the driver, and failures come out as they are."""
    return _learner(settings, settings["board"]).run()


def learn_there(settings: dict[str, Any]) -> None:
    """Train loop of a worker. It leaves its result in the mailbox; a failure that a retry would repeat, too."""
    mailbox = settings["mailbox"]
    board = RemoteBoard(mailbox)
    try:
        ray.get(mailbox.finish.remote(_learner(settings, board).run(), None))
    except PhysaiError as error:
        ray.get(mailbox.finish.remote(None, error))


def _learner(settings: dict[str, Any], board: Board) -> Learner:
    config = settings["config"]
    fleet = RayFleet(settings["handles"], config.rollout.timeout_s)
    run = RunFolder(settings["run"], config.checkpoint.keep)
    return Learner(config, settings["interface"], fleet, run, board)


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
        self.doing = doing
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
    """The board of a learner in another process: it writes to the mailbox, twice a second at most."""

    def __init__(self, mailbox: ActorHandle) -> None:
        self._mailbox, self._stop, self._told = mailbox, False, 0.0
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
        self._stop = ray.get(self._mailbox.tell.remote(self._lines, self._rows, self._doing))
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
