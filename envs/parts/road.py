"""A country road of straights and curves, each curve entered and left by a clothoid as real roads are laid out.

Its line is the middle of the lane for the right-hand traffic. The road never turns by more than `MOST_TURNED` from the
x axis, so that it does not meet itself.

Sources: easement curves and speeds: German guideline for rural roads RAL, 2012, and for low design speeds AASHTO, "A
Policy on Geometric Design of Highways and Streets", 2018, chapter 3.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from physai_envs.world import Body, Box, Vector, World

LANE = 3.5  # m, width of a lane
STEP = 0.5  # m, between two points of the line; a chord of a curve of 20 m is 1.6 mm beside it
RUN_OUT = 80.0  # m, straight behind the end, for somebody who looks ahead
STRAIGHT = (10.0, 50.0)  # m
TURN = (math.radians(15.0), math.radians(110.0))  # of a curve
MOST_TURNED = math.radians(80.0)
WIDEST = 250.0  # m, radius of the gentlest curve
LIMIT = 25.0  # m/s, on straights: 90 km/h
COMFORT = 2.5  # m/s2, lateral acceleration that the limits leave in curves
JERK = 1.5  # m/s3, lateral, on a clothoid at the speed of its curve
GAIN, BRAKE = 1.2, 1.5  # m/s2, by which the limit may rise and fall along the road
SEARCHES = 3  # steps of the search for the foot of a point; each squares what is left of the error

TILE = 2.5  # m, of road that one body shows
TILES = 60  # shown at once; a multiple of the periods of dashes, posts and trees
BEHIND = 3  # tiles behind the watched car
MEADOW = 80.0  # m, half the edge of the grass around it
ASPHALT: Vector = (0.33, 0.34, 0.36, 1.0)
GRASS: Vector = (0.42, 0.58, 0.30, 1.0)
PAINT: Vector = (0.95, 0.95, 0.93, 1.0)
TRUNK: Vector = (0.38, 0.27, 0.18, 1.0)
LEAVES: tuple[Vector, ...] = ((0.20, 0.42, 0.18, 1.0), (0.27, 0.48, 0.20, 1.0), (0.16, 0.36, 0.20, 1.0))


def _knots(rng: np.random.Generator, length: float, tightest: float) -> tuple[list[float], list[float]]:
    """Draws where the curvature bends (s) and what it is there; linear in between."""
    at, curvature, turned = [0.0, float(rng.uniform(*STRAIGHT))], [0.0, 0.0], 0.0
    while at[-1] < length:
        radius = math.exp(rng.uniform(math.log(tightest), math.log(WIDEST)))
        speed = min(LIMIT, math.sqrt(COMFORT * radius))
        easement = speed**3 / (radius * JERK)
        angle = max(float(rng.uniform(*TURN)) * min(1.0, 60.0 / radius), easement / radius)
        side = 1.0 if rng.random() < 0.5 else -1.0
        if abs(turned + side * angle) > MOST_TURNED:
            side = -math.copysign(1.0, turned)
            angle = min(angle, max(MOST_TURNED + abs(turned), easement / radius))
        arc = (angle - easement / radius) * radius
        straight = float(rng.uniform(*STRAIGHT)) if rng.random() < 0.5 else 0.0  # else one curve follows the other
        for way, bend in ((easement, side / radius), (arc, side / radius), (easement, 0.0), (straight, 0.0)):
            at.append(at[-1] + way)
            curvature.append(bend)
        turned += side * angle
    return at, curvature


class Road:
    """One road, by points every half metre.

    Args:
        rng: of the episode.
        length: from start to finish [m]; what lies behind is straight.
        tightest: smallest radius [m].

    Attributes:
        curvature: at each point [1/m], positive to the left.
        limits: speed limit at each point [m/s]: 2.5 m/s2 across in curves, and with room to brake before them.
    """

    def __init__(self, rng: np.random.Generator, length: float, tightest: float) -> None:
        self.length = length
        s = np.arange(0.0, length + RUN_OUT, STEP)
        curvature = np.interp(s, *_knots(rng, length, tightest))
        squares = np.minimum(LIMIT**2, COMFORT / np.maximum(np.abs(curvature), 1e-6))  # as if it went on like that
        curvature *= np.clip((length + 20.0 - s) / 20.0, 0.0, 1.0)  # straightens behind the end
        turns = 0.5 * STEP * (curvature[1:] + curvature[:-1])
        heading = np.concatenate(([0.0], np.cumsum(turns)))
        middle = 0.5 * (heading[1:] + heading[:-1])
        chord = STEP * np.sinc(turns / (2.0 * math.pi))
        self._x = np.concatenate(([0.0], np.cumsum(chord * np.cos(middle)))).tolist()
        self._y = np.concatenate(([0.0], np.cumsum(chord * np.sin(middle)))).tolist()
        self._heading: list[float] = heading.tolist()
        self.curvature: list[float] = curvature.tolist()
        self.limits: list[float] = np.sqrt(_reachable(squares)).tolist()
        self._last = len(s) - 2

    def _index(self, s: float) -> tuple[int, float]:
        position = min(s / STEP, self._last + 1.0)
        index = min(max(int(position), 0), self._last)
        return index, position - index  # before the start, the straight goes on backwards

    def point(self, s: float) -> tuple[float, float, float]:
        """Position and heading of the line at `s` [m]: (x, y, heading) [m, rad]."""
        i, part = self._index(s)
        x, y, heading = self._x, self._y, self._heading
        return (
            x[i] + part * (x[i + 1] - x[i]),
            y[i] + part * (y[i + 1] - y[i]),
            heading[i] + part * (heading[i + 1] - heading[i]),
        )

    def value(self, values: list[float], s: float) -> float:
        """Value of `curvature` or `limits` at `s` [m]."""
        i, part = self._index(s)
        return values[i] + part * (values[i + 1] - values[i])

    def locate(self, x: float, y: float, near: float) -> tuple[float, float, float]:
        """Finds the foot of a point on the line, from `near` [m]: (s, offset to the left, heading there) [m, rad]."""
        s = near
        for _ in range(SEARCHES):
            foot_x, foot_y, heading = self.point(s)
            cos, sin = math.cos(heading), math.sin(heading)
            dx, dy = x - foot_x, y - foot_y
            offset = cos * dy - sin * dx
            s += (cos * dx + sin * dy) / max(1.0 - self.value(self.curvature, s) * offset, 0.2)
        foot_x, foot_y, heading = self.point(s)
        return s, math.cos(heading) * (y - foot_y) - math.sin(heading) * (x - foot_x), heading


def _reachable(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared limits that a car can keep which speeds up by `GAIN` and slows down by `BRAKE` [m2/s2]."""
    steps = np.arange(len(squares)) * STEP
    rising = np.minimum.accumulate(squares - 2.0 * GAIN * steps) + 2.0 * GAIN * steps
    back = rising[::-1]
    falling = np.minimum.accumulate(back - 2.0 * BRAKE * steps) + 2.0 * BRAKE * steps
    return np.asarray(falling[::-1])


