"""The contract between the learner and whoever does its work: jobs, each a pure function, answered in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from physai.config import RunConfig
from physai.errors import EpisodeError
from physai.train.behaviour import Package
from physai.train.quarantine import Crash, Findings
from physai.train.rollout import RolloutWorker


class Fleet(Protocol):
    """Does jobs, `RolloutWorker` methods by name, while the learner does something else.

    Attributes:
        workers: how many jobs are done at the same time.
        restarts: how many workers were replaced so far.
        redone: how many jobs were done again so far, because worker or answer was lost.
        crashes: episodes that the jobs of the last batch left out, because they cannot be played.
    """

    restarts: int
    redone: int

    @property
    def workers(self) -> int: ...  # noqa: D102

    @property
    def crashes(self) -> Sequence[Crash]: ...  # noqa: D102

    def start(self, method: str, package: Package, jobs: Sequence[Any]) -> None:
        """Hands out jobs; one batch at a time."""
        ...

    def finish(self, waiting: Callable[[], None]) -> list[Any]:
        """Returns the answers in the order of the jobs; calls `waiting` now and then.

        Raises:
            SimulationError: if an episode fails that is not for the quarantine, or if it is full.
        """
        ...


class InProcessFleet:
    """Does the jobs itself, in this process, when they are asked for."""

    workers, restarts, redone = 1, 0, 0

    def __init__(self, config: RunConfig) -> None:
        self.worker = RolloutWorker(config)
        self._findings = Findings(config)
        self._batch: tuple[str, Package, Sequence[Any]] | None = None

    @property
    def crashes(self) -> Sequence[Crash]:
        """Episodes that the last batch left out."""
        return self._findings.crashes

    def start(self, method: str, package: Package, jobs: Sequence[Any]) -> None:
        """Remembers the jobs."""
        self._batch = method, package, jobs

    def finish(self, waiting: Callable[[], None]) -> list[Any]:
        """Does them."""
        if self._batch is None:
            raise ValueError("no jobs were started")
        method, package, jobs = self._batch
        self._batch = None
        self._findings.begin(package)
        return [self._do(method, package, number, job, waiting) for number, job in enumerate(jobs)]

    def _do(self, method: str, package: Package, number: int, job: Any, waiting: Callable[[], None]) -> Any:
        while True:
            waiting()
            try:
                return getattr(self.worker, method)(self._findings.package(number, package), job)
            except EpisodeError as error:
                self._findings.raised(number, error, method)
