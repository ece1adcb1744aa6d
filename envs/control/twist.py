"""Velocity of the tool tip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import truediv

import numpy as np
from scipy.linalg.lapack import dposv

from physai.spec import ActionSpec, limits
from physai_envs.control.term import XYZ, Controller
from physai_envs.geometry import norm, rotation_error
from physai_envs.robot import Robot

DAMPING = 0.05  # of the least squares [m]: bounds joint speeds near singular poses
POSE_GAIN_HZ = 8.0  # 1/s, how fast the tip returns to where the command wants it


@dataclass(frozen=True)
class EndEffectorTwist:
    """Velocity of the tool tip in the world frame, by joint velocities from damped least squares.

    Without `angular` the tool keeps its orientation; with it, the tool turns about the vertical axis.

    Attributes:
        linear: largest speed along each axis [m/s].
        angular: largest yaw rate [rad/s].
        lead: how far the held pose may run ahead of a tip that is blocked [m].
    """

    linear: float
    angular: float = 0.0
    lead: float = 0.03
    name: str = "tip_velocity"

    def spec(self) -> ActionSpec:
        """Describes the command: (vx, vy, vz[, yaw rate])."""
        axes, high, unit = XYZ, limits(self.linear, 3), "m/s"
        if self.angular:
            axes, high, unit = (*XYZ, "yaw"), (*high, self.angular), "m/s, rad/s"
        return ActionSpec(self.name, axes, unit, tuple(-v for v in high), high, frame="world")

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the velocity controller of one robot."""
        return _TwistController(robot, period_s, self.lead)


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

    def move(self, command: Sequence[float]) -> None:
        dt = self.period_s
        x, y, z = self.position
        self.position = (x + command[0] * dt, y + command[1] * dt, z + command[2] * dt)
        if len(command) > 3:  # turn about the world's vertical axis
            half = 0.5 * command[3] * dt
            qx, qy, qz, qw = self.orientation
            turned = (qx - half * qy, qy + half * qx, qz + half * qw, qw - half * qz)
            length = norm(turned)
            self.orientation = tuple(v / length for v in turned)


class _TwistController:
    def __init__(self, robot: Robot, period_s: float, lead: float) -> None:
        self.robot, self.held = robot, _HeldPose(robot, period_s, lead)
        self._columns = robot.columns
        self._damping = DAMPING**2 * np.eye(6)

    def reset(self) -> None:
        self.held.reset()

    def apply(self, command: Sequence[float]) -> None:
        robot, held = self.robot, self.held
        error = held.error()
        held.move(command)
        gain = POSE_GAIN_HZ
        yaw_rate = command[3] if len(command) > 3 else 0.0
        twist = np.array(
            (
                command[0] + gain * error[0], command[1] + gain * error[1], command[2] + gain * error[2],
                gain * error[3], gain * error[4], yaw_rate + gain * error[5],
            )
        )  # fmt: skip
        body = robot.body
        # the columns of a tool's joints are zero, as those lie beyond the tip's link; to cut them off costs a copy
        jacobian = body.jacobian(robot.last_link, robot.tip_from_com, body.joint_positions)
        # numpy's own solve checks its arguments for longer than this solves
        _, weights, _ = dposv(jacobian.dot(jacobian.T) + self._damping, twist)
        rates = weights.dot(jacobian).tolist()[self._columns]
        worst = max(map(abs, map(truediv, rates, robot.velocity_limit)))
        if worst > 1.0:  # slow down as a whole, so that the direction stays
            rates = [rate / worst for rate in rates]
        body.drive_velocity(robot.joints, rates, robot.effort)