def _tile(i: int) -> list[Box]:
    half = 0.5 * TILE + 0.25  # overlaps the next one where the road bends

    def strip(width: float, y: float, z: float, color: Vector) -> Box:
        return Box((half, 0.5 * width, 0.01), (0.0, y, z), color=color, solid=False)

    centre, edge = 0.5 * LANE, 0.5 * LANE - 0.12
    boxes = [
        strip(2.0 * LANE + 0.6, centre, -0.03, ASPHALT),
        strip(0.12, -edge, 0.0, PAINT),
        strip(0.12, 2.0 * centre + edge, 0.0, PAINT),
    ]
    if i % 3 == 0:
        boxes.append(strip(0.12, centre, 0.0, PAINT))
    if i % 10 == 0:
        boxes += [Box((0.06, 0.06, 0.5), (0.0, y, 0.5), color=PAINT, solid=False) for y in (-2.6, 2 * LANE - 0.9)]
    if i % 4 == 1:
        away = (-7.0 - 3.0 * (i % 3), 11.5 + 3.0 * (i % 3))[(i // 4) % 2]
        tall = 1.5 + 0.3 * (i % 5)
        boxes += [
            Box((0.15, 0.15, 0.8), (0.0, away, 0.7), color=TRUNK, solid=False),
            Box((1.1, 1.1, 0.5 * tall), (0.0, away, 1.4 + 0.5 * tall), color=LEAVES[i % 3], solid=False),
            Box((0.7, 0.7, 0.4), (0.0, away, 1.8 + tall), color=LEAVES[i % 3], solid=False),
        ]
    return boxes


class RoadTiles:
    """What somebody who watches sees of the road: tiles without collision that keep up with a car."""

    def __init__(self, world: World) -> None:
        self._tiles: list[Body] = [world.compound(f"tile{i}", _tile(i)) for i in range(TILES)] if world.visual else []
        if world.visual:  # strips of grass would gape on the outside of curves
            self._grass = world.compound(
                "grass", [Box((MEADOW, MEADOW, 0.01), (0.0, 0.0, -0.10), solid=False)], color=GRASS
            )
        self.reset()

    def reset(self) -> None:
        """Forgets the last road."""
        self._shown: list[int | None] = [None] * TILES  # number of the tile that each body is; some are negative

    def show(self, road: Road, s: float) -> None:
        """Puts down the tiles around `s` [m]."""
        first = int(s / TILE) - BEHIND
        if self._tiles:
            self._grass.place((*road.point(s)[:2], 0.0))
        for number in range(first, first + TILES) if self._tiles else ():
            if self._shown[number % TILES] != number:
                self._shown[number % TILES] = number
                x, y, heading = road.point(number * TILE)
                self._tiles[number % TILES].place((x, y, 0.0), (0.0, 0.0, math.sin(heading / 2), math.cos(heading / 2)))
