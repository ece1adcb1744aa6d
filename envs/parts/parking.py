"""A car park: an aisle between two rows of bays at right angles to it, hedges and a wall around, parked cars.

The aisle leads along x, from the entrance at negative x to the closed end. Dimensions: FGSV, "Empfehlungen für Anlagen
des ruhenden Verkehrs" (EAR), 2005, table 4.2: bays 2.50 x 5.00 m, aisle 6.00 m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from physai_envs.world import Body, Box, Vector, World

BAY_WIDTH, BAY_LENGTH, AISLE = 2.5, 5.0, 6.0  # m
PER_ROW = 6
HALF_ROW = 0.5 * PER_ROW * BAY_WIDTH  # m
ENTRANCE, END = -16.0, 17.0  # m, where the hedges begin and the wall stands
DEPTH = 0.5 * AISLE + BAY_LENGTH  # m, from the middle of the aisle to the back of the bays
BACK = 0.15  # m, from there to the wall
VERGE = 0.4  # m, free between aisle or bays and hedges
CAR_HALF: Vector = (2.315, 0.89, 0.65)  # m, as `robots.car`
CAR_HEIGHT = 0.785  # m, of the middle of its shape above the ground
ASIDE, ALONG, ASKEW = 0.15, 0.2, math.radians(2.0)  # how inexactly other people park [m, m, rad]
TAKEN = 0.85  # share of the other bays that are taken, but for the neighbours, which always are
PARKED_Z = -20.0  # m, under the ground

TARMAC: Vector = (0.40, 0.41, 0.43, 1.0)
PAINT: Vector = (0.93, 0.93, 0.91, 1.0)
WALL: Vector = (0.72, 0.71, 0.68, 1.0)
HEDGE: Vector = (0.27, 0.45, 0.22, 1.0)
GOAL: Vector = (0.16, 0.62, 0.36, 1.0)
GLASS: Vector = (0.13, 0.18, 0.24, 1.0)
BLACK: Vector = (0.06, 0.06, 0.07, 1.0)
PAINTS: tuple[Vector, ...] = (
    (0.80, 0.81, 0.83, 1.0), (0.62, 0.10, 0.12, 1.0), (0.25, 0.27, 0.30, 1.0), (0.90, 0.90, 0.88, 1.0),
    (0.33, 0.45, 0.38, 1.0), (0.78, 0.62, 0.30, 1.0), (0.52, 0.55, 0.60, 1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Bay:
    """A bay: its middle [m], `side` 1 for the row at positive y and -1 for the other, and whose nose points where.

    Attributes:
        yaw: of a car that was reversed into it, nose towards the aisle [rad].
    """

    x: float
    side: int

    @property
    def y(self) -> float:
        """Of the middle [m]."""
        return self.side * 0.5 * (AISLE + BAY_LENGTH)

    @property
    def yaw(self) -> float:
        """Direction out of the bay [rad]."""
        return -0.5 * math.pi * self.side


BAYS = tuple(Bay((i + 0.5) * BAY_WIDTH - HALF_ROW, side) for side in (-1, 1) for i in range(PER_ROW))


def _car() -> list[Box]:
    """What a parked car looks like; its solid box is unseen."""
    x, y, _ = CAR_HALF
    low = -CAR_HEIGHT
    shape = [
        Box(CAR_HALF, (0.0, 0.0, 0.0), seen=False),
        Box((x - 0.03, y - 0.04, 0.10), (0.0, 0.0, low + 0.27), color=BLACK, solid=False),
        Box((x - 0.015, y, 0.18), (0.0, 0.0, low + 0.55), solid=False),
        Box((0.85, y - 0.06, 0.07), (1.35, 0.0, low + 0.76), solid=False),
        Box((1.70, y - 0.03, 0.10), (-0.55, 0.0, low + 0.80), solid=False),
        Box((1.35, 0.76, 0.14), (-0.42, 0.0, low + 1.02), color=GLASS, solid=False),
        Box((1.05, 0.71, 0.11), (-0.48, 0.0, low + 1.22), color=GLASS, solid=False),
        Box((0.87, 0.69, 0.05), (-0.50, 0.0, low + 1.375), solid=False),
    ]
    for at, half in ((1.375, 0.3), (-1.305, 0.3)):
        shape.append(Box((half, y + 0.005, 0.3), (at, 0.0, low + 0.31), color=BLACK, solid=False))
    return shape


def _markings(side: int) -> list[Box]:
    """Lines between the bays of one row, relative to the middle of its mouth."""
    deep = side * 0.5 * BAY_LENGTH
    lines = [
        Box((0.06, 0.5 * BAY_LENGTH, 0.005), (i * BAY_WIDTH - HALF_ROW, deep, 0.005), solid=False)
        for i in range(PER_ROW + 1)
    ]
    return [*lines, Box((HALF_ROW, 0.06, 0.005), (0.0, 2.0 * deep, 0.005), solid=False)]


class ParkingLot:
    """The car park with its pool of parked cars.

    Attributes:
        obstacles: everything that is solid, each with the radius of a circle around it [m].
    """

    def __init__(self, world: World) -> None:
        middle = 0.5 * (ENTRANCE + END)
        ground = Box((0.5 * (END - ENTRANCE) + 3.0, DEPTH + 3.0, 0.5), (middle, 0.0, -0.5))
        world.compound("floor", [ground], color=TARMAC, scenery=True)
        solid: list[tuple[Body, Vector]] = []

        def block(name: str, half: Vector, x: float, y: float, color: Vector) -> None:
            solid.append((world.box(name, half, (x, y, half[2]), color=color, scenery=True), half))

        block("end", (0.15, DEPTH, 0.5), END + 0.15, 0.0, WALL)
        for side in (-1, 1):
            block(f"back{side}", (HALF_ROW, 0.15, 0.5), 0.0, side * (DEPTH + BACK + 0.15), WALL)
            depth = 0.5 * (BAY_LENGTH - VERGE)
            for name, start, stop in (("left", ENTRANCE, -HALF_ROW - VERGE), ("right", HALF_ROW + VERGE, END)):
                half = (0.5 * (stop - start), depth, 0.45)
                block(f"{name}{side}", half, 0.5 * (start + stop), side * (DEPTH - depth), HEDGE)
            if world.visual:
                world.compound(f"lines{side}", _markings(side), (0.0, side * 0.5 * AISLE, 0.0), color=PAINT)
        self._goal = None
        if world.visual:
            patch = Box((0.5 * BAY_WIDTH - 0.1, 0.5 * BAY_LENGTH - 0.1, 0.003), (0.0, 0.0, 0.003), solid=False)
            self._goal = world.compound("goal", [patch], color=GOAL)
        self.cars = [
            world.compound(f"car{i}", _car(), (8.0 * i, 0.0, PARKED_Z), color=PAINTS[i % len(PAINTS)], scenery=True)
            for i in range(len(BAYS) - 1)
        ]
        self.obstacles = [(body, math.hypot(*half[:2])) for body, half in solid]
        self.obstacles += [(car, math.hypot(*CAR_HALF[:2])) for car in self.cars]

    def arrange(self, rng: np.random.Generator, target: Bay, untidiness: float) -> None:
        """Fills bays other than `target`; `untidiness` from 0 to 1 is how inexactly people have parked."""
        draws = rng.uniform(-1.0, 1.0, (len(BAYS), 5)).tolist()
        cars = iter(self.cars)
        for bay, (taken, aside, along, askew, way) in zip(BAYS, draws, strict=True):
            neighbour = bay.side == target.side and abs(bay.x - target.x) < 1.5 * BAY_WIDTH
            if bay == target or not (neighbour or 0.5 * (taken + 1.0) < TAKEN):
                continue
            x = bay.x + untidiness * ASIDE * aside
            y = bay.y + untidiness * ALONG * along
            half = 0.5 * (bay.yaw + untidiness * ASKEW * askew + (math.pi if way < 0.0 else 0.0))
            next(cars).place((x, y, CAR_HEIGHT), (0.0, 0.0, math.sin(half), math.cos(half)))
        for i, car in enumerate(cars):
            car.place((8.0 * i, 0.0, PARKED_Z))
        if self._goal is not None:
            self._goal.place((target.x, target.y, 0.0))
