"""Cars: a steering angle and an acceleration, and a motion model that turns them into a path."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from physai.spec import ActionSpec
from physai_envs.control.term import Controller
from physai_envs.robot import Robot


class MotionModel(Protocol):
    """A model of how a car moves, such as those in `parts.bicycle`; pose of the centre of gravity [m, rad]."""

    x: float
    y: float
    yaw: float
    speed: float

    def step(self, steering: float, acceleration: float, dt: float) -> None:
        """Moves on by `dt` [s]."""


@dataclass(frozen=True)
class CarDrive:
    """Steering angle of the front wheels and acceleration, by wire; the brakes stop at the ends of the speed range.

    The body of the robot, which has no mass in the engine, is carried along with a motion model before every physics
    step. Tasks find the model at ``robot.drive.motion``.

    Attributes:
        model: makes the motion model.
        joints: the steered wheels, which turn where somebody looks.
        middle: how far ahead of the centre of gravity the origin of the body lies [m].
        steering: largest angle [rad], left and right.
        acceleration: lowest and highest [m/s2].
        rates: of the commands [rad/s and m/s3].
        speeds: lowest and highest [m/s]; below zero the car may reverse.
    """

    model: Callable[[], MotionModel]
    joints: tuple[str, str]
    middle: float
    steering: float
    acceleration: tuple[float, float]
    rates: tuple[float, float]
    speeds: tuple[float, float]
    name: str = "drive"

    def spec(self) -> ActionSpec:
        """Describes the command: (steering angle, acceleration)."""
        low, high = self.acceleration
        return ActionSpec(
            self.name, ("steering", "acceleration"), "rad, m/s2", (-self.steering, low), (self.steering, high),
            frame="base", rate_limit=self.rates,
        )  # fmt: skip

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the drive of one robot."""
        return _CarController(robot, self)


class _CarController:
    def __init__(self, robot: Robot, law: CarDrive) -> None:
        self.robot, self.law, self.dt = robot, law, 1.0 / robot.world.physics.hz
        self.motion = robot.drive.motion = law.model()
        self._height = robot.model.base_position[2]
        self._steered = [robot.body.joints[name] for name in law.joints] if robot.world.visual else []
        self.steering = self.acceleration = 0.0

    def reset(self) -> None:
        self.apply((0.0, 0.0))
        self._carry()

    def apply(self, command: Sequence[float]) -> None:
        self.steering, self.acceleration = command
        if self._steered:
            self.robot.body.set_joints([self.steering] * len(self._steered))

    def before_physics_step(self) -> None:
        motion, (slowest, fastest), dt = self.motion, self.law.speeds, self.dt
        push = min(max(self.acceleration, (slowest - motion.speed) / dt), (fastest - motion.speed) / dt)
        motion.step(self.steering, push, dt)
        self._carry()

    def _carry(self) -> None:
        motion, ahead = self.motion, self.law.middle
        yaw = motion.yaw
        place = (motion.x + ahead * math.cos(yaw), motion.y + ahead * math.sin(yaw), self._height)
        self.robot.body.carry(place, (0.0, 0.0, math.sin(0.5 * yaw), math.cos(0.5 * yaw)))
