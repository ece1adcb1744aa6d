"""What a policy sees and does: observation, action and control terms with names, units, limits and rates.

One description with four readers: the environment builds its spaces from it, the exporter writes it, the
runtime reads it, the documentation is generated from it. Needs numpy alone, so that a robot can carry it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float32 = NDArray[np.float32]
Limits = tuple[float, ...]
GOAL_TERMS = ("achieved_goal", "desired_goal")  # as Gymnasium-Robotics names them


def limits(value: float | Limits, size: int) -> Limits:
    """Spreads one number over `size` elements, or checks that a sequence has that many.

    Raises:
        ValueError: if a sequence of another length is given.
    """
    if isinstance(value, (int, float)):
        return (float(value),) * size
    if len(value) != size:
        raise ValueError(f"{len(value)} limits given for {size} elements; give one number or {size}")
    return tuple(float(v) for v in value)


@dataclass(frozen=True)
class ObservationSpec:
    """One named part of the observation vector, in SI units.

    `noise_std` is white noise a step, `bias_std` an offset drawn once an episode, `dropout` the probability that an
    element reads `high` (no return), `delay_s` the age of the value when the policy gets it.
    """

    name: str
    shape: tuple[int, ...]
    unit: str
    low: Limits
    high: Limits
    frame: str = ""
    noise_std: float = 0.0
    bias_std: float = 0.0
    dropout: float = 0.0
    delay_s: float = 0.0

    @property
    def size(self) -> int:
        """Number of elements in the flat observation vector."""
        return int(np.prod(self.shape, dtype=int))


@dataclass(frozen=True)
class ActionSpec:
    """One named part of the command, in SI units.

    The policy acts in [policy_low, policy_high] (-1 to 1 for our tasks); the command is the same point of [low, high].
    `rate_limit` is the largest change of the command, in units a second; None means unlimited.
    """

    name: str
    elements: tuple[str, ...]
    unit: str
    low: Limits
    high: Limits
    frame: str = ""
    rate_limit: Limits | None = None
    policy_low: Limits = ()
    policy_high: Limits = ()
    kind: Literal["continuous", "discrete"] = "continuous"

    def __post_init__(self) -> None:
        if not self.policy_low:
            object.__setattr__(self, "policy_low", (-1.0,) * self.size)
            object.__setattr__(self, "policy_high", (1.0,) * self.size)

    @property
    def size(self) -> int:
        """Number of elements in the flat action vector."""
        return len(self.elements)


def _flat(terms: tuple[Any, ...], attribute: str) -> Float32:
    return np.array([v for term in terms for v in getattr(term, attribute)], dtype=np.float32)


def _slices(terms: tuple[Any, ...]) -> dict[str, slice]:
    ends = list(accumulate(term.size for term in terms))
    return {term.name: slice(end - term.size, end) for term, end in zip(terms, ends, strict=True)}


@dataclass(frozen=True)
class PolicySpec:
    """Everything a runtime must know to connect a policy: the terms in order, and the rate.

    `task` is the full Gymnasium id, such as ``physai/PegInsertion-v0``.
    """

    task: str
    control_hz: float
    observations: tuple[ObservationSpec, ...]
    actions: tuple[ActionSpec, ...]
    action_delay_s: float = 0.0
    physics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def goal_env(self) -> bool:
        """Whether the goal-conditioned variant of the task is meant: what is achieved and desired is observed."""
        return {*GOAL_TERMS} <= {term.name for term in self.observations}

    @cached_property
    def observation_slices(self) -> dict[str, slice]:
        """Where each observation term lies in the flat vector."""
        return _slices(self.observations)

    @cached_property
    def action_slices(self) -> dict[str, slice]:
        """Where each action term lies in the flat vector."""
        return _slices(self.actions)

    @property
    def observation_size(self) -> int:
        """Length of the flat observation vector."""
        return sum(term.size for term in self.observations)

    @property
    def action_size(self) -> int:
        """Length of the flat action vector."""
        return sum(term.size for term in self.actions)

    @cached_property
    def observation_low(self) -> Float32:
        """Lower limits, SI units, shape (observation_size,)."""
        return _flat(self.observations, "low")

    @cached_property
    def observation_high(self) -> Float32:
        """Upper limits, SI units, shape (observation_size,)."""
        return _flat(self.observations, "high")

    @cached_property
    def command_low(self) -> Float32:
        """Lower command limits, SI units, shape (action_size,)."""
        return _flat(self.actions, "low")

    @cached_property
    def command_high(self) -> Float32:
        """Upper command limits, SI units, shape (action_size,)."""
        return _flat(self.actions, "high")

    @cached_property
    def policy_low(self) -> Float32:
        """Lower limits of what the policy puts out, shape (action_size,)."""
        return _flat(self.actions, "policy_low")

    @cached_property
    def policy_high(self) -> Float32:
        """Upper limits of what the policy puts out, shape (action_size,)."""
        return _flat(self.actions, "policy_high")

    @property
    def discrete(self) -> bool:
        """True when the action is the index of a choice and not a vector of numbers."""
        return any(term.kind == "discrete" for term in self.actions)

    @cached_property
    def _scaled(self) -> NDArray[np.bool_]:
        """Where the policy's range is not that of the command; the others may be infinite."""
        differs: NDArray[np.bool_] = (self.policy_low != self.command_low) | (self.policy_high != self.command_high)
        return differs

    @cached_property
    def command_scale(self) -> Float32:
        """Factor of the affine map from the policy's range to commands, shape (action_size,)."""
        part, scale = self._scaled, np.ones(self.action_size, np.float32)
        scale[part] = (self.command_high[part] - self.command_low[part]) / (
            self.policy_high[part] - self.policy_low[part]
        )
        return scale

    @cached_property
    def command_offset(self) -> Float32:
        """Offset of the affine map from the policy's range to commands, shape (action_size,)."""
        part, offset = self._scaled, np.zeros(self.action_size, np.float32)
        offset[part] = self.command_low[part] - self.policy_low[part] * self.command_scale[part]
        return offset

    def to_action(self, command: ArrayLike) -> Float32:
        """Maps commands back to the policy's range, shape (..., action_size)."""
        action = (np.asarray(command, dtype=np.float32) - self.command_offset) / self.command_scale
        within: Float32 = np.minimum(np.maximum(action, self.policy_low), self.policy_high)
        return within

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types; `from_dict` restores an equal object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PolicySpec:
        """Restores what `to_dict` returned.

        Raises:
            TypeError: if a field is missing or unknown.
        """

        def term(kind: Any, values: Mapping[str, Any]) -> Any:
            return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

        fields = dict(data)
        fields["observations"] = tuple(term(ObservationSpec, v) for v in data["observations"])
        fields["actions"] = tuple(term(ActionSpec, v) for v in data["actions"])
        return cls(**fields)


