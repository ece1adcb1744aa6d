"""What is turned to see how much a policy bears: declared randomisations, sensor noise, delays, lost readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from physai.errors import ConfigError, nearest
from physai.spec import PolicySpec
from physai_envs import registry

DEFAULT_VALUES = 5
MOST_POINTS = 1_000  # each of them is an evaluation


@dataclass(frozen=True)
class Axis:
    """One thing that is turned, and the values it takes."""

    name: str
    unit: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Grid:
    """Every combination of the values of some axes."""

    axes: tuple[Axis, ...]

    @property
    def points(self) -> list[dict[str, float]]:
        """Value of each axis by name, for one combination after the other; the last axis varies fastest."""
        names = [axis.name for axis in self.axes]
        return [dict(zip(names, values, strict=True)) for values in product(*(axis.values for axis in self.axes))]


def parse(perturbations: Sequence[str], spec: PolicySpec) -> Grid | None:
    """Reads ``name=low:high`` or ``name=low:high:n``: n values from low to high, 5 if it is not said.

    Args:
        perturbations: one for each axis of the grid.
        spec: of a policy for a task of ours.

    Raises:
        ConfigError: if one cannot be read, or the task has no such thing.
    """
    if not perturbations:
        return None
    if not spec.task.startswith(registry.NAMESPACE):
        raise ConfigError(
            f"{spec.task} is not a task of physai, which knows nothing of its inside; leave out --perturb"
        )
    axes = tuple(_axis(text, spec) for text in perturbations)
    names = [axis.name for axis in axes]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"--perturb names {min(twice)!r} twice; give it one range")
    grid = Grid(axes)
    if len(grid.points) > MOST_POINTS:
        raise ConfigError(f"the grid has {len(grid.points):,} points; at most {MOST_POINTS:,} are evaluated")
    return grid


def _axis(text: str, spec: PolicySpec) -> Axis:
    from physai_envs.env import DISTURBANCES  # here, for it starts the simulator, and learners import this package

    name, _, span = text.partition("=")
    units = {r.name: r.unit for r in registry.task(spec.task).randomization} | DISTURBANCES
    if name not in units:
        raise ConfigError(f"--perturb {text}: {spec.task} has no {name!r} to turn; {nearest(name, units)}")
    try:
        low, high, *rest = (float(part) for part in span.split(":"))
        (count,) = rest or (DEFAULT_VALUES,)
        if count != int(count) or count < 2 or not low < high or not np.isfinite([low, high]).all():
            raise ValueError("out of order")
    except ValueError:
        raise ConfigError(
            f"--perturb {text} cannot be read; write {name}=LOW:HIGH or {name}=LOW:HIGH:N, "
            "with LOW below HIGH and N of 2 or more"
        ) from None
    values = tuple(float(value) for value in np.linspace(low, high, int(count)))
    if name in DISTURBANCES:
        _check_disturbance(text, name, values, spec.control_hz)
    return Axis(name, units[name], values)


def _check_disturbance(text: str, name: str, values: Sequence[float], control_hz: float) -> None:
    if values[0] < 0.0:
        raise ConfigError(f"--perturb {text}: {name} is 0 or more")
    if name == "observation_drop" and values[-1] > 1.0:
        raise ConfigError(f"--perturb {text}: observation_drop is a chance, at most 1")
    steps = np.asarray(values) * control_hz
    if name.endswith("_s") and np.abs(steps - np.round(steps)).max() > 1e-6:
        raise ConfigError(
            f"--perturb {text}: delays are whole control periods of {1 / control_hz:g} s, and its values are "
            f"{', '.join(f'{value:g}' for value in values)}; choose another range or number"
        )


def options(at: Mapping[str, float]) -> dict[str, Any]:
    """Returns the reset options that put a task of ours at a point of the grid."""
    from physai_envs.env import DISTURBANCES

    chosen: dict[str, Any] = {name: value for name, value in at.items() if name in DISTURBANCES}
    pinned = {name: value for name, value in at.items() if name not in DISTURBANCES}
    return chosen | ({"randomization": pinned} if pinned else {})
