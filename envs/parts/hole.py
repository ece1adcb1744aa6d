"""Fixture with a round hole, made of boxes so that contacts are exact.

Bullet inflates convex hulls by 1 mm and is slow and unsound on concave meshes; a ring of boxes has neither fault. The
inscribed circle of the ring is the hole, so its clearance is that of the flats, and slightly more in the corners.
"""

from __future__ import annotations

from math import cos, pi, sin, tan

from physai_envs.world import Body, Box, World

SIDES = 16  # boxes of the ring, Bullet's limit for one shape
WALL = 0.012  # m, thickness of the ring


def add_hole(world: World, name: str, radius: float, depth: float, friction: float = 0.3) -> Body:
    """Adds a fixture whose origin is the centre of the hole's mouth; the hole goes down by `depth` [m].

    Args:
        world: where to add it.
        name: of the body.
        radius: of the inscribed circle [m].
        depth: [m].
        friction: of its surface.
    """
    half_width = (radius + WALL) * tan(pi / SIDES)
    at = radius + WALL / 2
    ring = [
        Box(
            half=(WALL / 2, half_width, depth / 2),
            at=(at * cos(angle), at * sin(angle), -depth / 2),
            yaw=angle,
        )
        for angle in (2 * pi * i / SIDES for i in range(SIDES))
    ]
    return world.compound(name, ring, color=(0.25, 0.45, 0.7, 1.0), friction=friction)
