"""Distance of a body from what it must not touch, by the engine's collision shapes."""

from __future__ import annotations

from collections.abc import Sequence

from physai_envs.world import Body, World


class Proximity:
    """Free distance around a body that is carried by a motion model, and whether it ever touched an obstacle.

    The engine makes no contacts between bodies without mass, but computes how far apart their shapes are. That costs
    some microseconds a pair, so within a control step it looks only at what was `near` when the step began.

    Args:
        world: the world.
        body: what moves.
        obstacles: what it must not touch; they rest where `arrange` finds them.
        size: radius of the circle around the body's origin that contains it [m].
        reach: distances beyond this are reported as this [m].
        near: an obstacle farther away than this cannot be reached in a control step [m].

    Attributes:
        touched: whether the body has touched an obstacle in this episode.
        least: least distance so far in this episode [m].
    """

    def __init__(
        self,
        world: World,
        body: Body,
        obstacles: Sequence[tuple[Body, float]],
        *,
        size: float,
        reach: float,
        near: float,
    ) -> None:
        self._world, self._body, self._obstacles = world, body, obstacles
        self._size, self.reach, self._near = size, reach, near
        self._places: list[tuple[Body, float, float, float]] = []
        self._close: list[Body] = []
        self.reset()

    def reset(self) -> None:
        """Forgets the last episode; call it when the obstacles are where they stay."""
        self.touched, self.least = False, self.reach
        self._places = [
            (body, *body.position[:2], (radius + self._size + self.reach) ** 2) for body, radius in self._obstacles
        ]

    def distances(self) -> list[tuple[float, Body]]:
        """Distance [m] of each obstacle that is about within reach."""
        x, y, _ = self._body.position
        gap, body, reach = self._world.gap, self._body, self.reach
        return [
            (gap(body, other, reach), other)
            for other, at_x, at_y, farthest in self._places
            if (x - at_x) ** 2 + (y - at_y) ** 2 < farthest
        ]

    def look(self, found: Sequence[tuple[float, Body]]) -> None:
        """Takes note of present `distances`, before a control step: those that are near are watched in it."""
        self._close = [other for distance, other in found if distance < self._near]
        for distance, _ in found:
            self._keep(distance)

    def start(self) -> bool:
        """Tells whether anything is near."""
        return bool(self._close)

    def after_physics_step(self) -> None:
        """Looks at what is near."""
        for other in self._close:
            self._keep(self._world.gap(self._body, other, self._near))

    def _keep(self, distance: float) -> None:
        self.least = min(self.least, distance)
        self.touched = self.touched or distance <= 0.0
