"""Observation and reward functions that several tasks share, and the shaping function they are made from."""

from __future__ import annotations

import math

from physai_envs.engine import Vector
from physai_envs.task import Scene

VALUE_AT_MARGIN = 0.1  # of `tolerance`, as in its source
FALL = math.log(VALUE_AT_MARGIN)


def tolerance(x: float, low: float, high: float, margin: float) -> float:
    """1 inside [low, high], falling as a Gaussian to 0.1 at `margin` outside.

    Source: Y. Tassa et al., "DeepMind Control Suite", 2018, arXiv:1801.00690.
    """
    outside = low - x if x < low else x - high
    if outside <= 0.0:
        return 1.0
    return math.exp(FALL * (outside / margin) ** 2)


def joint_positions(s: Scene) -> list[float]:
    """Positions of the driven joints [rad or m]."""
    return s.robot.joint_positions


def joint_velocities(s: Scene) -> list[float]:
    """Velocities of the driven joints [rad/s or m/s]."""
    return s.robot.joint_velocities


def tip_position(s: Scene) -> Vector:
    """Position of the tool tip, world frame [m], (3,)."""
    return s.robot.tip_position


def tip_velocity(s: Scene) -> Vector:
    """Linear velocity of the tool tip, world frame [m/s], (3,)."""
    return s.robot.tip_velocity


def gripper_width(s: Scene) -> float:
    """Opening between the fingers [m]."""
    return s.robot.tool_opening[0]


def gripper_speed(s: Scene) -> float:
    """Speed at which the fingers open [m/s]; negative when they close."""
    return s.robot.tool_opening[1]


def gripper_force(s: Scene) -> float:
    """Mean force of the finger motors [N]; negative when they press inward."""
    return s.robot.tool_force if s.time_s else 0.0  # before the first step, Bullet reports that of the last episode


def previous_action(s: Scene) -> list[float]:
    """What the policy did last, in [-1, 1]."""
    return s.action


def action_change(s: Scene) -> float:
    """Mean squared change of the action, 0 to 4: what makes motion jerky."""
    return sum((a - b) ** 2 for a, b in zip(s.action, s.last_action, strict=True)) / len(s.action)


def set_command_delay(s: Scene, seconds: float) -> None:
    """Randomisation: commands reach the drives late by so much on average, as over a real link [s]."""
    s.command_delay_s = seconds
