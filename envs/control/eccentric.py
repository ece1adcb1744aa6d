"""Wheels on driven eccentric arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from physai.spec import ActionSpec, limits
from physai_envs.control.term import Controller
from physai_envs.robot import Robot


@dataclass(frozen=True)
class EccentricWheels:
    """Turning rates of the arms and of the wheels on them, of a robot with the joints arm, wheel, arm, wheel ...

    A wheel's motor sits on its arm, so a turning arm turns the wheel with it: the speed is that against the arm.

    Attributes:
        corners: names of the arms with their wheels, in the order of the joints.
        arm_rate: largest, either way [rad/s].
        wheel_speed: largest, either way [rad/s].
        arm_torque: of each arm's motor [Nm].
        wheel_torque: of each wheel's motor [Nm].
        arm_limit: angle beyond which an arm is not driven [rad].
    """

    corners: tuple[str, ...]
    arm_rate: float
    wheel_speed: float
    arm_torque: float
    wheel_torque: float
    arm_limit: float
    name: str = "eccentric_wheels"

    def spec(self) -> ActionSpec:
        """Describes the command: the rates of all arms, then the speeds of all wheels."""
        n = len(self.corners)
        high = limits(self.arm_rate, n) + limits(self.wheel_speed, n)
        elements = tuple(f"{corner}_{part}" for part in ("arm", "wheel") for corner in self.corners)
        return ActionSpec(self.name, elements, "rad/s", tuple(-v for v in high), high, frame="joint")

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the drive of one robot."""
        return _EccentricController(robot, self, period_s)


class _EccentricController:
    def __init__(self, robot: Robot, law: EccentricWheels, period_s: float) -> None:
        self.robot, self.law, self._hz = robot, law, 1.0 / period_s
        self._joints = robot.joints[0::2] + robot.joints[1::2]  # arms, then wheels
        self._torque: list[float] = []

    def reset(self) -> None:
        n, share = len(self.law.corners), self.robot.motor_strength
        self._torque = [share * self.law.arm_torque] * n + [share * self.law.wheel_torque] * n
        self.apply([0.0] * 2 * n)

    def apply(self, command: Sequence[float]) -> None:
        limit, hz, n = self.law.arm_limit, self._hz, len(self.law.corners)
        rates = [
            min(max(rate, (-limit - angle) * hz), (limit - angle) * hz)
            for rate, angle in zip(command[:n], self.robot.joint_positions[0::2], strict=True)
        ]
        self.robot.body.drive_velocity(self._joints, [*rates, *command[n:]], self._torque)
