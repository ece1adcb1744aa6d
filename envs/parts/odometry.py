"""Dead reckoning of a vacuum cleaner, and what it covers meanwhile, truly and as it believes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from physai_envs.geometry import subtract, wrap_angle, yaw_of
from physai_envs.parts.coverage import CoverageMap, FloorPlan
from physai_envs.parts.lidar import Lidar
from physai_envs.world import Body


class Odometry:
    """Way from a floor tracking sensor, heading from a gyro; a sensor that updates floor plan and map on the way.

    The sensor looks at the floor as an optical mouse does, so wheels that slip at an obstacle do not deceive it. It
    sees the way ahead, not the way aside.

    Args:
        body: the robot, its x axis ahead.
        lidar: scans at the end of each control step.
        plan: the true floor.
        map: the robot's own.
        steps: physics steps in a control step, and `every` how many of them the pose is taken.
        period_s: of a physics step.

    Attributes:
        place, yaw: true pose (2,) [m], [rad]; `believed` is that of the odometry (3,) [m, m, rad].
        ranges: last scan [m].
        distance: driven since the start [m].
        newly: cells covered in the last control step.
    """

    def __init__(
        self, body: Body, lidar: Lidar, plan: FloorPlan, map: CoverageMap, steps: int, every: int,
        period_s: float,
    ) -> None:  # fmt: skip
        self._body, self._lidar, self.plan, self.map = body, lidar, plan, map
        self._steps, self._every, self._period_s = steps, every, period_s
        self.scale, self.drift = 1.0, 0.0

    def begin(self, scale: float, drift: float) -> None:
        """Starts an episode where the robot stands: `scale` of the way, `drift` of the gyro [rad/s]."""
        self.scale, self.drift = scale, drift
        position, orientation = self._body.pose
        self.place, self.yaw = position[:2], yaw_of(orientation)
        self.believed = (*self.place, self.yaw)  # where its frame lies means nothing to the robot
        self.distance, self.newly, self._count = 0.0, 0, 0
        self.map.clear()
        self.plan.cover(self.place, self.place)
        self.map.cover(self.place, self.place)
        self._look()

    def reset(self) -> None:
        """Nothing to forget: `begin` has done it."""

    def start(self) -> None:
        """Begins a control step."""
        self.newly = self._count = 0

    def after_physics_step(self) -> None:
        """Takes the pose now and then."""
        self._count += 1
        if self._count % self._every:
            return
        self._body.world.touch()  # what was read in this control step is old
        position, orientation = self._body.pose
        before, self.place = self.place, position[:2]
        self.distance += math.dist(before, self.place)
        self.newly += self.plan.cover(before, self.place)
        self._reckon(subtract((*self.place, 0.0), (*before, 0.0)), yaw_of(orientation))
        if self._count == self._steps:
            self._look()

    def _reckon(self, moved: Sequence[float], yaw: float) -> None:
        turned = wrap_angle(yaw - self.yaw)
        heading = self.yaw + 0.5 * turned
        way = self.scale * (moved[0] * math.cos(heading) + moved[1] * math.sin(heading))
        self.yaw = yaw
        turned += self.drift * self._every * self._period_s
        x, y, believed = self.believed
        middle = believed + 0.5 * turned
        self.believed = (x + way * math.cos(middle), y + way * math.sin(middle), believed + turned)
        self.map.cover((x, y), self.believed[:2])

    def _look(self) -> None:
        self.ranges = self._lidar.scan()
        self.map.look(*self.believed, self.ranges)

    @property
    def clearance(self) -> float:
        """Least free distance around the robot in the last scan [m]."""
        return self._lidar.clearance(self.ranges)

    def picture(self) -> Sequence[float]:
        """The map as it looks from where the robot believes to be."""
        return self.map.picture(*self.believed)  # type: ignore[return-value]
