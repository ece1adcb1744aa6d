"""Learner ranks without Ray: processes that share a gloo process group and do what they are told, all the same."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

PATIENCE_S = 240.0  # generous: the machine may be busy


def _serve(rank: int, size: int, store: str, line: Connection) -> None:
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=size, timeout=timedelta(seconds=120)
    )
    while True:
        function, arguments = line.recv()
        try:
            line.send((True, function(*arguments)))
        except Exception as error:
            line.send((False, (type(error).__name__, str(error), traceback.format_exc())))


class Ranks:
    """Processes of one group; used as a context manager. A call does the same thing in all of them."""

    def __init__(self, size: int, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        pipes = [context.Pipe() for _ in range(size)]
        self.lines = [here for here, _ in pipes]
        self.processes = [
            context.Process(target=_serve, args=(rank, size, str(folder / "store"), there), daemon=True)
            for rank, (_, there) in enumerate(pipes)
        ]

    def __enter__(self) -> Ranks:
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.join()

    def tell(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Starts `function` everywhere."""
        for line in self.lines:
            line.send((function, arguments))

    def hear(self, rank: int) -> tuple[bool, Any]:
        """Returns whether a rank succeeded, and its answer, or else (class, message, traceback)."""
        ends = time.monotonic() + PATIENCE_S
        while not self.lines[rank].poll(0.1):
            assert time.monotonic() < ends, f"rank {rank} does not answer"
            assert self.processes[rank].is_alive(), f"rank {rank} is dead"
        return self.lines[rank].recv()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Returns what `function` returned in each process."""
        self.tell(function, *arguments)
        answers = [self.hear(rank) for rank in range(len(self.lines))]
        for fine, answer in answers:
            assert fine, answer[2]
        return [answer for _, answer in answers]

    def failures(self, function: Callable[..., Any], *arguments: Any) -> list[tuple[str, str]]:
        """Returns what `function` raised in each process."""
        self.tell(function, *arguments)
        answers = [self.hear(rank) for rank in range(len(self.lines))]
        assert not any(fine for fine, _ in answers), answers
        return [answer[:2] for _, answer in answers]
