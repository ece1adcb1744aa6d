"""Planar laser scanner all around a robot, and the bumper that tells whether the robot touched anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from physai_envs.world import Body, Vector, World

HIT_FRACTION = itemgetter(2)  # of the engine's description of a hit
OUTSIDE = 0.005  # m, by which rays start outside of the robot, so that they do not see the robot itself


def outline(angles: NDArray[np.float64], half_length: float, half_width: float | None) -> NDArray[np.float64]:
    """Distance from the centre of a rectangle, or of a disc of radius `half_length`, to its edge at each angle [m]."""
    if half_width is None:
        return np.full_like(angles, half_length)
    with np.errstate(divide="ignore"):
        return np.minimum(half_length / np.abs(np.cos(angles)), half_width / np.abs(np.sin(angles)))


class Lidar:
    """Distances to whatever stands around a robot, in one horizontal plane, by the engine's own ray casts.

    Ranges are measured from the middle of the robot, as the merged scan of two corner scanners is; ray 0 points ahead,
    the others follow counterclockwise. The plane tilts with the robot.

    Args:
        world: the world.
        body: the robot; the origin of its base frame is its middle.
        rays: how many, evenly spread over 360 degrees.
        height: of the plane in the robot's base frame [m].
        reach: largest range [m], also what a ray that hits nothing reads.
        half_length, half_width: of the robot [m]; one without a width is round.
    """

    def __init__(
        self, world: World, body: Body, *, rays: int, height: float, reach: float, half_length: float,
        half_width: float | None = None,
    ) -> None:  # fmt: skip
        self._world, self._body = world, body
        self.angles = np.arange(rays) * (2.0 * math.pi / rays)
        self.reach, self._rays = reach, rays
        self._skin = outline(self.angles, half_length, half_width)
        self._start = self._skin + OUTSIDE
        self._length = reach - self._start
        directions = np.stack([np.cos(self.angles), np.sin(self.angles)], axis=1)
        level = np.full((rays, 1), height)
        self._near: list[Vector] = np.hstack([directions * self._start[:, None], level]).tolist()
        self._far: list[Vector] = np.hstack([directions * reach, level]).tolist()

    def scan(self) -> NDArray[np.float64]:
        """Casts the rays from where the robot is now; returns ranges [m], a new array (rays,)."""
        hits = self._world.rays(self._near, self._far, self._body)
        ranges = np.fromiter(map(HIT_FRACTION, hits), float, self._rays)
        ranges *= self._length
        ranges += self._start
        return ranges

    def hits(self) -> list[Vector]:
        """Casts the rays, and returns where they hit something, world frame [m]; for somebody who looks."""
        return [hit[3] for hit in self._world.rays(self._near, self._far, self._body) if hit[0] >= 0]

    def clearance(self, ranges: NDArray[np.float64]) -> float:
        """Least free distance between the robot's outline and what a ray saw [m]."""
        return float((ranges - self._skin).min())


class Bumper:
    """Latches any contact of a body with anything but the floor, seen at every physics step.

    Looking costs more than stepping, so it looks only while something is near enough to be reached within the step.

    Args:
        world: the world.
        body: the robot.
        floor: what it may touch.
        clearance: free distance around the robot at the beginning of a control step [m].
        near: below which clearance it looks [m]; more than robot and obstacle can close in a control step.
    """

    def __init__(self, world: World, body: Body, floor: Body, clearance: Callable[[], float], near: float) -> None:
        self._world, self._body, self._floor = world, body, floor.id
        self._clearance, self._near = clearance, near
        self.touched = False

    def reset(self) -> None:
        """Forgets the last episode."""
        self.touched = False

    def start(self) -> bool:
        """Tells whether anything is near."""
        return self._clearance() < self._near

    def after_physics_step(self) -> None:
        """Looks for contacts."""
        if not self.touched:
            for point in self._world.contacts(self._body):
                if point[2] != self._floor:
                    self.touched = True
