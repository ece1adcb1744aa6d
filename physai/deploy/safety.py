"""The limits of ``safety.json``: what is never commanded, whatever a policy says. This is not functional safety."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.deploy.schema import check
from physai.spec import PolicySpec

SAFETY, SAFETY_SCHEMA = "safety.json", "physai-safety/1"
FLOAT32 = 1e-6  # relative: limits pass through float32 on their way here
# Each list of limits, the value that limits nothing, and +1 where the larger number is the looser.
LISTS = {"low": (-inf, -1), "high": (inf, 1), "rate": (inf, 1), "rate_change": (inf, 1)}

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """An axis-aligned box in the frame of the observed position [m]."""

    name: str
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Workspace:
    """Where a point may be: its position is `seen` in the observation, its velocity is `moved` by the command.

    `reaction_s` is for how long the robot goes on as it was before a command takes effect.
    """

    seen: slice
    moved: slice
    inside: Box
    keep_out: tuple[Box, ...]
    reaction_s: float


@dataclass(frozen=True)
class Safety:
    """Limits of a command, each (k,) in its own unit: range, change a second, and change of that a second."""

    low: Vector
    high: Vector
    rate: Vector
    rate_change: Vector
    workspace: Workspace | None = None

    @classmethod
    def of(cls, data: Any, spec: PolicySpec) -> Safety:
        """Reads what ``safety.json`` holds.

        Raises:
            ValueError: if it does not fit its schema or the policy, or allows more than the policy's own limits.
        """
        check(data, "safety")
        commands = data["commands"]
        if list(sorted(commands)) != sorted(term.name for term in spec.actions):
            raise ValueError(f"{SAFETY} limits {', '.join(sorted(commands))} and the policy commands others")
        lists: dict[str, Vector] = {}
        for what, (free, _) in LISTS.items():
            values: list[float] = []
            for term in spec.actions:
                given = commands[term.name][what]
                if len(given) != term.size:
                    raise ValueError(f"{SAFETY}: {what} of {term.name} has {len(given)} numbers for {term.size}")
                values += [free if value is None else float(value) for value in given]
            lists[what] = np.array(values)
        _check_against(lists, spec)
        workspace = data["workspace"]
        return cls(**lists, workspace=None if workspace is None else _workspace(workspace, spec))

    def unlimited(self, spec: PolicySpec) -> list[str]:
        """Returns the elements of the command whose range is not limited."""
        free = ~(np.isfinite(self.low) & np.isfinite(self.high))
        return [name for name, open_ in zip(element_names(spec), free, strict=True) if open_]


def element_names(spec: PolicySpec) -> list[str]:
    """Names of the elements of a command, such as ``drive.speed``."""
    return [f"{term.name}.{element}" for term in spec.actions for element in term.elements]


def _check_against(lists: Mapping[str, Vector], spec: PolicySpec) -> None:
    rates = [rate for term in spec.actions for rate in (term.rate_limit or (inf,) * term.size)]
    own = {"low": spec.command_low, "high": spec.command_high, "rate": np.array(rates)}
    names = element_names(spec)
    if not (lists["low"] <= lists["high"]).all():
        raise ValueError(f"{SAFETY}: a lower limit lies above the upper one")
    rest = np.clip(0.0, spec.command_low, spec.command_high)
    if not ((lists["low"] <= rest) & (rest <= lists["high"])).all():
        raise ValueError(f"{SAFETY} does not allow the robot to be at rest")
    for what, bound in own.items():
        sign = LISTS[what][1]
        room = FLOAT32 * np.abs(np.where(np.isfinite(bound), bound, 0.0))
        loose = ~(sign * lists[what] <= sign * bound.astype(np.float64) + room)
        if loose.any():
            worst = int(np.argmax(loose))
            raise ValueError(
                f"{SAFETY} allows {what} {lists[what][worst]:g} for {names[worst]}, "
                f"more than the policy's {bound[worst]:g}"
            )


def _workspace(data: Mapping[str, Any], spec: PolicySpec) -> Workspace:
    seen, moved = spec.observation_slices.get(data["position"]), spec.action_slices.get(data["velocity"])
    if seen is None or moved is None or seen.stop - seen.start != 3 or moved.stop - moved.start < 3:
        raise ValueError(f"{SAFETY}: the workspace needs a position of 3 and a velocity of at least 3 numbers")
    inside = _box("the workspace", data)
    boxes = tuple(_box(str(part["name"]), part) for part in data["keep_out"])
    return Workspace(seen, slice(moved.start, moved.start + 3), inside, boxes, float(data["reaction_s"]))


def _box(name: str, data: Mapping[str, Any]) -> Box:
    low, high = tuple(map(float, data["low"])), tuple(map(float, data["high"]))
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise ValueError(f"{SAFETY}: {name} ends before it begins")
    return Box(name, low, high)


def tightened(base: Mapping[str, Any], site: Any) -> dict[str, Any]:
    """Returns the limits of a bundle with those of a site, which may only be tighter; null leaves a limit as it is.

    Raises:
        ValueError: if the site's limits do not fit the schema, or loosen one; says which.
    """
    check(site, "safety")
    commands: dict[str, Any] = {name: dict(limits) for name, limits in base["commands"].items()}
    for name, limits in site["commands"].items():
        if name not in commands:
            raise ValueError(f"it limits {name!r}, which the policy does not command")
        for what, (_, sign) in LISTS.items():
            commands[name][what] = _tighter(f"{name} {what}", commands[name][what], limits[what], sign)
    return {**base, "commands": commands, "workspace": _tighter_workspace(base["workspace"], site["workspace"])}


def _tighter(what: str, old: list[float | None], new: list[float | None], sign: int) -> list[float | None]:
    if len(old) != len(new):
        raise ValueError(f"{what} has {len(new)} numbers for {len(old)}")
    for before, after in zip(old, new, strict=True):
        if before is not None and after is not None and sign * after > sign * before:
            raise ValueError(f"{what} {after:g} is looser than the bundle's {before:g}; a site may only tighten")
    return [before if after is None else after for before, after in zip(old, new, strict=True)]


def _tighter_workspace(old: Any, new: Any) -> Any:
    if old is None or new is None:
        return new if old is None else old
    for name in ("position", "velocity"):
        if old[name] != new[name]:
            raise ValueError(f"the {name} of the workspace is {new[name]!r} and the bundle's is {old[name]!r}")
    if new["reaction_s"] < old["reaction_s"]:
        raise ValueError(f"reaction_s {new['reaction_s']:g} is shorter than the bundle's {old['reaction_s']:g}")
    bounds = {what: _tighter(f"workspace {what}", old[what], new[what], LISTS[what][1]) for what in ("low", "high")}
    return {**new, **bounds, "keep_out": [*old["keep_out"], *new["keep_out"]]}
