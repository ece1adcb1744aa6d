"""How a command becomes motor targets: the action terms that a task can declare.

A declaration is data; `bind` gives the controller of one robot. Commands are in SI units, already clipped and
rate-limited by `physai.spec.ActionMap`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import truediv
from typing import Protocol

import numpy as np
from scipy.linalg.lapack import dposv

from physai.spec import ActionSpec, limits
from physai_envs.geometry import norm, rotation_error
from physai_envs.robot import Robot

DAMPING = 0.05  # of the least squares [m]: bounds joint speeds near singular poses
POSE_GAIN_HZ = 8.0  # 1/s, how fast the tip returns to where the command wants it
GRIP_GAIN_HZ = 10.0  # 1/s, how fast fingers return to where the command wants them
PRESS_SPEED = 0.3  # m/s, told to blocked fingers; Bullet loses a contact for a step now and then: no faster than needed
XYZ = ("x", "y", "z")


class Controller(Protocol):
    """Drives a robot by one action term."""

    def reset(self) -> None:
        """Takes the robot's present state as the one to hold."""

    def apply(self, command: Sequence[float]) -> None:
        """Takes the command of one control step, in SI units."""

    def before_physics_step(self) -> None:
        """Called before every physics step, if the class defines it."""


class ActionTerm(Protocol):
    """A declared action: its description, and a controller for a robot."""

    def spec(self) -> ActionSpec:
        """Describes the command."""

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the controller, called once when the environment is built; `period_s` is the control period."""


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
        jacobian = body.jacobian(robot.last_link, robot.tip_from_com, body.joint_positions)[:, self._columns]
        # numpy's own solve checks its arguments for longer than this solves
        _, weights, _ = dposv(jacobian.dot(jacobian.T) + self._damping, twist)
        rates = weights.dot(jacobian).tolist()
        worst = max(map(abs, map(truediv, rates, robot.velocity_limit)))
        if worst > 1.0:  # slow down as a whole, so that the direction stays
            rates = [rate / worst for rate in rates]
        body.drive_velocity(robot.joints, rates, robot.effort)


@dataclass(frozen=True)
class CompliantPull:
    """Pulls the tool tip towards a point near it, by an impedance in joint torques; the tool keeps its orientation.

    The command is where the point lies as seen from the tip, so the arm never pushes harder than `stiffness` times
    `reach`, and nothing is remembered from one command to the next. This is the Cartesian impedance mode of torque
    controlled arms (N. Hogan, "Impedance Control", 1985). The arm compensates its own weight, as such arms do: the
    task simulates that by a world without gravity and without loose parts.

    Attributes:
        reach: largest distance of the point along each axis [m].
        stiffness: of the tip [N/m].
        turning_stiffness: about each axis [Nm/rad].
        damping: [Ns/m].
        turning_damping: [Nms/rad].
        joint_damping: [Nms/rad], calms the axis that the tip leaves free.
    """

    reach: float
    stiffness: float = 2000.0
    turning_stiffness: float = 120.0
    damping: float = 120.0
    turning_damping: float = 0.3
    joint_damping: float = 0.4
    name: str = "tip_pull"

    def spec(self) -> ActionSpec:
        """Describes the command: (x, y, z)."""
        high = limits(self.reach, 3)
        return ActionSpec(self.name, XYZ, "m", tuple(-v for v in high), high, frame="world")

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the impedance controller of one robot."""
        return _ImpedanceController(robot, self)


class _ImpedanceController:
    """Within a control step the Jacobian is constant (the tip moves millimetres), so the law is one matrix product.

    It runs in every physics step, so it is written for speed: `_state` (positions, velocities, 1) times `_gain` are the
    torques, and numbers get into it one by one, which is faster than to make an array of them.
    """

    def __init__(self, robot: Robot, law: CompliantPull) -> None:
        self.robot, self._body, self._columns = robot, robot.body, robot.columns
        self._upright: Sequence[float] = (0.0, 0.0, 0.0, 1.0)
        of_position = [law.stiffness] * 3 + [law.turning_stiffness] * 3
        of_velocity = [law.damping] * 3 + [law.turning_damping] * 3
        self._laws = -np.array(([of_position], [of_velocity]))
        n = self._joints = len(robot.joints)
        self._state = np.ones(2 * n + 1)
        self._gain = np.zeros((2 * n + 1, n))
        self._gains = self._gain[: 2 * n].reshape(2, n, n)  # of position and of velocity, both symmetric
        self._velocity_diagonal = self._gains[1].reshape(-1)[:: n + 1]
        self._joint_damping = law.joint_damping
        self._least_effort = min(robot.effort)
        robot.body.follow()

    def reset(self) -> None:
        self._upright = self.robot.tip_pose[1]

    def apply(self, command: Sequence[float]) -> None:
        robot, body = self.robot, self._body
        error = np.array((*command, *rotation_error(self._upright, robot.tip_pose[1])))
        jacobian = body.jacobian(robot.last_link, robot.tip_from_com, body.joint_positions)[:, self._columns]
        weighted = jacobian.T * self._laws
        np.matmul(weighted, jacobian, out=self._gains)
        self._velocity_diagonal -= self._joint_damping
        self._gain[-1] = -(weighted[0].dot(error) + self._gains[0].dot(robot.joint_positions))

    def before_physics_step(self) -> None:
        state, n = self._state, self._joints
        for i, joint in enumerate(self._body.samples[-1][self._columns]):
            state[i], state[n + i] = joint[0], joint[1]
        torques = state.dot(self._gain).tolist()
        if max(torques) > self._least_effort or min(torques) < -self._least_effort:
            torques = [min(max(torque, -most), most) for torque, most in zip(torques, self.robot.effort, strict=True)]
        self._body.apply_torques(self.robot.joints, torques)


