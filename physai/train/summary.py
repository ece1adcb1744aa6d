"""A fragment without its experience: what every learner must know of it, and all that the log needs.

Learners tell each other in JSON and arrays. Their connections have no password, so nothing that comes is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.train.checkpoint import pack_arrays, unpack_arrays
from physai.train.collective import Collective
from physai.train.fragment import Episode, Fragment
from physai.train.normalizer import Moments
from physai.train.quarantine import Crash

COUNTS = ("group", "steps", "rebuilt", "reproducible", "physics_s", "seconds")
MOMENTS = ("observation_moments", "return_moments")
EPISODE = attrgetter(*(field.name for field in fields(Episode)))  # `dataclasses.astuple` takes ten times as long


@dataclass(frozen=True)
class Summary:
    """What is told of a fragment; the fields are those of `Fragment`."""

    group: int
    steps: int
    observation_moments: Moments
    return_moments: Moments
    episodes: tuple[Episode, ...]
    rebuilt: int
    reproducible: bool
    physics_s: float
    seconds: float

    @classmethod
    def of(cls, fragment: Fragment) -> Summary:
        """Leaves the experience out."""
        return cls(**{field.name: getattr(fragment, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class Told:
    """What a learner tells of an iteration: its groups' fragments, episodes that crashed, and counts of its fleet."""

    summaries: Sequence[Summary]
    crashes: Sequence[Crash]
    dropped: int
    restarts: int
    redone: int


def meet(collective: Collective, told: Told) -> list[Told]:
    """Returns what all learners tell, in their order.

    Raises:
        Exception: what one of them passed to `Collective.end`.
    """
    return [told] if collective.size == 1 else [unpack(data) for data in collective.gather(pack(told))]


def pack(told: Told) -> bytes:
    """Returns it as a numpy archive without pickle."""
    described = {
        "summaries": [
            [[getattr(summary, name) for name in COUNTS], [EPISODE(episode) for episode in summary.episodes]]
            for summary in told.summaries
        ],
        "crashes": [astuple(crash) for crash in told.crashes],
        "counts": [told.dropped, told.restarts, told.redone],
    }
    arrays: dict[str, NDArray[Any]] = {}
    for name in MOMENTS if told.summaries else ():
        moments = [getattr(summary, name) for summary in told.summaries]
        arrays |= {f"{name}.{part}": np.stack([getattr(m, part) for m in moments]) for part in ("mean", "var", "count")}
    text = json.dumps(described, default=lambda scalar: scalar.item())  # numpy's own numbers, from an environment
    return pack_arrays({"json": np.frombuffer(text.encode(), np.uint8), **arrays})


def unpack(data: bytes) -> Told:
    """Restores what `pack` returned.

    Raises:
        ValueError: if it is anything else.
    """
    arrays = unpack_arrays(data)
    described = json.loads(arrays["json"].tobytes())
    summaries = []
    for row, (counts, episodes) in enumerate(described["summaries"]):
        moments = {
            name: Moments(
                arrays[f"{name}.mean"][row], arrays[f"{name}.var"][row], int(arrays[f"{name}.count"][row])
            )
            for name in MOMENTS
        }  # fmt: skip
        played = tuple(Episode(*episode) for episode in episodes)
        summaries.append(Summary(**dict(zip(COUNTS, counts, strict=True)), **moments, episodes=played))
    return Told(summaries, [Crash(*crash) for crash in described["crashes"]], *described["counts"])
