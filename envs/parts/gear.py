"""Spur gears with box teeth: a running mate, and when a second gear meshes with it.

Bullet inflates convex hulls by 1 mm, nearly as much as the backlash, so a tooth is a box. Boxes of 4.6 mm in a pitch
of 12.6 mm clear each other down to the root; they do not roll as involutes do, but they transmit torque from tooth to
tooth, at a ratio that is exact in the mean.
"""

from __future__ import annotations

from math import atan2, pi, tau

from physai_envs.engine import Vector
from physai_envs.geometry import rotate
from physai_envs.robot import ASSETS
from physai_envs.world import Body, World

TEETH = 12
PITCH_RADIUS = 0.024  # m, module 4
OUTER_RADIUS = 0.027  # m
FACE = 0.01  # m, width of the teeth along the axis
BORE_RADIUS = 0.0085  # m
TOOTH = tau / TEETH  # rad


def add_mate(world: World, name: str) -> Body:
    """Adds the running gear; its base is the middle of its lower face."""
    return world.load(name, ASSETS / "tools" / "mate_gear.urdf", fixed=True)


def yaw_of_gear(orientation: Vector) -> float:
    """Direction of the marked tooth of a held gear, which lies along the tool's x axis [rad]."""
    x, y, _ = rotate(orientation, (1.0, 0.0, 0.0))
    return atan2(y, x)


def phase_error(yaw: float, mate_angle: float, direction: float) -> float:
    """Smallest turn of a gear after which its teeth stand in the gaps of the mate [rad], within half a tooth.

    Args:
        yaw: of a tooth of the gear.
        mate_angle: of a tooth of the mate.
        direction: from the axis of the gear to that of the mate.
    """
    apart = 0.5 * TOOTH - (yaw - direction) - (mate_angle - direction - pi)
    return (apart + 0.5 * TOOTH) % TOOTH - 0.5 * TOOTH
