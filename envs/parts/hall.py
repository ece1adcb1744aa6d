"""A logistics hall: walls, shelving, free-standing racks, pallets, and carts that shuttle between them.

Everything stands on the floor and is solid from there to above the scanning plane of a robot, and at least 0.6 m wide:
what a robot can hit, its scanner sees. The layout of an episode is drawn by `Hall.arrange`.

A way always exists: any two obstacles, and any obstacle and a wall, are at least `GAP` apart. `GAP` exceeds the
diameter of the circle that a turning robot sweeps, so obstacles grown by that circle's radius do not touch each other
or the walls, and islands that do not touch leave the space between them connected. Carts pass through gaps and do not
wait in them: at an end of the lane, and before a robot, they turn round.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from physai_envs.world import Body, Box, Vector, World

HALF_X, HALF_Y = 7.0, 5.0  # m, inside of the walls
GAP = 1.4  # m, between obstacles; a robot of the MiR250's class sweeps 0.99 m
WALL_HEIGHT, WALL_THICKNESS = 1.1, 0.1  # m
RACK = (1.3, 0.45, 1.0)  # m, half extents of a shelf rack
PALLET = (0.6, 0.4, 0.55)  # m, half extents of a EUR pallet (EN 13698-1: 1.2 x 0.8 m) with its load
PALLET_TURN = math.radians(12.0)  # how far from straight people put pallets down
CART = (0.5, 0.3, 0.35)  # m, half extents of a transport cart
CART_ACCELERATION = 1.0  # m/s2
LANE_SIDE = 0.15  # m, free beside a cart's lane
LANE_MIN, LANE_MAX = 2.0, 8.0  # m, length of the way of a cart's centre
TRIES = 60  # places tried for each obstacle
PARKED_Z = -20.0  # m, under the floor

FLOOR: Vector = (0.66, 0.68, 0.70, 1.0)
WALL: Vector = (0.80, 0.82, 0.84, 1.0)
STEEL: Vector = (0.16, 0.30, 0.55, 1.0)
BEAM: Vector = (0.93, 0.45, 0.10, 1.0)
WOOD: Vector = (0.70, 0.52, 0.32, 1.0)
CARTONS: tuple[Vector, ...] = ((0.76, 0.60, 0.42, 1.0), (0.70, 0.54, 0.36, 1.0), (0.82, 0.67, 0.48, 1.0))
TOTES: tuple[Vector, ...] = ((0.25, 0.45, 0.70, 1.0), (0.55, 0.58, 0.62, 1.0), (0.75, 0.25, 0.22, 1.0))
CART_COLOR: Vector = (0.95, 0.75, 0.12, 1.0)


@dataclass(frozen=True)
class Rectangle:
    """An axis-parallel rectangle on the floor: centre and half extents [m]."""

    x: float
    y: float
    half_x: float
    half_y: float

    def gap(self, x: float, y: float, half_x: float = 0.0, half_y: float = 0.0) -> float:
        """Largest of the free distances along x and y to another rectangle [m]; never more than the true distance."""
        return max(abs(x - self.x) - self.half_x - half_x, abs(y - self.y) - self.half_y - half_y)


def _shelves(half: Vector, depth_at: float = 0.0) -> list[Box]:
    """What a rack looks like: four posts, beams, and goods on three levels, inside its half extents."""
    x, y, z = half
    boxes = [Box((0.04, 0.04, z), (sx * (x - 0.04), depth_at + sy * (y - 0.04), 0.0), color=STEEL, solid=False)
             for sx in (-1, 1) for sy in (-1, 1)]  # fmt: skip
    for level, (height, goods) in enumerate(((-z + 0.1, 3), (-z * 0.25, 3), (z * 0.4, 2))):
        boxes.append(Box((x - 0.04, y, 0.04), (0.0, depth_at, height), color=BEAM, solid=False))
        width = (x - 0.1) / goods
        for i in range(goods):
            color = (CARTONS if level != 1 else TOTES)[(i + level) % 3]
            tall = 0.5 * z * (0.40 + 0.12 * ((2 * i + level) % 3))
            at = ((2 * i + 1 - goods) * width, depth_at, height + 0.04 + tall)
            boxes.append(Box((width - 0.05, y - 0.06, tall), at, color=color, solid=False))
    return boxes


def _pallet() -> list[Box]:
    x, y, z = PALLET
    boxes = [Box(PALLET, (0.0, 0.0, 0.0), color=CARTONS[0])]
    boxes.append(Box((x + 0.004, y + 0.004, 0.072), (0.0, 0.0, -z + 0.072), color=WOOD, solid=False))
    for i, (sx, sy) in enumerate(((-1, -1), (1, -1), (-1, 1), (1, 1))):
        carton, at = (x / 2 - 0.01, y / 2 - 0.01, 0.22), (sx * x / 2, sy * y / 2, z - 0.2)
        boxes.append(Box(carton, at, color=CARTONS[(i + 1) % 3], solid=False))
    return boxes


def _cart() -> list[Box]:
    x, y, z = CART
    return [
        Box(CART, (0.0, 0.0, 0.0), color=TOTES[1]),
        Box((x + 0.005, y + 0.005, 0.12), (0.0, 0.0, -z + 0.17), color=CART_COLOR, solid=False),
        Box((0.28, 0.24, 0.16), (0.12, 0.0, z + 0.16), color=CARTONS[2], solid=False),
        Box((0.03, y, 0.45), (-x + 0.03, 0.0, z + 0.1), color=CART_COLOR, solid=False),
    ]


def _build_walls(world: World) -> None:
    """Floor and four walls; where somebody looks, shelving behind the far one."""
    floor = Box((HALF_X + 1.0, HALF_Y + 3.0, 0.5), (0.0, 0.0, -0.5))
    world.compound("floor", [floor], color=FLOOR, scenery=True)  # every ray would test a plane, no ray tests a slab
    t, h = WALL_THICKNESS, WALL_HEIGHT / 2
    for side in (-1, 1):  # four bodies: a single one would be near to everything, and be tested by every ray
        world.box(f"wall_y{side}", (HALF_X + 2 * t, t, h), (0.0, side * (HALF_Y + t), h), color=WALL, scenery=True)
        world.box(f"wall_x{side}", (t, HALF_Y, h), (side * (HALF_X + t), 0.0, h), color=WALL, scenery=True)
    if world.visual:
        half = (HALF_X / 4, 0.4, 1.2)
        for i in range(4):
            at = ((2 * i - 3) * HALF_X / 4, HALF_Y + 2 * WALL_THICKNESS + half[1], half[2])
            world.compound(f"shelving{i}", _shelves(half), at)


@dataclass
class Cart:
    """A cart that shuttles along a straight lane. Kinematic: moved by its velocity, which no contact changes.

    Attributes:
        low, high: ends of the lane [m], along x or along y; `across` is its place on the other axis.
        along: where its centre is on the lane [m], integrated from its velocity as the engine does.
        speed: when it does not turn round [m/s]; `velocity` and `direction` (1 or -1) are along the lane.
    """

    body: Body
    low: float = 0.0
    high: float = 0.0
    along_x: bool = True
    across: float = 0.0
    along: float = 0.0
    speed: float = 0.0
    velocity: float = 0.0
    direction: float = 1.0
    active: bool = False

    def drive(self, robot: Sequence[float], keep: float, scan: float, dt: float) -> None:
        """Chooses its velocity for one control step: turns round at the ends of the lane and before a robot.

        Args:
            robot: position of the robot (x, y, ...) [m].
            keep: radius around the robot's middle that belongs to the robot [m].
            scan: free distance that it wants ahead, besides its braking distance [m].
            dt: control period [s].
        """
        s, way = self.along, self.direction
        ahead, aside = (robot[0], robot[1]) if self.along_x else (robot[1], robot[0])
        reach = CART[0] + keep
        braking = 0.5 * self.speed**2 / CART_ACCELERATION + self.speed * dt
        left = self.high - s if way > 0.0 else s - self.low
        blocked = abs(aside - self.across) < CART[1] + keep and 0.0 < (ahead - s) * way < reach + scan + braking
        if blocked or left < braking:
            self.direction = way = -way
        change = CART_ACCELERATION * dt
        velocity = self.velocity + min(change, max(-change, way * self.speed - self.velocity))
        if velocity != self.velocity:
            self.velocity = velocity
            self.body.set_velocity((velocity, 0.0, 0.0) if self.along_x else (0.0, velocity, 0.0))
        self.along = s + velocity * dt


class Hall:
    """The hall and its pools of racks, pallets and carts."""

    def __init__(self, world: World, *, racks: int, pallets: int, carts: int) -> None:
        _build_walls(world)

        def pool(name: str, count: int, boxes: list[Box]) -> list[Body]:
            at = [(3.0 * i, float(len(name)), PARKED_Z) for i in range(count)]
            return [world.compound(f"{name}{i}", boxes, at[i], scenery=name != "cart") for i in range(count)]

        self.racks = pool("rack", racks, [Box(RACK, (0.0, 0.0, 0.0), seen=False), *_shelves(RACK)])
        self.pallets = pool("pallet", pallets, _pallet())
        self.carts = [Cart(body) for body in pool("cart", carts, _cart())]
        self.obstacles: list[Rectangle] = []
        self.lanes: list[Rectangle] = []

    def arrange(self, rng: np.random.Generator, *, racks: int, pallets: int, carts: int, cart_speed: float) -> None:
        """Draws a layout: up to so many racks, pallets and carts, fewer where the hall is full.

        Args:
            rng: of the episode.
            racks: how many, at most those in the pool.
            pallets: how many, likewise.
            carts: how many, likewise.
            cart_speed: [m/s].
        """
        self.obstacles, self.lanes = [], []
        for body in self.racks[:racks]:
            self._put_down(body, rng, RACK, 0.0)
        for body in self.pallets[:pallets]:
            self._put_down(body, rng, PALLET, PALLET_TURN)
        for cart in self.carts:
            cart.active = False  # the world's reset has brought it to rest in its parking place
        for cart in self.carts[:carts]:
            self._give_lane(cart, rng, cart_speed)

    def _put_down(self, body: Body, rng: np.random.Generator, half: Vector, turn: float) -> None:
        for u, v, w, yaw in rng.uniform(-1.0, 1.0, (TRIES, 4)).tolist():
            angle = turn * yaw + (0.5 * math.pi if w < 0.0 else 0.0)
            c, s = abs(math.cos(angle)), abs(math.sin(angle))
            half_x, half_y = half[0] * c + half[1] * s, half[0] * s + half[1] * c
            x, y = u * (HALF_X - GAP - half_x), v * (HALF_Y - GAP - half_y)
            if all(other.gap(x, y, half_x, half_y) >= GAP for other in self.obstacles):
                self.obstacles.append(Rectangle(x, y, half_x, half_y))
                body.place((x, y, half[2]), (0.0, 0.0, math.sin(0.5 * angle), math.cos(0.5 * angle)))
                return

    def _give_lane(self, cart: Cart, rng: np.random.Generator, speed: float) -> None:
        strip = CART[1] + LANE_SIDE
        for u, v, w, place in rng.uniform(-1.0, 1.0, (TRIES, 4)).tolist():
            along_x = w < 0.0
            length, width = (HALF_X, HALF_Y) if along_x else (HALF_Y, HALF_X)
            s, across = u * (length - CART[0]), v * (width - strip)
            low, high = self._free_way(s, across, strip, along_x=along_x, end=length)
            spare = CART[0] + LANE_SIDE
            low, high = max(low + spare, s - LANE_MAX / 2), min(high - spare, s + LANE_MAX / 2)
            if high - low < LANE_MIN:
                continue
            cart.along_x, cart.low, cart.high, cart.across = along_x, low, high, across
            cart.speed, cart.velocity, cart.active = speed, 0.0, True
            cart.direction = 1.0 if place < 0.0 else -1.0
            cart.along = s = low + (high - low) * abs(place)
            middle, reach = 0.5 * (low + high), 0.5 * (high - low) + spare
            if along_x:
                self.lanes.append(Rectangle(middle, across, reach, strip))
                cart.body.place((s, across, CART[2]))
            else:
                self.lanes.append(Rectangle(across, middle, strip, reach))
                cart.body.place((across, s, CART[2]), (0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)))
            return

    def _free_way(self, s: float, across: float, strip: float, *, along_x: bool, end: float) -> tuple[float, float]:
        """Free interval of a lane around `s`, between walls, obstacles and other lanes; empty if `s` is taken [m]."""
        low, high = -end, end
        for other in (*self.obstacles, *self.lanes):
            at, aside = (other.x, other.y) if along_x else (other.y, other.x)
            half, half_aside = (other.half_x, other.half_y) if along_x else (other.half_y, other.half_x)
            if abs(across - aside) >= half_aside + strip:
                continue
            if abs(s - at) < half:
                return s, s
            if at < s:
                low = max(low, at + half)
            else:
                high = min(high, at - half)
        return low, high

    def free(self, x: float, y: float, clear: float) -> bool:
        """Whether a disc of radius `clear` [m] at (x, y) keeps out of walls, obstacles and lanes."""
        inside = abs(x) <= HALF_X - clear and abs(y) <= HALF_Y - clear
        return inside and all(other.gap(x, y) >= clear for other in (*self.obstacles, *self.lanes))

    def draw_free(
        self, rng: np.random.Generator, clear: float, around: Sequence[float] | None = None,
        low: float = 0.0, high: float = math.inf,
    ) -> Vector:  # fmt: skip
        """Draws a free place (x, y) [m], at `low` to `high` from `around`; the best of many where none is.

        Lanes count as taken, so a robot neither starts nor is sent where a cart passes.
        """
        best, least = (0.0, 0.0), math.inf
        for x, y in (rng.uniform(-1.0, 1.0, (4 * TRIES, 2)) * (HALF_X - clear, HALF_Y - clear)).tolist():
            away = math.dist((x, y), around) if around is not None else low
            miss = max(low - away, away - high, 0.0)
            if miss < least and self.free(x, y, clear):
                best, least = (x, y), miss
                if miss == 0.0:
                    break
        return best

    def drive(self, robot: Sequence[float], keep: float, scan: float, dt: float) -> None:
        """Drives every cart for one control step; see `Cart.drive`."""
        for cart in self.carts:
            if cart.active:
                cart.drive(robot, keep, scan, dt)
