"""An impedance at the tool tip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from physai.spec import ActionSpec, limits
from physai_envs.control.term import XYZ, Controller
from physai_envs.geometry import rotate, rotation_error
from physai_envs.robot import Robot


@dataclass(frozen=True)
class CompliantPull:
    """Pulls the tool tip towards a point near it, by an impedance in joint torques; the tool stays as it began.

    The command is where the point lies as seen from the tip, so the arm never pushes harder than `stiffness` times
    `reach`, and nothing is remembered from one command to the next. This is the Cartesian impedance mode of torque
    controlled arms (N. Hogan, "Impedance Control", 1985). The arm compensates its own weight, as such arms do: the
    task simulates that by a world without gravity and without loose parts.

    With `tilt` the command also says by how much the tool is turned about the two horizontal axes through its tip, as
    seen from how it stands; what turns it less far pushes back, as the walls of a hole do.

    Attributes:
        reach: largest distance of the point along each axis [m].
        turn: largest angle about the vertical axis by which the tool is pulled [rad]; without it, it keeps its yaw.
        yaw_stiffness: with which it is then turned [Nm/rad].
        tilt: largest angle about each horizontal axis by which the tool is pulled [rad]; without it, it stays upright.
        stiffness: of the tip [N/m].
        turning_stiffness: about each axis [Nm/rad].
        damping: [Ns/m].
        turning_damping: [Nms/rad].
        joint_damping: [Nms/rad], calms the axis that the tip leaves free.
    """

    reach: float
    turn: float = 0.0
    yaw_stiffness: float = 20.0
    tilt: float = 0.0
    stiffness: float = 2000.0
    turning_stiffness: float = 120.0
    damping: float = 120.0
    turning_damping: float = 0.3
    joint_damping: float = 0.4
    name: str = "tip_pull"

    def spec(self) -> ActionSpec:
        """Describes the command: (x, y, z[, roll, pitch][, yaw])."""
        axes, high, unit = XYZ, limits(self.reach, 3), "m"
        if self.tilt:
            axes, high, unit = (*axes, "roll", "pitch"), (*high, self.tilt, self.tilt), "m, rad"
        if self.turn:
            axes, high, unit = (*axes, "yaw"), (*high, self.turn), "m, rad"
        return ActionSpec(self.name, axes, unit, tuple(-v for v in high), high, frame="world")

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the impedance controller of one robot."""
        return _ImpedanceController(robot, self)


class _ImpedanceController:
    """Within a control step the Jacobian is constant (the tip moves millimetres), so the law is one matrix product.

    It runs in every physics step, so it is written for speed: `_state` (positions, velocities, 1) times `_gain` are the
    torques, and numbers get into it one by one through `_slots`, which is faster than to make an array of them.
    """

    def __init__(self, robot: Robot, law: CompliantPull) -> None:
        self.robot, self._body, self._columns = robot, robot.body, robot.columns
        self._upright: Sequence[float] = (0.0, 0.0, 0.0, 1.0)
        yaw_stiffness = law.yaw_stiffness if law.turn else law.turning_stiffness
        of_position = [law.stiffness] * 3 + [law.turning_stiffness] * 2 + [yaw_stiffness]
        self._tilts, self._turns = bool(law.tilt), bool(law.turn)
        of_velocity = [law.damping] * 3 + [law.turning_damping] * 3
        self._laws = -np.array(([of_position], [of_velocity]))
        n = self._joints = len(robot.joints)
        self._state = np.ones(2 * n + 1)
        self._slots = memoryview(self._state)  # type: ignore[arg-type]
        self._gain = np.zeros((2 * n + 1, n))
        self._gains = self._gain[: 2 * n]  # of position, and below of velocity, both symmetric
        self._velocity_diagonal = self._gains[n:].reshape(-1)[:: n + 1]
        self._joint_damping = law.joint_damping
        self._least_effort, self._motors = min(robot.effort), robot.joints
        robot.body.follow()

    def reset(self) -> None:
        self._upright = self.robot.tip_pose[1]

    def apply(self, command: Sequence[float]) -> None:
        robot, body = self.robot, self._body
        turn = rotation_error(self._upright, robot.tip_pose[1])
        if self._tilts or self._turns:
            tilt = command[3:5] if self._tilts else self._tilt()
            turn = (*tilt, command[-1] if self._turns else turn[2])
        error = np.array((*command[:3], *turn))
        jacobian = body.jacobian(robot.last_link, robot.tip_from_com, body.joint_positions)[:, self._columns]
        weighted = (jacobian.T * self._laws).reshape(-1, 6)
        weighted.dot(jacobian, out=self._gains)
        self._velocity_diagonal -= self._joint_damping
        n = self._joints
        self._state[:n] = robot.joint_positions
        self._gain[-1] = -(weighted[:n].dot(error) + self._gains[:n].dot(self._state[:n]))
        if robot.motor_strength != 1.0:
            self._gain *= robot.motor_strength

    def _tilt(self) -> tuple[float, float]:
        """Rotation about x and y that puts the tool upright again, whatever its yaw is [rad]."""
        now, then = self.robot.tool_axis, rotate(self._upright, (0.0, 0.0, 1.0))
        return now[1] * then[2] - now[2] * then[1], now[2] * then[0] - now[0] * then[2]

    def before_physics_step(self) -> None:
        slots, n = self._slots, self._joints
        for i, (position, velocity, _, _) in enumerate(self._body.samples[-1][self._columns]):
            slots[i], slots[n + i] = position, velocity
        torques = self._state.dot(self._gain).tolist()
        if max(torques) > self._least_effort or min(torques) < -self._least_effort:
            torques = [min(max(torque, -most), most) for torque, most in zip(torques, self.robot.effort, strict=True)]
        self._body.apply_torques(self._motors, torques)
