"""Uneven ground: domes, logs and slabs that are buried in the floor to other depths and in other places each episode.

A fixed pool of shapes and no height field: wheels and feet meet Bullet's exact primitives, a step costs hardly more
than on the flat, and placing the shapes again leaks nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from physai_envs.engine import NO_ROTATION, Vector
from physai_envs.geometry import rotate, rotate_back
from physai_envs.world import Body, World, quaternion_from_euler

DOME_RADIUS = (0.25, 0.35, 0.5, 0.7)  # m, of the spheres whose caps are seen
LOG_RADIUS, LOG_LENGTH = (0.15, 0.25, 0.4), 0.7  # m
SLAB = (0.3, 0.25, 0.1)  # m, half extents
SLAB_TILT = 0.07  # rad, of a slab about each of its edges, at most
SLAB_SHARE = 0.5  # of the height of the others, at the middle of a slab: its edges are steps
LOWEST = 0.3  # share of the largest height that the lowest shape has
PARKED = (0.0, 0.0, -20.0)  # m
EARTH, BARK, STONE = (0.56, 0.50, 0.40, 1.0), (0.45, 0.33, 0.22, 1.0), (0.62, 0.63, 0.65, 1.0)


@dataclass
class Mound:
    """One buried shape. `kind` is dome, log or slab; `radius` is 0 for a slab [m]."""

    body: Body
    kind: str
    radius: float = 0.0
    at: Vector = PARKED
    turned: Vector = NO_ROTATION

    def place(self, at: Vector, turned: Vector = NO_ROTATION) -> None:
        """Puts the middle of the shape at `at` [m]; a log lies along the y axis of `turned`, a quaternion."""
        self.at, self.turned = at, turned
        lying = quaternion_from_euler((0.5 * math.pi, 0.0, 0.0))
        self.body.place(at, turned if self.kind != "log" else _times(turned, lying))

    def height(self, x: float, y: float) -> float:
        """Height of its surface over a point of the floor [m]; minus infinity beside it."""
        cx, cy, cz = self.at
        if self.kind == "dome":
            rest = self.radius**2 - (x - cx) ** 2 - (y - cy) ** 2
            return cz + math.sqrt(rest) if rest > 0.0 else -math.inf
        if self.kind == "log":
            across, along, _ = rotate_back(self.turned, (x - cx, y - cy, 0.0))
            inside = abs(across) < self.radius and abs(along) < 0.5 * LOG_LENGTH
            return cz + math.sqrt(self.radius**2 - across**2) if inside else -math.inf
        nx, ny, nz = rotate(self.turned, (0.0, 0.0, 1.0))
        z = cz + (SLAB[2] - nx * (x - cx) - ny * (y - cy)) / nz
        a, b, _ = rotate_back(self.turned, (x - cx, y - cy, z - cz))
        return z if abs(a) < SLAB[0] and abs(b) < SLAB[1] else -math.inf


def _times(a: Vector, b: Vector) -> Vector:
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by, aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw, aw * bw - ax * bx - ay * by - az * bz,
    )  # fmt: skip


class Terrain:
    """A pool of mounds.

    Args:
        world: the world, with a floor at z = 0.
        domes, logs, slabs: how many there are of each.
        friction: of their surfaces.
    """

    def __init__(self, world: World, *, domes: int, logs: int = 0, slabs: int = 0, friction: float = 0.8) -> None:
        self.mounds: list[Mound] = []
        for i in range(domes):
            radius = DOME_RADIUS[i % len(DOME_RADIUS)]
            body = world.dome(f"dome{i}", radius, PARKED, color=EARTH, friction=friction)
            self.mounds.append(Mound(body, "dome", radius))
        for i in range(logs):
            radius = LOG_RADIUS[i % len(LOG_RADIUS)]
            body = world.cylinder(f"log{i}", radius, LOG_LENGTH, PARKED, color=BARK, friction=friction, scenery=True)
            self.mounds.append(Mound(body, "log", radius))
        for i in range(slabs):
            body = world.box(f"slab{i}", SLAB, PARKED, color=STONE, friction=friction, scenery=True)
            self.mounds.append(Mound(body, "slab"))

    def arrange(
        self, rng: np.random.Generator, low: Vector, high: Vector, height: float, *, clear: float = 0.0
    ) -> None:
        """Strews all mounds over a rectangle of the floor, evenly along x, none higher than `height` [m].

        Args:
            rng: of the episode.
            low: corner of the rectangle with the smallest x and y [m], (2,).
            high: the opposite corner [m], (2,).
            height: of the highest mounds [m]; with 0 the ground is flat.
            clear: radius around the origin in which the middle of no mound lies [m].
        """
        n = len(self.mounds)
        draws = rng.random((n, 4))
        for mound, slot, (u, v, w, t) in zip(self.mounds, rng.permutation(n), draws.tolist(), strict=True):
            if height <= 0.0:
                mound.place(PARKED)
                continue
            x, y = low[0] + (slot + u) / n * (high[0] - low[0]), low[1] + v * (high[1] - low[1])
            if (away := math.hypot(x, y)) < clear:
                x, y = x * clear / away, y * clear / away
            top = height * (LOWEST + (1.0 - LOWEST) * w)
            if mound.kind == "dome":
                mound.place((x, y, top - mound.radius))
            elif mound.kind == "log":
                mound.place((x, y, top - mound.radius), quaternion_from_euler((0.0, 0.0, (t - 0.5) * 1.2)))
            else:
                tilt = (t - 0.5) * 2.0 * SLAB_TILT
                turned = quaternion_from_euler((tilt, (u - 0.5) * 2.0 * SLAB_TILT, (v - 0.5) * 1.2))
                mound.place((x, y, SLAB_SHARE * top - SLAB[2]), turned)

    def height(self, x: float, y: float) -> float:
        """Height of the ground [m]."""
        return max(0.0, max((mound.height(x, y) for mound in self.mounds), default=0.0))
