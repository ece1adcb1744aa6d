"""The valve of a suction cup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from physai.spec import ActionSpec
from physai_envs.control.term import Controller
from physai_envs.robot import Robot


@dataclass(frozen=True)
class Vacuum:
    """Opens the valve of the vacuum above zero, and blows off below; `robot.drive.vacuum` says which."""

    name: str = "vacuum"

    def spec(self) -> ActionSpec:
        """Describes the command."""
        return ActionSpec(self.name, ("valve",), "1", (-1.0,), (1.0,), frame="tool")

    def bind(self, robot: Robot, period_s: float) -> Controller:
        """Makes the valve of one robot."""
        return _Valve(robot)


class _Valve:
    def __init__(self, robot: Robot) -> None:
        self.drive = robot.drive
        self.reset()

    def reset(self) -> None:
        self.drive.vacuum = False

    def apply(self, command: Sequence[float]) -> None:
        self.drive.vacuum = command[0] > 0.0
