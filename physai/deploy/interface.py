"""What a manifest says about time: how fresh each observation must be, how long a command holds, what is in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from physai.spec import PolicySpec

SEEN = ("mean", "std", "low", "p0_1", "p99_9", "high")


@dataclass(frozen=True)
class Freshness:
    """When a term of the observation is too old, and what to do then; see ``manifest.schema.json``."""

    name: str
    part: slice
    max_age_s: float
    on_stale: Literal["hold", "fallback", "stop"]
    frozen_after_s: float | None


@dataclass(frozen=True)
class Control:
    """The times of a control loop [s]; `ood_limit` is the largest distance from what training showed, in deviations."""

    period_s: float
    deadline_s: float
    max_consecutive_misses: int
    blend_s: float
    watchdog_s: float
    max_fallback_s: float
    ood_limit: float
    expiry_s: float


@dataclass(frozen=True)
class Interface:
    """How the terms of a policy meet a robot.

    Attributes:
        terms: freshness of each observation term, in order.
        seen: statistics of the observation over the reference episodes, each (m,).
    """

    terms: tuple[Freshness, ...]
    control: Control
    seen: Mapping[str, NDArray[np.float64]]


def read_interface(manifest: Mapping[str, Any], spec: PolicySpec) -> Interface:
    """Reads it out of a manifest that fits its schema.

    Raises:
        ValueError: if it is about other terms than the policy's, or a list has another length.
    """
    said, actions = manifest["interface"]["observations"], manifest["interface"]["actions"]
    for what, given, terms in (("observations", said, spec.observations), ("actions", actions, spec.actions)):
        if set(given) != {term.name for term in terms}:
            raise ValueError(f"the interface describes the {what} {', '.join(sorted(given))} and the policy has others")
    for term in spec.observations:
        lists = {**said[term.name]["seen"], "elements": said[term.name]["elements"]}
        for what, values in lists.items():
            if len(values) != term.size:
                raise ValueError(f"{what} of {term.name} has {len(values)} entries for {term.size}")
    seen = {what: np.array([v for t in spec.observations for v in said[t.name]["seen"][what]]) for what in SEEN}
    freshness = tuple(
        Freshness(
            name, part, float(said[name]["max_age_s"]), said[name]["on_stale"], said[name]["frozen_after_s"],
        )
        for name, part in spec.observation_slices.items()
    )  # fmt: skip
    control = {name: value for name, value in manifest["control"].items()}
    expiry = min(float(action["expiry_s"]) for action in actions.values())
    return Interface(freshness, Control(period_s=1.0 / spec.control_hz, expiry_s=expiry, **control), seen)
