"""What every action term and its controller offer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from physai.spec import ActionSpec
from physai_envs.robot import Robot

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
