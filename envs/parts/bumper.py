"""The two halves of a vacuum cleaner's bumper: which of them touched something in the last control step."""

from __future__ import annotations

from collections.abc import Callable

from physai_envs.geometry import rotate_back
from physai_envs.world import Body, World


class Bumper:
    """Contacts of a round robot with anything but the floor, seen at every physics step, left and right of its front.

    Looking costs more than stepping, so it looks only while something is near enough to be reached within the step.

    Args:
        world: the world.
        body: the robot, its x axis ahead.
        floor: what it may touch.
        clearance: free distance around the robot at the beginning of a control step [m].
        near: below which clearance it looks [m]; more than the robot drives in a control step.

    Attributes:
        left, right: whether that half was touched in the last control step; what is straight ahead counts to the right.
        bumps: how many control steps in which it was touched followed one in which it was not.
    """

    def __init__(self, world: World, body: Body, floor: Body, clearance: Callable[[], float], near: float) -> None:
        self._world, self._body, self._floor = world, body, floor.id
        self._clearance, self._near = clearance, near
        self.reset()

    def reset(self) -> None:
        """Forgets the last episode."""
        self.left = self.right = False
        self.bumps = 0
        self._before = False

    @property
    def touched(self) -> bool:
        """Whether anything was touched in the last control step."""
        return self.left or self.right

    def start(self) -> bool:
        """Begins a control step; tells whether anything is near."""
        self._before = self.touched
        self.left = self.right = False
        return self._clearance() < self._near

    def after_physics_step(self) -> None:
        """Looks for contacts."""
        for point in self._world.contacts(self._body):
            if point[2] != self._floor:
                if not (self.touched or self._before):
                    self.bumps += 1
                _, push, _ = rotate_back(self._body.orientation, point[7])  # away from what is touched
                self.left, self.right = self.left or push < 0.0, self.right or push >= 0.0
