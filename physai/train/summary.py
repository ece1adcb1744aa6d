"""A fragment without its experience: what every learner must know of it, and all that the log needs."""

from __future__ import annotations

from dataclasses import dataclass, fields

from physai.train.fragment import Episode, Fragment
from physai.train.normalizer import Moments


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
