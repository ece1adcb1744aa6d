"""The fingers of a parallel gripper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from physai.spec import ActionSpec
from physai_envs.control.term import Controller
from physai_envs.robot import Robot

GRIP_GAIN_HZ = 10.0  # 1/s, how fast fingers return to where the command wants them


@dataclass(frozen=True)
class GripperSpeed:
    """Closing speed of two coupled fingers; positive opens.

    The fingers are held to a width that the command moves, so that the grip stays when the command returns to zero.

    Attributes:
        fingers: names of the two finger joints.
        speed: of each finger [m/s].
        force: with which each finger presses [N].
        lead: how far the held position may run ahead of a finger that is blocked [m].
        press_speed: told to blocked fingers [m/s]. In every solver iteration a velocity motor adds at most mass x speed
            to its impulse, so force / (physics rate x iterations x mass of a finger) is what it takes to press with
            the force. Not much more: Bullet loses a contact for a step now and then, and so fast fingers go on then.
    """

    fingers: tuple[str, str] = ("finger_left", "finger_right")
    speed: float = 0.05
    force: float = 20.0
    lead: float = 0.004
    press_speed: float = 0.3
    name: str = "gripper"

    def spec(self) -> ActionSpec:
        """Describes the command: the speed of each finger."""
        return ActionSpec(self.name, ("finger_speed",), "m/s", (-self.speed,), (self.speed,), frame="hand")

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the gripper controller of one robot."""
        return _GripperController(robot, period_s, self)


class _GripperController:
    """Velocity motors, told to go faster than they can once a finger is blocked."""

    def __init__(self, robot: Robot, period_s: float, law: GripperSpeed) -> None:
        self.body, self.period_s, self.force = robot.body, period_s, [law.force] * 2
        self.lead, self.press_speed = law.lead, law.press_speed
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
            target = math.copysign(self.press_speed, ahead)
        self.ahead = min(max(ahead + speed * self.period_s, -self.lead), self.lead)
        self.position = position
        self.body.drive_velocity(self.fingers, [target, target], self.force)
