"""Velocity of the tool tip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import truediv

import numpy as np

from physai.spec import ActionSpec, limits
from physai_envs.control.term import XYZ, Controller
from physai_envs.geometry import norm, rotation_error
from physai_envs.robot import Robot

DAMPING = 0.05  # of the least squares [m]: bounds joint speeds near singular poses
POSE_GAIN_HZ = 8.0  # 1/s, how fast the tip returns to where the command wants it


@dataclass(frozen=True)
class EndEffectorTwist:
    """Velocity of the tool tip in the world frame, by joint velocities from damped least squares.

    Without `angular` and `tilt` the tool keeps its orientation; with them it turns about its tip.

    Attributes:
        linear: largest speed along each axis [m/s].
        angular: largest yaw rate, about the vertical axis [rad/s].
        tilt: largest rate about each of the two horizontal axes [rad/s].
        lead: how far the held pose may run ahead of a tip that is blocked [m].
        acceleration: rate limit of each linear speed [m/s2]; 0 means none.
    """

    linear: float
    angular: float = 0.0
    tilt: float = 0.0
    lead: float = 0.03
    acceleration: float = 0.0
    name: str = "tip_velocity"

    def spec(self) -> ActionSpec:
        """Describes the command: (vx, vy, vz[, rates about x and y][, yaw rate])."""
        axes, high, unit = XYZ, limits(self.linear, 3), "m/s"
        if self.tilt:
            axes, high, unit = (*axes, "roll", "pitch"), (*high, self.tilt, self.tilt), "m/s, rad/s"
        if self.angular:
            axes, high, unit = (*axes, "yaw"), (*high, self.angular), "m/s, rad/s"
        rates = (self.acceleration,) * 3 + (math.inf,) * (len(axes) - 3) if self.acceleration else None
        return ActionSpec(self.name, axes, unit, tuple(-v for v in high), high, frame="world", rate_limit=rates)

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the velocity controller of one robot."""
        return _TwistController(robot, period_s, self)


class _HeldPose:
    """The pose that a commanded twist has led to, never further than `lead` [m] ahead of the tip."""

    def __init__(self, robot: Robot, period_s: float, lead: float) -> None:
        self.robot, self.period_s, self.lead = robot, period_s, lead
        self.position: tuple[float, ...] = (0.0, 0.0, 0.0)
        self.orientation: Sequence[float] = (0.0, 0.0, 0.0, 1.0)

    def reset(self) -> None:
        self.position, self.orientation = self.robot.tip_pose

    def error(self) -> tuple[float, ...]:
        """Pose error (6,) [m, rad]; a lead that has grown too long is cut back."""
        (x, y, z), orientation = self.robot.tip_pose
        px, py, pz = self.position
        ex, ey, ez = px - x, py - y, pz - z
        length = norm((ex, ey, ez))
        if length > self.lead:
            scale = self.lead / length
            ex, ey, ez = ex * scale, ey * scale, ez * scale
            self.position = (x + ex, y + ey, z + ez)
        return ex, ey, ez, *rotation_error(self.orientation, orientation)

    def move(self, velocity: Sequence[float], turn: Sequence[float]) -> None:
        dt = self.period_s
        x, y, z = self.position
        self.position = (x + velocity[0] * dt, y + velocity[1] * dt, z + velocity[2] * dt)
        hx, hy, hz = (0.5 * rate * dt for rate in turn)
        if hx or hy or hz:
            qx, qy, qz, qw = self.orientation
            turned = (
                qx + (hx * qw + hy * qz - hz * qy), qy + (hy * qw + hz * qx - hx * qz),
                qz + (hz * qw + hx * qy - hy * qx), qw - (hx * qx + hy * qy + hz * qz),
            )  # fmt: skip
            length = norm(turned)
            self.orientation = tuple(v / length for v in turned)


class _TwistController:
    def __init__(self, robot: Robot, period_s: float, law: EndEffectorTwist) -> None:
        from scipy.linalg.lapack import dposv  # here, because who lists the tasks does not wait for it

        # numpy's own solve checks its arguments for longer than this solves
        self._solve = dposv
        self.robot, self.held = robot, _HeldPose(robot, period_s, law.lead)
        self._tilts = bool(law.tilt)
        self._columns = robot.columns
        self._damping = DAMPING**2 * np.eye(6)

    def reset(self) -> None:
        self.held.reset()

    def apply(self, command: Sequence[float]) -> None:
        robot, held = self.robot, self.held
        error = held.error()
        tilt = command[3:5] if self._tilts else (0.0, 0.0)
        turn = (*tilt, command[-1] if len(command) in (4, 6) else 0.0)
        held.move(command, turn)
        gain = POSE_GAIN_HZ
        twist = np.array(
            (
                command[0] + gain * error[0], command[1] + gain * error[1], command[2] + gain * error[2],
                turn[0] + gain * error[3], turn[1] + gain * error[4], turn[2] + gain * error[5],
            )
        )  # fmt: skip
        body = robot.body
        # the columns of a tool's joints are zero, as those lie beyond the tip's link; to cut them off costs a copy
        jacobian = body.jacobian(robot.last_link, robot.tip_from_com, body.joint_positions)
        _, weights, _ = self._solve(jacobian.dot(jacobian.T) + self._damping, twist)
        rates = weights.dot(jacobian).tolist()[self._columns]
        worst = max(map(abs, map(truediv, rates, robot.velocity_limit)))
        if worst > 1.0:  # slow down as a whole, so that the direction stays
            rates = [rate / worst for rate in rates]
        body.drive_velocity(robot.joints, rates, robot.effort)
