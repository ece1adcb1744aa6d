"""The process that collects: a `RolloutWorker` as a Ray actor, and the witness of its last moments."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import ray
from ray.actor import ActorHandle

from physai.config import RunConfig
from physai.train.behaviour import Package
from physai.train.quarantine import Place, Watched, without
from physai.train.rollout import RolloutWorker, make_env


class Witness:
    """Remembers where each watched job was last; lives in a process that no environment can take down."""

    def __init__(self) -> None:
        self._last: dict[str, Place] = {}

    def note(self, job: str, place: Place) -> None:
        """Takes where a job is."""
        self._last[job] = place

    def last(self, job: str) -> Place | None:
        """Hands out where a job was last, once."""
        return self._last.pop(job, None)


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
        self._config = config
        self._worker = RolloutWorker(config)

    def ready(self) -> int:
        """Answers with the process id as soon as the actor can work."""
        return os.getpid()

    def do(
        self,
        method: str,
        package: Package,
        job: Any,
        skip: frozenset[int] = frozenset(),
        witness: tuple[ActorHandle, str] | None = None,
    ) -> Any:
        """Does a job: a method of `RolloutWorker`, by name.

        Args:
            method: its name.
            package: policy and statistics.
            job: what the method takes.
            skip: seeds to leave out, besides those of the package.
            witness: who is told every step, and as which job; a millisecond each, so not in a first try.
        """
        package = without(package, skip)
        if witness is None:
            return getattr(self._worker, method)(package, job)
        who, name = witness

        def tell(place: Place) -> None:
            ray.get(who.note.remote(name, place))  # has arrived before anything can happen

        def make(config: RunConfig) -> Any:
            tell(Place(None, 0))
            return Watched(make_env(config), tell)

        worker = RolloutWorker(self._config, make)
        try:
            return getattr(worker, method)(package, job)
        finally:
            worker.close()
