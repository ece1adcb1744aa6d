"""Wheeled bases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from physai.spec import ActionSpec
from physai_envs.control.term import Controller
from physai_envs.robot import Robot


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
