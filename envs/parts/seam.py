"""A weld seam on a curved plate: its geometry, the record of how it was welded, and its looks.

The seam runs along +y; x is across it, z up. Lengths in m.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import asin, atan2, cos, hypot, pi, sin, sqrt, tan

import numpy as np
from numpy.typing import NDArray

from physai_envs.engine import Vector
from physai_envs.geometry import norm
from physai_envs.robot import Robot
from physai_envs.world import Box, World, quaternion_from_euler

WALL_ANGLE = pi / 6  # rad, of each wall of the V against the normal: 60 degrees in all, ISO 9692-1
DEPTH = 0.005  # m, of the groove: plates of 5 mm on a backing

Wave = tuple[float, float, float]  # amplitude [m], wave number [rad/m], phase [rad]


def wave(waves: tuple[Wave, ...], y: float) -> float:
    """Sum of sines at `y` [m]."""
    return sum([a * sin(k * y + phase) for a, k, phase in waves])


def wave_slope(waves: tuple[Wave, ...], y: float) -> float:
    """Derivative of `wave` along y."""
    return sum([a * k * cos(k * y + phase) for a, k, phase in waves])


@dataclass(frozen=True)
class Seam:
    """Two plates of one curved surface, and the V groove between them.

    Attributes:
        x, z: where the middle of the seam lies, without its waves.
        across, along: how the seam winds within the plate and in height, as sums of sines.
        slope_x, slope_y: of the surface in the middle.
        bend_x, bend_y: curvature of the surface [1/m].
        gap: between the plates at the root of the groove.
        mismatch: by which the plate at +x lies higher than the other.
    """

    x: float
    z: float
    across: tuple[Wave, ...]
    along: tuple[Wave, ...]
    slope_x: float = 0.0
    slope_y: float = 0.0
    bend_x: float = 0.0
    bend_y: float = 0.0
    gap: float = 0.0
    mismatch: float = 0.0

    @property
    def half_width(self) -> float:
        """Half the width of the groove at the surface [m]."""
        return 0.5 * self.gap + DEPTH * tan(WALL_ANGLE)

    def centre(self, y: float) -> float:
        """Where the seam lies across, at `y` [m]."""
        return self.x + wave(self.across, y)

    def height(self, x: float, y: float) -> float:
        """Height of the surface, the mean of both plates [m]."""
        u = x - self.x
        return (
            self.z + (self.slope_x + 0.5 * self.bend_x * u) * u + (self.slope_y + 0.5 * self.bend_y * y) * y
            + wave(self.along, y)
        )  # fmt: skip

    def gradient(self, x: float, y: float) -> tuple[float, float]:
        """Slopes of the surface along x and y."""
        return (
            self.slope_x + self.bend_x * (x - self.x),
            self.slope_y + self.bend_y * y + wave_slope(self.along, y),
        )

    def normal_at(self, y: float) -> Vector:
        """Unit vector out of the surface on the seam, (3,)."""
        gx, gy = self.gradient(self.centre(y), y)
        length = sqrt(1.0 + gx * gx + gy * gy)
        return -gx / length, -gy / length, 1.0 / length

    def tangent(self, y: float) -> Vector:
        """Unit vector along the seam, (3,)."""
        dx = wave_slope(self.across, y)
        gx, gy = self.gradient(self.centre(y), y)
        dz = gx * dx + gy
        length = sqrt(dx * dx + 1.0 + dz * dz)
        return dx / length, 1.0 / length, dz / length

    def relief(self, offset: NDArray[np.float64]) -> NDArray[np.float64]:
        """Height of the plates and the groove over the mean surface, at distances from the seam (n,) [m]."""
        plates = 0.5 * self.mismatch * np.sign(offset)
        wall = (np.abs(offset) - 0.5 * self.gap) / tan(WALL_ANGLE) - DEPTH
        return np.minimum(np.maximum(wall, -DEPTH), plates)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Deviation:
    """How a torch stands to the seam.

    Attributes:
        lateral: of the wire's end from the seam [m], positive towards +x.
        standoff: of the wire's end from the surface [m], positive when the torch is too high.
        angle: between torch and normal [rad].
        speed: along the seam [m/s].
    """

    lateral: float
    standoff: float
    angle: float
    speed: float


def lean(axis: Vector, normal: Vector) -> tuple[float, float]:
    """Rotation about x and y [rad] that turns a torch of this axis along the normal, to first order."""
    return axis[2] * normal[1] - axis[1] * normal[2], axis[0] * normal[2] - axis[2] * normal[0]


def deviation(seam: Seam, robot: Robot) -> Deviation:
    """Compares the tip, which belongs on the seam, and the tool axis, which belongs along the normal."""
    x, y, z = robot.tip_position
    normal, tangent = seam.normal_at(y), seam.tangent(y)
    lateral = (x - seam.centre(y)) * tangent[1]  # the distance to a line that runs askew
    standoff = (z - seam.height(x, y)) * normal[2]
    angle = asin(min(norm(lean(robot.tool_axis, normal)), 1.0))
    return Deviation(lateral, standoff, angle, sum([v * t for v, t in zip(robot.tip_velocity, tangent, strict=True)]))


class WeldLog:
    """Root mean squares and peaks of the deviations between the ends of the seam; a sensor of the scene.

    Args:
        look: gives the present deviation.
        position: gives the present y of the tip [m].
        ends: y of the seam's ends [m].
    """

    def __init__(self, look: Callable[[], Deviation], position: Callable[[], float], ends: tuple[float, float]) -> None:
        self._look, self._position, self._ends = look, position, ends
        self.target_speed = 1.0
        self.reset()

    def reset(self) -> None:
        """Forgets the last weld."""
        self.count = 0
        self._lateral = self._standoff = self._speed = 0.0
        self.lateral_max = self.angle_max = 0.0

    def start(self) -> bool:
        """Takes one sample; there is nothing to look at between control steps."""
        if self._ends[0] <= self._position() <= self._ends[1]:
            now = self._look()
            self.count += 1
            self._lateral += now.lateral**2
            self._standoff += now.standoff**2
            self._speed += (now.speed / self.target_speed - 1.0) ** 2
            self.lateral_max = max(self.lateral_max, abs(now.lateral))
            self.angle_max = max(self.angle_max, now.angle)
        return False

    def after_physics_step(self) -> None:
        """Never called: `start` says so."""

    @property
    def lateral_rms(self) -> float:
        """Of the distance to the seam [m]."""
        return sqrt(self._lateral / max(self.count, 1))

    @property
    def standoff_rms(self) -> float:
        """Of the stand-off error [m]."""
        return sqrt(self._standoff / max(self.count, 1))

    @property
    def speed_rms(self) -> float:
        """Of the relative error of the travel speed."""
        return sqrt(self._speed / max(self.count, 1))


STEEL, GROOVE, BEAD = (0.52, 0.56, 0.6, 1.0), (0.16, 0.16, 0.18, 1.0), (0.42, 0.4, 0.4, 1.0)
FRAME, HOT, LASER = (0.75, 0.5, 0.2, 1.0), (1.0, 0.55, 0.15, 1.0), (1.0, 0.1, 0.1, 1.0)
SEGMENT, ROW, ROWS = 0.0125, 0.045, 2  # m and m, of the tiles that show the plate; rows at each side
RIPPLE, COOLING = 0.003, 14  # m of seam, one ripple of the bead; ripples that still glow


class PlateLooks:
    """Tiles that show plate, groove and bead to somebody who looks; there are none in training, and none is solid.

    The torch never touches: an episode ends while its contact tip is still millimetres above the plate.
    """

    def __init__(self, world: World, ends: tuple[float, float], weld: tuple[float, float]) -> None:
        self._world, self._weld = world, weld
        if not world.visual:
            return
        count = round((ends[1] - ends[0]) / SEGMENT)
        self._places = [ends[0] + (i + 0.5) * SEGMENT for i in range(count)]
        long = 0.6 * SEGMENT  # overlapping, so that there are no slits where the seam turns
        tile, across = (ROW / 2, long, 0.0025), range(2 * ROWS)
        self._tiles = [[self._tile(f"plate_{i}_{j}", tile, STEEL) for j in across] for i in range(count)]
        self._roots = [self._tile(f"groove_{i}", (0.005, long, 0.001), GROOVE) for i in range(count)]
        ripples = round((weld[1] - weld[0]) / RIPPLE)
        self._beads = [self._tile(f"bead_{i}", (0.0036, 0.0022, 0.0012), BEAD) for i in range(ripples)]
        self._line = self._tile("laser_line", (0.014, 0.0006, 0.0006), LASER)
        self._frames = [(self._tile(f"frame_{y:g}", (0.08, 0.008, 0.12), FRAME), y) for y in (0.85 * w for w in weld)]
        self._laid = 0

    def _tile(self, name: str, half: Vector, color: Vector) -> str:
        self._world.compound(name, [Box(half, (0.0, 0.0, 0.0), solid=False)], (0, 0, -2), color=color)
        return name

    def show(self, seam: Seam) -> None:
        """Lays the tiles along a seam; the bead is still to come."""
        if not self._world.visual:
            return
        self._laid = 0
        for y, row, root in zip(self._places, self._tiles, self._roots, strict=True):
            centre = seam.centre(y)
            for j, name in enumerate(row):
                side = 1.0 if j % 2 else -1.0
                x = centre + side * (seam.half_width + ROW * (j // 2 + 0.5))
                self._place(name, seam, x, y, side * 0.5 * seam.mismatch - 0.0025)
            self._place(root, seam, centre, y, -DEPTH)
        for frame, y in self._frames:
            self._place(frame, seam, seam.centre(y), y, -DEPTH - 0.12)

    def _place(self, name: str, seam: Seam, x: float, y: float, lift: float) -> None:
        gx, gy = seam.gradient(x, y)
        heading = atan2(wave_slope(seam.across, y), 1.0)
        tilt = quaternion_from_euler((atan2(gy, 1.0), -atan2(gx, hypot(1.0, gy)), -heading))
        self._world[name].place((x, y, seam.height(x, y) + lift), tilt)

    def weld(self, seam: Seam, y: float, line_y: float) -> None:
        """Lays the bead up to `y`, lets it cool, and shows the laser's line at `line_y` [m]."""
        if not self._world.visual:
            return
        self._place("laser_line", seam, seam.centre(line_y), line_y, 0.0006)
        done = min(int((y - self._weld[0]) / RIPPLE), len(self._beads))
        while self._laid < done:
            at = self._weld[0] + (self._laid + 0.5) * RIPPLE
            self._place(self._beads[self._laid], seam, seam.centre(at), at, -0.0003)
            self._laid += 1
            for age, name in enumerate(reversed(self._beads[max(0, self._laid - COOLING) : self._laid])):
                heat = max(1.0 - age / (COOLING - 1), 0.0) ** 1.5
                self._world[name].set_color([heat * h + (1.0 - heat) * b for h, b in zip(HOT, BEAD, strict=True)])
