"""Open bin of five boxes: a floor and four walls, so that contacts are exact and parts come to rest in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from physai_envs.world import Body, Box, Vector, World

BLUE = (0.25, 0.45, 0.7, 1.0)


@dataclass(frozen=True)
class Bin:
    """Dimensions of a square bin whose origin is the centre of its underside.

    Attributes:
        half: half of the inner side [m].
        height: of the rim above the underside [m].
        wall: thickness of walls and floor [m].
    """

    half: float = 0.07
    height: float = 0.05
    wall: float = 0.005

    @property
    def outer(self) -> float:
        """Half of the outer side [m]."""
        return self.half + self.wall

    def add(self, world: World, name: str, friction: float = 0.5, color: Vector = BLUE) -> Body:
        """Adds the bin as one fixed body; place it where it should stand."""
        side, middle = self.half + self.wall / 2, (self.height + self.wall) / 2
        tall = (self.height - self.wall) / 2
        boxes = [Box(half=(self.outer, self.outer, self.wall / 2), at=(0.0, 0.0, self.wall / 2))]
        for sign in (-1.0, 1.0):  # the walls along y lie between those along x
            boxes.append(Box(half=(self.wall / 2, self.outer, tall), at=(sign * side, 0.0, middle)))
            boxes.append(Box(half=(self.half, self.wall / 2, tall), at=(0.0, sign * side, middle)))
        return world.compound(name, boxes, color=color, friction=friction)

    def over(self, offset: Sequence[float]) -> bool:
        """Whether a point at `offset` from the origin [m] lies between the walls or above, (2,) or (3,)."""
        return abs(offset[0]) < self.half and abs(offset[1]) < self.half

    def holds(self, offset: Sequence[float]) -> bool:
        """Whether a point at `offset` from the origin [m] lies between the walls and below the rim, (3,)."""
        return self.over(offset) and 0.0 < offset[2] < self.height