@dataclass(frozen=True)
class GripperSpeed:
    """Closing speed of two coupled fingers; positive opens.

    The fingers are held to a width that the command moves, so that the grip stays when the command returns to zero.

    Attributes:
        fingers: names of the two finger joints.
        speed: of each finger [m/s].
        force: with which each finger presses [N].
        lead: how far the held position may run ahead of a finger that is blocked [m].
    """

    fingers: tuple[str, str] = ("finger_left", "finger_right")
    speed: float = 0.05
    force: float = 20.0
    lead: float = 0.004
    name: str = "gripper"

    def spec(self) -> ActionSpec:
        """Describes the command: the speed of each finger."""
        return ActionSpec(self.name, ("finger_speed",), "m/s", (-self.speed,), (self.speed,), frame="hand")

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the gripper controller of one robot."""
        return _GripperController(robot, period_s, self)


class _GripperController:
    """Velocity motors, told to go much faster than they can once a finger is blocked.

    In every solver iteration a velocity motor adds at most mass x speed to its impulse, so fingers that are told to
    close at 5 cm/s press with a fraction of their force; at `PRESS_SPEED` they press with all of it.
    """

    def __init__(self, robot: Robot, period_s: float, law: GripperSpeed) -> None:
        self.body, self.period_s, self.lead, self.force = robot.body, period_s, law.lead, [law.force] * 2
        self.fingers = [robot.body.joints[name] for name in law.fingers]
        self.columns = [robot.body.movable.index(finger) for finger in self.fingers]
        self.ahead, self.position = 0.0, 0.0  # m: of the held position before the fingers; of the fingers, a step ago
        robot.world.gear(robot.body, self.fingers[0], self.fingers[1], ratio=-1.0, max_force=50.0)

    def _mean_position(self) -> float:
        states = self.body.joint_states
        return 0.5 * (states[self.columns[0]][0] + states[self.columns[1]][0])

    def reset(self) -> None:
        self.ahead, self.position = 0.0, self._mean_position()
        self.body.drive_velocity(self.fingers, [0.0, 0.0], self.force)

    def apply(self, command: Sequence[float]) -> None:
        speed, position = command[0], self._mean_position()
        ahead = self.ahead + self.position - position
        if ahead * speed < 0.0:  # turned back: start from where the fingers are
            ahead = 0.0
        target = speed + GRIP_GAIN_HZ * ahead
        if abs(ahead) > 0.5 * self.lead:
            target = math.copysign(PRESS_SPEED, ahead)
        self.ahead = min(max(ahead + speed * self.period_s, -self.lead), self.lead)
        self.position = position
        self.body.drive_velocity(self.fingers, [target, target], self.force)


@dataclass(frozen=True)
class DifferentialDrive:
    """Forward speed and yaw rate of a robot with two driven wheels.

    Attributes:
        wheels: names of the left and right wheel joints.
        radius: of the wheels [m].
        track: distance between the wheels' contact points [m].
        speed: largest forward speed [m/s]; `reverse` the largest backward.
        yaw_rate: largest [rad/s].
        acceleration: [m/s2 and rad/s2], the rate limits of the command.
        torque: of each wheel motor [Nm].
    """

    wheels: tuple[str, str]
    radius: float
    track: float
    speed: float
    yaw_rate: float
    acceleration: tuple[float, float]
    torque: float
    reverse: float = 0.0
    name: str = "drive"

    def spec(self) -> ActionSpec:
        """Describes the command: (forward speed, yaw rate)."""
        return ActionSpec(
            self.name, ("speed", "yaw_rate"), "m/s, rad/s", (-self.reverse, -self.yaw_rate),
            (self.speed, self.yaw_rate), frame="base", rate_limit=self.acceleration,
        )  # fmt: skip

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the drive of one robot."""
        return _DriveController(robot, self)


class _DriveController:
    def __init__(self, robot: Robot, law: DifferentialDrive) -> None:
        self.robot, self.body, self.law = robot, robot.body, law
        self.wheels = [robot.body.joints[name] for name in law.wheels]
        self.torque = [law.torque] * 2

    def reset(self) -> None:
        self.torque = [self.law.torque * self.robot.motor_strength] * 2
        self.apply((0.0, 0.0))

    def apply(self, command: Sequence[float]) -> None:
        forward, turn = command[0] / self.law.radius, 0.5 * command[1] * self.law.track / self.law.radius
        self.body.drive_velocity(self.wheels, [forward - turn, forward + turn], self.torque)
