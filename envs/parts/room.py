"""A furnished room: four walls, and furniture that stands along them and in the middle.

A table has four legs, between which the vacuum cleaner fits; everything else is solid from the floor up. What a layout
leaves reachable is not promised here: `parts.coverage.FloorPlan` finds out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from physai_envs.world import Body, Box, Vector, World

HALF_X, HALF_Y = (1.5, 2.3), (1.3, 1.9)  # m, half of the inside of the smallest and the largest room
WALL_HALF = (3.0, 0.1, 0.25)  # m, half extents of a wall; low, so that somebody who looks sees over it
APART = 0.45  # m, between pieces of furniture: room for the cleaner, and 5 cm to each side
BEHIND = 0.01  # m, between furniture and the wall it stands at
MAX_TURN = math.radians(15.0)  # how far from straight free-standing furniture is turned
TRIES = 30  # places tried for each piece
PARKED_Z = -20.0  # m, under the floor

PARQUET: Vector = (0.76, 0.62, 0.46, 1.0)
WALL: Vector = (0.93, 0.92, 0.89, 1.0)
WOOD: Vector = (0.55, 0.38, 0.24, 1.0)
WHITE: Vector = (0.94, 0.94, 0.93, 1.0)
BLUE: Vector = (0.30, 0.42, 0.58, 1.0)
GREY: Vector = (0.48, 0.50, 0.53, 1.0)
GREEN: Vector = (0.24, 0.46, 0.28, 1.0)
LEG = 0.025  # m, half the thickness of a table leg


@dataclass(frozen=True)
class Piece:
    """A kind of furniture: half extents on the floor [m], whether it stands at a wall, and what it is made of."""

    name: str
    half: Vector
    at_wall: bool
    boxes: tuple[Box, ...]
    legs: bool = False


def _bed() -> tuple[Box, ...]:
    x, y = 1.0, 0.7
    return (
        Box((x, y, 0.14), (0.0, 0.0, 0.14), color=WOOD),
        Box((x - 0.03, y - 0.03, 0.08), (0.0, 0.0, 0.36), color=WHITE, solid=False),
        Box((0.6, y - 0.02, 0.03), (0.38, 0.0, 0.44), color=BLUE, solid=False),
        Box((0.18, 0.28, 0.05), (-0.75, 0.33, 0.48), color=WHITE, solid=False),
        Box((0.18, 0.28, 0.05), (-0.75, -0.33, 0.48), color=WHITE, solid=False),
    )


def _seat(x: float, y: float, color: Vector) -> tuple[Box, ...]:
    """Sofa or armchair, its back at +y."""
    return (
        Box((x, y, 0.2), (0.0, 0.0, 0.2), color=color),
        Box((x, 0.1, 0.2), (0.0, y - 0.1, 0.6), color=color, solid=False),
        Box((0.08, y, 0.1), (x - 0.08, 0.0, 0.5), color=color, solid=False),
        Box((0.08, y, 0.1), (-x + 0.08, 0.0, 0.5), color=color, solid=False),
    )


def _table(x: float, y: float) -> tuple[Box, ...]:
    corners = [(sx * (x - LEG), sy * (y - LEG)) for sx in (-1, 1) for sy in (-1, 1)]
    legs = tuple(Box((LEG, LEG, 0.35), (*corner, 0.35), color=WOOD) for corner in corners)
    return (*legs, Box((x, y, 0.02), (0.0, 0.0, 0.72), color=WOOD))


PIECES = (
    Piece("bed", (1.0, 0.7), at_wall=True, boxes=_bed()),
    Piece("sofa", (0.9, 0.42), at_wall=True, boxes=_seat(0.9, 0.42, GREY)),
    Piece("table", (0.6, 0.4), at_wall=False, boxes=_table(0.6, 0.4), legs=True),
    Piece("sideboard", (0.7, 0.22), at_wall=True, boxes=(Box((0.7, 0.22, 0.4), (0.0, 0.0, 0.4), color=WHITE),)),
    Piece("armchair", (0.38, 0.38), at_wall=False, boxes=_seat(0.38, 0.38, BLUE)),
    Piece("dresser", (0.5, 0.3), at_wall=True, boxes=(Box((0.5, 0.3, 0.45), (0.0, 0.0, 0.45), color=WOOD),)),
    Piece(
        "plant", (0.15, 0.15), at_wall=False,
        boxes=(
            Box((0.15, 0.15, 0.17), (0.0, 0.0, 0.17), color=WHITE),
            Box((0.2, 0.2, 0.22), (0.0, 0.0, 0.6), color=GREEN, solid=False),
        ),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Rectangle:
    """A rectangle on the floor: centre, half extents [m] and how far it is turned [rad]."""

    x: float
    y: float
    half_x: float
    half_y: float
    turn: float = 0.0

    def around(self) -> Rectangle:
        """The axis-parallel rectangle around it."""
        c, s = abs(math.cos(self.turn)), abs(math.sin(self.turn))
        return Rectangle(self.x, self.y, self.half_x * c + self.half_y * s, self.half_x * s + self.half_y * c)

    def gap(self, other: Rectangle) -> float:
        """Larger of the free distances along x and y between two axis-parallel rectangles [m]."""
        along = abs(self.x - other.x) - self.half_x - other.half_x
        return max(along, abs(self.y - other.y) - self.half_y - other.half_y)


class Room:
    """The room and its pool of furniture.

    Attributes:
        half_x, half_y: half of its inside [m].
        obstacles: what stands on the floor, each leg of a table for itself.
    """

    def __init__(self, world: World) -> None:
        floor = Box((WALL_HALF[0] + 0.3, WALL_HALF[0], 0.05), (0.0, 0.0, -0.05))
        world.compound("floor", [floor], color=PARQUET, scenery=True)
        self._walls = [world.box(f"wall{i}", WALL_HALF, color=WALL, scenery=True) for i in range(4)]
        self._pool: list[tuple[Piece, Body]] = []
        for i, piece in enumerate(PIECES):
            at = (3.0 * i, 0.0, PARKED_Z)
            self._pool.append((piece, world.compound(piece.name, piece.boxes, at, scenery=True)))
        self.half_x, self.half_y = HALF_X[0], HALF_Y[0]
        self.obstacles: list[Rectangle] = []
        self._taken: list[Rectangle] = []

    def arrange(self, rng: np.random.Generator, half_x: float, half_y: float, pieces: int) -> None:
        """Draws a layout with up to so many pieces, fewer where the room is full, in a room of this size [m]."""
        self.half_x, self.half_y = half_x, half_y
        self.obstacles, self._taken = [], []
        beyond = WALL_HALF[1]
        quarter = math.sqrt(0.5)
        for side, wall in zip((-1, 1, -1, 1), self._walls, strict=True):
            if wall.name in ("wall0", "wall1"):
                wall.place((0.0, side * (half_y + beyond), WALL_HALF[2]))
            else:
                wall.place((side * (half_x + beyond), 0.0, WALL_HALF[2]), (0.0, 0.0, quarter, quarter))
        for index in np.sort(rng.permutation(len(self._pool))[:pieces]).tolist():  # the large ones first
            self._put_down(*self._pool[index], rng)

    def _put_down(self, piece: Piece, body: Body, rng: np.random.Generator) -> None:
        hx, hy = piece.half
        for u, v, w in rng.uniform(-1.0, 1.0, (TRIES, 3)).tolist():
            if piece.at_wall:
                place = self._at_wall(piece, u, int(2.0 * (v + 1.0)) % 4)
            else:
                turn = MAX_TURN * w
                place = Rectangle(0.0, 0.0, hx, hy, turn)
                box = place.around()
                free_x, free_y = self.half_x - APART - box.half_x, self.half_y - APART - box.half_y
                if min(free_x, free_y) < 0.0:
                    return
                place = Rectangle(u * free_x, v * free_y, hx, hy, turn)
            box = place.around()
            if max(abs(box.x) + box.half_x - self.half_x, abs(box.y) + box.half_y - self.half_y) > 0.0:
                continue
            if all(box.gap(other) >= APART for other in self._taken):
                self._taken.append(box)
                self.obstacles += self._feet(piece, place)
                body.place((place.x, place.y, 0.0), (0.0, 0.0, math.sin(0.5 * place.turn), math.cos(0.5 * place.turn)))
                return

    def _at_wall(self, piece: Piece, along: float, wall: int) -> Rectangle:
        """A place at one of the walls, its back to it; free to either side, or in the corner."""
        hx, hy = piece.half
        length, depth = (self.half_x, self.half_y) if wall < 2 else (self.half_y, self.half_x)
        free = length - BEHIND - hx
        s = along * free
        if free - abs(s) < APART:  # a gap that nobody could clean
            s = math.copysign(free, s)
        out = depth - BEHIND - hy
        x, y, turn = ((s, out, 0.0), (s, -out, math.pi), (-out, s, 0.5 * math.pi), (out, s, -0.5 * math.pi))[wall]
        return Rectangle(x, y, hx, hy, turn)

    @staticmethod
    def _feet(piece: Piece, place: Rectangle) -> Sequence[Rectangle]:
        if not piece.legs:
            return [place]
        c, s = math.cos(place.turn), math.sin(place.turn)
        feet = []
        for box in piece.boxes[:4]:
            x, y, _ = box.at
            feet.append(
                Rectangle(place.x + c * x - s * y, place.y + s * x + c * y, box.half[0], box.half[1], place.turn)
            )
        return feet
