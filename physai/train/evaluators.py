"""Workers of an evaluation on a Ray cluster: the same that a machine has as processes, as actors."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from physai.evaluate.workers import Job, Play, Player, Seat
from physai.train import cluster


@contextmanager
def evaluators(address: str | None) -> Iterator[Cluster]:
    """Gives a host for `physai.evaluate.evaluate` while the context lasts.

    Args:
        address: of a cluster, as `cluster.connected` takes it. Its nodes have to see the policy under the same path.

    Raises:
        ClusterError: if it cannot be reached, or a node has other versions.
    """
    with cluster.connected(address):
        yield Cluster()


class Cluster:
    """Hires actors of the Ray that this process is connected to, one core each."""

    def room(self) -> int:
        """One for each core that nobody has asked for."""
        return max(1, int(ray.available_resources().get("CPU", 1)))

    def hire(self, job: Job) -> Seat:
        """Starts an actor."""
        away = "://" in job.source
        return _Actor(job if away else replace(job, source=str(Path(job.source).resolve())))

    def wait(self, seats: Sequence[Seat], patience_s: float | None) -> None:
        """Waits for the first answer."""
        asked = [seat.answers[0] for seat in seats if isinstance(seat, _Actor) and seat.answers]
        ray.wait(asked, timeout=patience_s)


class _Remote(Player):
    """The same, in a process of Ray, which does not look for modules where this one does."""

    def __init__(self, job: Job, paths: Sequence[str]) -> None:
        sys.path.extend(path for path in paths if path not in sys.path)
        super().__init__(job)


class _Actor:
    """A worker that is an actor; what it is asked for raises when it is lost."""

    def __init__(self, job: Job) -> None:
        paths = [os.path.abspath(path) for path in sys.path]
        self._handle = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(_Remote).remote(job, paths)
        self.answers: deque[Any] = deque([self._handle.load.remote()])

    def tell(self, play: Play) -> None:
        self.answers.append(self._handle.play.remote(play))

    def hear(self) -> Any:
        try:
            return ray.get(self.answers.popleft())
        except RayError as gone:
            raise EOFError from gone

    def answered(self) -> bool:
        return bool(self.answers) and bool(ray.wait([self.answers[0]], timeout=0.0)[0])

    def end(self) -> None:
        ray.kill(self._handle)

    def ended(self) -> str:
        self.end()
        return "was lost"
