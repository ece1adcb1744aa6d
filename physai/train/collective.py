"""What makes several learners act as one: each learns from its groups, and they add up their gradients.

Two kinds of exchange. Inside an update, tensors are added: all ranks compute the same, so they arrive together, and one
that does not within the time limit of the process group is lost. Between updates they meet to tell each other words
and numbers; a rank may have to wait there until another has measured the policy or has replaced a hung actor. What is
told is bytes, and never pickled: whoever reaches the port of a learner could otherwise run code in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from physai import errors
from physai.errors import PhysaiError
from physai.train.outcome import LearningError, StopAskedError

# A rank that dies closes its connections, and one that freezes is found by Ray Train's health check within two minutes;
# this is for what both cannot see. Longer than any measurement.
MEETING_TIMEOUT = timedelta(hours=1)

ENDS: dict[str, type[Exception]] = {kind.__name__: kind for kind in (StopAskedError, LearningError)}
ENDS |= {
    kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PhysaiError)
}


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

    def gather(self, told: bytes = b"") -> list[bytes]:
        """Returns what all ranks tell, in their order.

        Raises:
            Exception: what a rank passed to `end`.
        """
        return [told] if self.size == 1 else self._meet(told, None)

    def report(self, told: bytes) -> list[bytes]:
        """Hands bytes to the leader, who returns those of all ranks; the others nothing.

        It follows a `gather` at once, so that nobody can end the run in between.
        """
        if self.size == 1:
            return [told]
        lengths = [length for length, _ in self._lengths(told, b"")]
        row = _row(told, max(lengths))
        rows = [torch.empty_like(row) for _ in lengths] if self.leader else None
        dist.gather(row, rows, group=self._meetings)
        return [_bytes(row, length) for row, length in zip(rows or (), lengths, strict=False)]

    def end(self, error: Exception) -> None:
        """Ends the run on all ranks: their next `gather` raises `error`. Does nothing where it was raised by one."""
        if self.size > 1 and not self._over:
            try:
                self._meet(b"", error)
            except Exception as raised:
                if type(raised) is not type(error):
                    raise

    def _meet(self, told: bytes, error: Exception | None) -> list[bytes]:
        words = b"" if error is None else json.dumps([type(error).__name__, *error.args]).encode()
        lengths = self._lengths(told, words)
        rows = self._spread(told + words, [sum(pair) for pair in lengths])
        failures = [_error(row[length:]) for row, (length, more) in zip(rows, lengths, strict=True) if more]
        if failures:
            self._over = True
            # All raise the same one, and a failure says more than a wish to stop.
            raise next((failure for failure in failures if isinstance(failure, PhysaiError)), failures[0])
        return rows

    def _lengths(self, *parts: bytes) -> list[tuple[int, int]]:
        own = torch.tensor([len(part) for part in parts])
        all_of_them = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(all_of_them, own, group=self._meetings)
        return [(int(told), int(words)) for told, words in all_of_them]

    def _spread(self, told: bytes, lengths: Sequence[int]) -> list[bytes]:
        """Hands everybody what each rank tells; where only one does, it alone sends."""
        speakers = [rank for rank, length in enumerate(lengths) if length]
        row = _row(told, max(lengths))
        if len(speakers) == 1:
            dist.broadcast(row, speakers[0], group=self._meetings)
            return [_bytes(row, length) for length in lengths]
        rows = [torch.empty_like(row) for _ in lengths]
        if speakers:
            dist.all_gather(rows, row, group=self._meetings)
        return [_bytes(row, length) for row, length in zip(rows, lengths, strict=True)]

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


def _row(told: bytes, length: int) -> torch.Tensor:
    """Returns bytes as a tensor of a length that all ranks share."""
    row = torch.zeros(length, dtype=torch.uint8)
    row[: len(told)] = torch.from_numpy(np.frombuffer(told, np.uint8).copy())
    return row


def _bytes(row: torch.Tensor, length: int) -> bytes:
    return row[:length].numpy().tobytes()


def _error(words: bytes) -> Exception:
    """Returns the end that a rank told of; of one that nobody knows, its words."""
    kind, *arguments = json.loads(words)
    return ENDS.get(kind, PhysaiError)(*arguments)
