"""The contract between the learner and whoever does its work: jobs, each a pure function, answered in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from physai.config import RunConfig
from physai.train.behaviour import Package
from physai.train.rollout import RolloutWorker


class Fleet(Protocol):
    """Does jobs, `RolloutWorker` methods by name, while the learner does something else.

    Attributes:
        workers: how many jobs are done at the same time.
        restarts: how many workers were replaced so far.
    """

    workers: int
    restarts: int

    def start(self, method: str, package: Package, jobs: Sequence[Any]) -> None:
        """Hands out jobs; one batch at a time."""
        ...

    def finish(self, waiting: Callable[[], None]) -> list[Any]:
        """Returns the answers in the order of the jobs; calls `waiting` now and then."""
        ...


class InProcessFleet:
    """Does the jobs itself, in this process, when they are asked for."""

    workers, restarts = 1, 0

    def __init__(self, config: RunConfig) -> None:
        self.worker = RolloutWorker(config)
        self._batch: tuple[str, Package, Sequence[Any]] | None = None

    def start(self, method: str, package: Package, jobs: Sequence[Any]) -> None:
        """Remembers the jobs."""
        self._batch = method, package, jobs

    def finish(self, waiting: Callable[[], None]) -> list[Any]:
        """Does them."""
        if self._batch is None:
            raise ValueError("no jobs were started")
        method, package, jobs = self._batch
        self._batch = None
        answers = []
        for job in jobs:
            waiting()
            answers.append(getattr(self.worker, method)(package, job))
        return answers
