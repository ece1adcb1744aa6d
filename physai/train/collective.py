"""What makes several learners act as one: each learns from its groups, and they add up their gradients.

Two kinds of exchange. Inside an update, tensors are added: all ranks compute the same, so they arrive together, and one
that does not within the time limit of the process group is lost. Between updates they meet to tell each other words
and numbers; a rank may have to wait there until another has measured the policy or has replaced a hung actor.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from physai.errors import PhysaiError

# A rank that dies closes its connections, and one that freezes is found by Ray Train's health check within two minutes;
# this is for what both cannot see. Longer than any measurement.
MEETING_TIMEOUT = timedelta(hours=1)


class Collective:
    """One learner among `size` of them; alone, every exchange is with itself.

    Attributes:
        rank: number of this learner.
        size: how many there are.
    """

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        self._meetings: dist.ProcessGroup | None = None
        self._over = False  # a rank has ended the run

    @classmethod
    def joined(cls) -> Collective:
        """Joins PyTorch's process group, which is there already; every rank calls this."""
        collective = cls()
        collective.rank, collective.size = dist.get_rank(), dist.get_world_size()
        if collective.size > 1:
            collective._meetings = dist.new_group(backend="gloo", timeout=MEETING_TIMEOUT)
        return collective

    @property
    def leader(self) -> bool:
        """Whether this is the rank that measures, saves and reports."""
        return self.rank == 0

    def shard(self, count: int) -> range:
        """Returns which of `count` things belong to this rank; `count` is a multiple of `size`."""
        share = count // self.size
        return range(self.rank * share, (self.rank + 1) * share)

    # ---- meetings --------------------------------------------------------------------------------

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all ranks, in their order.

        Raises:
            Exception: what a rank passed to `end`.
        """
        if self.size == 1:
            return [value]
        return self._meet(value, None)

    def report(self, value: bytes) -> list[bytes]:
        """Hands bytes to the leader, who returns those of all ranks; the others nothing.

        It follows a `gather` at once, so that nobody can end the run in between.
        """
        if self.size == 1:
            return [value]
        told = [b""] * self.size if self.leader else None
        dist.gather_object(value, told, group=self._meetings)
        return told or []

    def end(self, error: Exception) -> None:
        """Ends the run on all ranks: their next `gather` raises `error`. Does nothing where it was raised by one."""
        if self.size > 1 and not self._over:
            try:
                self._meet(None, error)
            except Exception as raised:
                if type(raised) is not type(error):
                    raise

    def _meet(self, value: Any, error: Exception | None) -> list[Any]:
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, (value, error), group=self._meetings)
        errors = [error for _, error in told if error is not None]
        if errors:
            self._over = True
            # All raise the same one, and a failure says more than a wish to stop.
            raise next((error for error in errors if isinstance(error, PhysaiError)), errors[0])
        return [value for value, _ in told]

    # ---- inside an update ------------------------------------------------------------------------

    def concatenate(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the tensors (k, n) of all ranks as one of (k, size x n), in the order of the ranks."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts, dim=1)

    def add(self, message: torch.Tensor) -> None:
        """Replaces a tensor by its sum over the ranks."""
        if self.size > 1:
            dist.all_reduce(message)
