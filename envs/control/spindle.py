"""The spindle of a screwdriver, and the spring of its telescoping bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from physai.spec import ActionSpec
from physai_envs.control.term import Controller
from physai_envs.robot import Robot


@dataclass(frozen=True)
class SpindleSpeed:
    """Speed of a spindle, whose motor gives at most `torque`; its bit telescopes against a spring.

    Attributes:
        speed: largest, tightening [rad/s]; `reverse` the largest loosening.
        torque: largest [Nm].
        acceleration: with which the motor follows the command [rad/s2].
        stiffness: of the bit's spring [N/m]; its force is what presses the screw.
        damping: of the bit [Ns/m].
        slide, spindle: names of the joints.
    """

    speed: float
    reverse: float
    torque: float
    acceleration: float = 100.0
    stiffness: float = 1000.0
    damping: float = 10.0
    slide: str = "bit_slide"
    spindle: str = "spindle"
    name: str = "spindle"

    def spec(self) -> ActionSpec:
        """Describes the command: the speed, positive tightens."""
        return ActionSpec(self.name, ("speed",), "rad/s", (-self.reverse,), (self.speed,), frame="tool")

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the controller of one robot."""
        return _SpindleController(robot, self)


class _SpindleController:
    """The motor ramps within the control step: a step of its speed would read as a torque that no screw has caused."""

    def __init__(self, robot: Robot, law: SpindleSpeed) -> None:
        self._body, self._law = robot.body, law
        self._slide, self._spindle = robot.body.joints[law.slide], robot.body.joints[law.spindle]
        self._column = robot.body.movable.index(self._slide)
        self._step = law.acceleration / robot.world.physics.hz
        self._target = self._speed = 0.0
        robot.body.follow()

    def reset(self) -> None:
        self._target = self._speed = 0.0
        self._body.drive_velocity([self._slide, self._spindle], [0.0, 0.0], [0.0, self._law.torque])

    def apply(self, command: Sequence[float]) -> None:
        self._target = command[0]

    def before_physics_step(self) -> None:
        position, velocity = self._body.samples[-1][self._column][:2]
        spring = self._law.stiffness * position + self._law.damping * velocity
        self._body.apply_torques([self._slide], [-spring])
        if self._speed != self._target:
            change = min(max(self._target - self._speed, -self._step), self._step)
            self._speed += change
            self._body.drive_velocity([self._spindle], [self._speed], [self._law.torque])
