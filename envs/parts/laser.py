"""Laser triangulation sensor that finds a weld groove ahead of the torch, and remembers where the seam goes.

Seam trackers project a line across the joint, measure its profile, find the groove in it, and store its place in the
robot's base frame until the torch gets there. This one does the same, with the faults of a real one: noise of every
pixel, pixels without return, whole profiles blinded by the arc or spatter, and an imperfect calibration to the torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from physai_envs.geometry import rotate
from physai_envs.parts.seam import Seam, wave_slope
from physai_envs.robot import Robot

AHEAD = 0.03  # m from the torch, in the direction of travel
HALF_LINE, PIXELS = 0.024, 49  # m: 1 mm apart
PIXEL_NOISE = 0.0001  # m, of each distance; laser line sensors of this width specify 0.05 to 0.1 mm
PIXEL_DROPOUT, PROFILE_DROPOUT = 0.05, 0.1  # probabilities: of a pixel, and of a profile, by spatter
IN_GROOVE = 0.0008  # m below the plate's line: counts as groove, well above the noise
LEAST_DEPTH = 0.0015  # m, of a profile in which there is a groove at all
BESIDE = 0.0055  # m from the groove's middle, where the plates begin
LEAST_PIXELS = 4  # on each plate
MEMORY = 96  # points; at the slowest travel of 0.6 mm a step they reach back over the 30 mm from sensor to torch
WIDTH = 0.005  # m, of the smoothing along the seam
RIDGE = 1e-6  # m2: with few points near, the seam is taken to go straight on
REFITS, CASTS = 3, 3  # rounds; the axis is nearly normal to the work, so each is a sixth of the error before

_U = np.linspace(-HALF_LINE, HALF_LINE, PIXELS)


def find_groove(distance: NDArray[np.float64], seen: NDArray[np.bool_]) -> tuple[float, float, float] | None:
    """Finds the groove in a profile.

    Args:
        distance: of every pixel along the torch axis, growing into the work (PIXELS,) [m].
        seen: which pixels have a return (PIXELS,).

    Returns:
        position of the groove along the line [m], distance of the plates there [m], their slope; None if there is none.
    """
    plate = seen.astype(float)
    for _ in range(REFITS):  # a line through what is not groove
        total = plate.sum()
        u0, d0 = plate.dot(_U) / total, plate.dot(distance) / total
        centred = plate * (_U - u0)
        slope = centred.dot(distance) / centred.dot(_U)
        deep = distance - (d0 + slope * (_U - u0))
        plate = seen * (deep < IN_GROOVE)
    groove = seen * np.maximum(deep - IN_GROOVE, 0.0)
    if groove.max() < LEAST_DEPTH:
        return None
    at = float(groove.dot(_U) / groove.sum())
    aside = _U - at
    sides = [plate * (aside < -BESIDE), plate * (aside > BESIDE)]  # the two plates need not be flush
    counts = [side.sum() for side in sides]
    if min(counts) < LEAST_PIXELS:
        return None
    means = [(side.dot(_U) / n, side.dot(distance) / n) for side, n in zip(sides, counts, strict=True)]
    centred = [side * (_U - u) for side, (u, _) in zip(sides, means, strict=True)]
    slope = sum([c.dot(distance) for c in centred]) / sum([c.dot(_U) for c in centred])
    level = sum([0.5 * (d + slope * (at - u)) for u, d in means])
    return at, float(level), float(slope)


@dataclass(frozen=True)
class Course:
    """Where the tracker believes the seam to be, at some places along y (n,).

    x, z [m], their slopes `dx`, `dz` along y, and `bank`, the slope of the plates across.
    """

    x: NDArray[np.float64]
    z: NDArray[np.float64]
    dx: NDArray[np.float64]
    dz: NDArray[np.float64]
    bank: NDArray[np.float64]


class SeamTracker:
    """The sensor and its memory; a sensor of the scene that looks once a control step.

    Attributes:
        lateral_offset, height_offset: error of the calibration between sensor and torch in this episode [m].
        fresh: share of good profiles among the last ones, 0 to 1.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self.lateral_offset = self.height_offset = 0.0
        self._seam: Seam | None = None
        self._rng = np.random.default_rng(0)
        self._points = np.zeros((MEMORY, 4))  # y, x, z, bank
        self.fresh, self._count = 1.0, 0

    def follow(self, seam: Seam, rng: np.random.Generator) -> None:
        """Takes the seam of a new episode, and the generator of the sensor's noise."""
        self._seam, self._rng = seam, rng

    def reset(self) -> None:
        """Forgets the last seam, and looks until there is a first point."""
        self._count, self.fresh = 0, 1.0
        for _ in range(100):
            if self._look():
                return

    def start(self) -> bool:
        """Takes one profile; there is nothing to look at between control steps."""
        self.fresh += 0.1 * (float(self._look()) - self.fresh)
        return False

    def after_physics_step(self) -> None:
        """Never called: `start` says so."""

    def _look(self) -> bool:
        noise = self._rng.standard_normal(PIXELS) * PIXEL_NOISE
        blind = self._rng.random(PIXELS + 1)
        if self._seam is None or blind[-1] < PROFILE_DROPOUT:
            return False
        (px, py, pz), q = self._robot.tip_pose
        ahead, side, axis = rotate(q, (0.0, -1.0, 0.0)), rotate(q, (1.0, 0.0, 0.0)), self._robot.tool_axis
        origin = (px + AHEAD * ahead[0], py + AHEAD * ahead[1], pz + AHEAD * ahead[2])
        distance = cast(self._seam, origin, side, axis) + noise
        found = find_groove(distance, blind[:-1] > PIXEL_DROPOUT)
        if found is None:
            return False
        at, level, slope = found
        at, level = at + self.lateral_offset, level + self.height_offset
        x, y, z = (o + at * s + level * a for o, s, a in zip(origin, side, axis, strict=True))
        bank = (side[2] + slope * axis[2]) / (side[0] + slope * axis[0])
        self._points[self._count % MEMORY] = (y, x, z, bank)
        self._count += 1
        return True

    def course(self, places: NDArray[np.float64]) -> Course:
        """Where the seam is at `places` along y (n,) [m]: a line through the points near, weighted by how near."""
        y, values = self._points[: self._count, 0], self._points[: self._count, 1:]
        away = y - np.clip(places, y.min(), y.max())[:, None]
        weight = np.exp(-((away / WIDTH) ** 2))
        total = weight.sum(axis=1)[:, None]
        mean = weight.dot(values) / total
        lead = (weight * away).sum(axis=1)[:, None] / total
        centred = weight * (away - lead)
        spread = (centred * away).sum(axis=1)[:, None] / total + RIDGE
        slope = centred.dot(values) / total / spread
        x, z, bank = (mean - lead * slope).T
        return Course(x, z, slope[:, 0], slope[:, 1], bank)


def cast(seam: Seam, origin: Sequence[float], side: Sequence[float], axis: Sequence[float]) -> NDArray[np.float64]:
    """Distances along `axis` from the points of the line through `origin` along `side` to the work (PIXELS,) [m]."""
    x, y, z = origin[0] + side[0] * _U, origin[1] + side[1] * _U, origin[2] + side[2] * _U
    middle = seam.centre(origin[1])
    gx, gy = seam.gradient(middle, origin[1])
    winding = wave_slope(seam.across, origin[1])
    straight = 1.0 / sqrt(1.0 + winding * winding)
    base = seam.height(middle, origin[1])
    steep = axis[2] - gx * axis[0] - gy * axis[1]  # change of the height over the plate along the axis
    distance = np.zeros(PIXELS)
    for _ in range(CASTS):
        hx, hy = x + axis[0] * distance, y + axis[1] * distance - origin[1]
        across = (hx - middle - winding * hy) * straight
        u = hx - middle
        work = base + gx * u + 0.5 * seam.bend_x * u * u + gy * hy + seam.relief(across)
        distance += (work - (z + axis[2] * distance)) / steep
    return distance
