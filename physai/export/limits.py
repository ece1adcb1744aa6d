"""Limits and times that a bundle begins with: from the declared task, and from what reference episodes needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.deploy.safety import SAFETY_SCHEMA
from physai.errors import TaskError
from physai.export.reference import EPISODES, FIRST_SEED, Reference
from physai.spec import ActionSpec, ObservationSpec, PolicySpec
from physai_envs import registry

MARGIN = 1.25  # of what the reference episodes needed: nothing faster has been evaluated
SLOWEST_S, RAMP_S = 1.0, 0.25  # the whole range in so long, and the full rate: slower, a robot could hardly stop
ROOM_M = 0.1  # around the positions of the reference episodes: 20 of them leave out a seventh of a range now and then
REACTION_PERIODS = 2.0  # a command is computed in one, and takes effect in the next
LOST_PERIODS = 2.5  # one reading or one command may get lost
FROZEN_PERIODS = (
    10.0  # a noisy sensor that repeats itself to the last bit for so long is dead; the runtime knows sooner
)
WATCHDOG_PERIODS = 3.0
DEADLINE_PERIODS = 0.5
BLEND_S, MAX_FALLBACK_S, MAX_MISSES, OOD_LIMIT = 0.2, 1.0, 3, 10.0
POSITION, WORLD, XYZ = "tip_position", "world", 3
MODES = {"m/s": "velocity", "rad/s": "velocity", "m": "position", "rad": "position", "N": "force", "Nm": "force"}

BASIS = (
    "range: the task's declaration. rate and rate_change: the declared rate limit where there is one, else "
    f"{MARGIN:g} times the largest of {EPISODES} reference episodes. workspace: their positions and {ROOM_M:g} m "
    "around. None of it is a risk assessment: replace it by that of the real cell with a site file."
)


def safety(spec: PolicySpec, reference: Reference) -> dict[str, Any]:
    """Returns what ``safety.json`` holds."""
    commands = {}
    for term in spec.actions:
        rate, rate_change = _rates(term, spec, reference)
        commands[term.name] = {
            "low": _numbers(term.low), "high": _numbers(term.high), "rate": rate, "rate_change": rate_change
        }  # fmt: skip
    return {
        "schema": SAFETY_SCHEMA, "basis": BASIS, "commands": commands, "workspace": _workspace(spec, reference)
    }  # fmt: skip


def _rates(term: ActionSpec, spec: PolicySpec, reference: Reference) -> tuple[list[Any], list[Any]]:
    if term.kind == "discrete":
        return [None] * term.size, [None] * term.size
    hz, part = spec.control_hz, spec.action_slices[term.name]
    span = np.subtract(term.high, term.low)
    floor = np.where(np.isfinite(span), span, 0.0) / SLOWEST_S
    rate = np.maximum(MARGIN * reference.rate[part] * hz, floor)
    if term.rate_limit is not None:
        rate = np.minimum(term.rate_limit, 1e300)
    change = np.maximum(MARGIN * reference.rate_change[part] * hz**2, rate / RAMP_S)
    return [_positive(v) for v in rate], [_positive(v) for v in change]


def _workspace(spec: PolicySpec, reference: Reference) -> dict[str, Any] | None:
    """Where a tool tip may be, if the policy sees it and commands its velocity in the same frame."""
    seen = [t for t in spec.observations if (t.name, t.size, t.frame) == (POSITION, XYZ, WORLD)]
    moved = [
        t for t in spec.actions if t.frame == WORLD and _mode(t) == "velocity" and t.elements[:XYZ] == ("x", "y", "z")
    ]
    if not seen or not moved:
        return None
    part = spec.observation_slices[POSITION]
    return {
        "position": POSITION, "velocity": moved[0].name,
        "low": [round(float(v) - ROOM_M, 3) for v in reference.seen["low"][part]],
        "high": [round(float(v) + ROOM_M, 3) for v in reference.seen["high"][part]],
        "reaction_s": REACTION_PERIODS / spec.control_hz, "keep_out": [],
    }  # fmt: skip


def interface(spec: PolicySpec, reference: Reference) -> dict[str, Any]:
    """Returns what a manifest says about the connection of each term, and the statistics of what it saw."""
    period_s = 1.0 / spec.control_hz
    observations = {
        term.name: {
            "elements": _elements(term, spec), "rate_hz": spec.control_hz, "max_age_s": LOST_PERIODS * period_s,
            "on_stale": "fallback", "frozen_after_s": FROZEN_PERIODS * period_s if term.noise_std else None,
            "seen": reference.of_term(spec.observation_slices[term.name]),
        }
        for term in spec.observations
    }  # fmt: skip
    actions = {
        term.name: {"mode": _mode(term), "joints": _joints(term, spec), "expiry_s": LOST_PERIODS * period_s}
        for term in spec.actions
    }
    played = {"episodes": EPISODES, "steps": reference.steps, "first_seed": FIRST_SEED}
    return {"observations": observations, "actions": actions, "reference": played}


def control(spec: PolicySpec) -> dict[str, Any]:
    """Returns the times of the control loop [s]."""
    return {
        "deadline_s": DEADLINE_PERIODS / spec.control_hz, "max_consecutive_misses": MAX_MISSES, "blend_s": BLEND_S,
        "watchdog_s": WATCHDOG_PERIODS / spec.control_hz, "max_fallback_s": MAX_FALLBACK_S, "ood_limit": OOD_LIMIT,
    }  # fmt: skip


def intended_use(spec: PolicySpec) -> str:
    """Returns what the policy is for, in words."""
    task = _declared(spec)
    what = f"To {task.summary}, with the robot {task.robot.name}" if task and task.summary else "Research"
    return (
        f"{what}, under the conditions of the task {spec.task} and nothing beyond them, supervised, behind "
        "safety-rated devices that do not depend on it."
    )


def _mode(term: ActionSpec) -> str:
    return "choice" if term.kind == "discrete" else MODES.get(term.unit.partition(",")[0], "value")


def _declared(spec: PolicySpec) -> Any:
    """The task's declaration, or None for an environment that is not ours."""
    try:
        return registry.task(spec.task)
    except TaskError:
        return None


def _joints(term: ActionSpec, spec: PolicySpec) -> list[str]:
    task = _declared(spec)
    if task is None:
        return []
    action = next((action for action in task.actions if action.name == term.name), None)
    return list(getattr(action, "fingers", None) or getattr(action, "wheels", None) or task.robot.joints)


def _elements(term: ObservationSpec, spec: PolicySpec) -> list[str]:
    task = _declared(spec)
    if term.size == 1:
        return [term.name]
    if task is not None and term.frame == "joint" and term.size == len(task.robot.joints):
        return list(task.robot.joints)
    if term.size == XYZ and term.unit in ("m", "m/s"):
        return ["x", "y", "z"]
    if term.size == 2 * XYZ and term.unit == "N, Nm":
        return ["force_x", "force_y", "force_z", "torque_x", "torque_y", "torque_z"]
    return [f"{term.name}_{i}" for i in range(term.size)]


def _numbers(values: Sequence[float]) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values]


def _positive(value: np.float64 | NDArray[Any]) -> float | None:
    """Five digits, rounded up; None where nothing can be said."""
    number = float(value)
    if not np.isfinite(number) or number <= 0.0:
        return None
    return float(f"{number:.5g}") if float(f"{number:.5g}") >= number else float(f"{number * 1.0001:.5g}")
