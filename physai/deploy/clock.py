"""What the operating system and Python are asked for, so that a loop runs when it should."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

PRIORITY = 20  # of SCHED_FIFO, 1 to 99: above all ordinary programs, below the kernel's own threads


def real_time(priority: int) -> bool:
    """Asks for a real-time priority of this process; whether it was granted, for it needs a privilege."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (OSError, AttributeError):
        return False
    return True


@contextmanager
def undisturbed() -> Iterator[None]:
    """Real-time priority where it is permitted, and no garbage collection: what has no cycles is freed all the same."""
    gc.collect()
    gc.freeze()
    gc.disable()
    granted = real_time(PRIORITY)
    try:
        yield
    finally:
        if granted:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        gc.enable()
        gc.unfreeze()
