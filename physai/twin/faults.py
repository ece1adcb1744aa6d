"""What can go wrong between a controller and a robot, as switches."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from physai.errors import DeployError


@dataclass(frozen=True)
class Faults:
    """Delays and losses of a cell.

    Attributes:
        latency_s: of each observation and of each command; `jitter_s` is added to it, uniformly from 0.
        drop: share of the observations that get lost.
        freeze_at_s: from then on in each job, the sensor repeats its last values.
        stall_at_s: when nothing passes in either direction, for `stall_s`.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    drop: float = 0.0
    freeze_at_s: float | None = None
    stall_at_s: float | None = None
    stall_s: float = 0.2

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0.0 <= value <= (1.0 if name == "drop" else 60.0):
                raise DeployError(f"fault {name} is {value}; it must lie between 0 and {1 if name == 'drop' else 60}")

    def delay_s(self, rng: np.random.Generator) -> float:
        """Draws a delay."""
        return self.latency_s + (self.jitter_s * float(rng.random()) if self.jitter_s else 0.0)

    def stalled(self, time_s: float) -> bool:
        """Whether nothing passes now."""
        return self.stall_at_s is not None and self.stall_at_s <= time_s < self.stall_at_s + self.stall_s

    def frozen(self, time_s: float) -> bool:
        """Whether the sensor repeats itself."""
        return self.freeze_at_s is not None and time_s >= self.freeze_at_s

    def to_dict(self) -> dict[str, Any]:
        """Returns what is switched on."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
