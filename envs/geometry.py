"""Small vector and quaternion arithmetic on plain floats: on three numbers it is several times faster than numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence

Vec = Sequence[float]


def subtract(a: Vec, b: Vec) -> tuple[float, float, float]:
    """Returns a - b, (3,)."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def norm(a: Vec) -> float:
    """Euclidean length of any number of components."""
    return math.hypot(*a)


def distance(a: Vec, b: Vec) -> float:
    """Euclidean distance of two points."""
    return math.dist(a, b)


def wrap_angle(angle: float) -> float:
    """Maps an angle to [-pi, pi) [rad]."""
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


def rotate(q: Vec, v: Vec) -> tuple[float, float, float]:
    """Rotates `v` by the quaternion `q`."""
    x, y, z, w = q
    tx, ty, tz = 2 * (y * v[2] - z * v[1]), 2 * (z * v[0] - x * v[2]), 2 * (x * v[1] - y * v[0])
    return (
        v[0] + w * tx + y * tz - z * ty,
        v[1] + w * ty + z * tx - x * tz,
        v[2] + w * tz + x * ty - y * tx,
    )


def rotate_back(q: Vec, v: Vec) -> tuple[float, float, float]:
    """Rotates `v` by the inverse of the unit quaternion `q`: from world into body coordinates."""
    return rotate((-q[0], -q[1], -q[2], q[3]), v)


def rotation_error(target: Vec, actual: Vec) -> tuple[float, float, float]:
    """Rotation vector [rad] that turns `actual` into `target`, to first order in the angle."""
    ax, ay, az, aw = actual
    tx, ty, tz, tw = target
    w = tw * aw + tx * ax + ty * ay + tz * az
    s = 2.0 if w >= 0 else -2.0  # the shorter way round
    return (
        s * (tx * aw - tw * ax - ty * az + tz * ay),
        s * (ty * aw - tw * ay - tz * ax + tx * az),
        s * (tz * aw - tw * az - tx * ay + ty * ax),
    )


def yaw_of(q: Vec) -> float:
    """Rotation about the vertical axis [rad]."""
    return math.atan2(2 * (q[3] * q[2] + q[0] * q[1]), 1 - 2 * (q[1] * q[1] + q[2] * q[2]))


def euler_of(q: Vec) -> tuple[float, float, float]:
    """Roll, pitch and yaw [rad]: about the axes x, then y, then z of the world."""
    x, y, z, w = q
    sine = min(max(2 * (w * y - z * x), -1.0), 1.0)
    return math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)), math.asin(sine), yaw_of(q)
