"""When Python may search for cycles of dead objects: neither in the loop of a fragment, nor through what never dies."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def put_off() -> Iterator[None]:
    """Puts off the search, a twentieth of the time of a step, until the context is left."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def imports_left_out() -> Iterator[None]:
    """Leaves what is there now out of all searches in the context.

    PyTorch alone is a million objects: with the answers of hundreds of actors, a search through all of them took
    0.2 s every few iterations.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