class ActionMap:
    """Maps the policy's output to commands: clip, scale to units, limit the rate. Simulation and robot use the same.

    The first command after `reset` is limited from `rest` (the command of a robot that stands still).
    """

    def __init__(self, spec: PolicySpec) -> None:
        rates = [rate for term in spec.actions for rate in (term.rate_limit or (np.inf,) * term.size)]
        self._steps = [rate / spec.control_hz for rate in rates] if np.isfinite(rates).any() else None
        self._rows = [
            tuple(map(float, row))
            for row in zip(spec.policy_low, spec.policy_high, spec.command_scale, spec.command_offset, strict=True)
        ]
        self._rest = np.clip(np.zeros(spec.action_size), spec.command_low, spec.command_high).tolist()
        self.command: list[float] = list(self._rest)

    def reset(self) -> None:
        """Forgets the last command; the robot stands still."""
        self.command = list(self._rest)

    def __call__(self, action: Iterable[float]) -> list[float]:
        """Returns the command in SI units, of length action_size. Plain floats: on a few numbers numpy is slower."""
        wanted = [
            min(max(float(value), low), high) * scale + offset
            for value, (low, high, scale, offset) in zip(action, self._rows, strict=True)
        ]
        if self._steps is not None:
            wanted = [
                min(max(value, last - step), last + step)
                for value, last, step in zip(wanted, self.command, self._steps, strict=True)
            ]
        self.command = wanted
        return wanted
