"""Planar laser scanner all around a robot, and the bumper that tells whether the robot touched anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from physai_envs.world import Body, World

HIT_FRACTION = itemgetter(2)  # of the engine's description of a hit
OUTSIDE = 0.005  # m, by which rays start outside of the robot, so that they do not see the robot itself


def outline(angles: NDArray[np.float64], half_length: float, half_width: float) -> NDArray[np.float64]:
    """Distance from the centre of a rectangle to its edge along each angle [rad -> m]."""
    with np.errstate(divide="ignore"):
        return np.minimum(half_length / np.abs(np.cos(angles)), half_width / np.abs(np.sin(angles)))


class Lidar:
    """Distances to whatever stands around a robot, in one horizontal plane, by the engine's own ray casts.

    Ranges are measured from the middle of the robot, as the merged scan of two corner scanners is; ray 0 points ahead,
    the others follow counterclockwise. The plane is level: on a flat floor the robot tilts by less than 0.3 degrees.

    Args:
        world: the world.
        rays: how many, evenly spread over 360 degrees.
        height: of the plane above the floor [m].
        reach: largest range [m], also what a ray that hits nothing reads.
        half_length, half_width: of the robot [m].
    """

    def __init__(
        self, world: World, *, rays: int, height: float, reach: float, half_length: float, half_width: float
    ) -> None:
        self._world = world
        self.angles = np.arange(rays) * (2.0 * math.pi / rays)
        self.reach, self._rays = reach, rays
        self._skin = outline(self.angles, half_length, half_width)
        self._start = self._skin + OUTSIDE
        self._length = reach - self._start
        directions = np.stack([np.cos(self.angles), np.sin(self.angles)], axis=1)
        ends = np.concatenate([directions * self._start[:, None], directions * reach])
        self._ends = np.concatenate([ends, np.ones((2 * rays, 1))], axis=1)  # in the robot's frame, homogeneous
        self._pose = np.zeros((3, 3))
        self._pose[2, 2] = height
        self._points = np.zeros((2 * rays, 3))

    def scan(self, x: float, y: float, cos: float, sin: float) -> NDArray[np.float64]:
        """Casts the rays of a robot at (x, y) [m] with heading (cos, sin); returns ranges [m], a new array (rays,)."""
        pose = self._pose
        pose[0, 0], pose[0, 1], pose[1, 0], pose[1, 1], pose[2, 0], pose[2, 1] = cos, sin, -sin, cos, x, y
        points = np.dot(self._ends, pose, out=self._points).tolist()
        hits = self._world.rays(points[: self._rays], points[self._rays :])
        ranges = np.fromiter(map(HIT_FRACTION, hits), float, self._rays)
        ranges *= self._length
        ranges += self._start
        return ranges

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
