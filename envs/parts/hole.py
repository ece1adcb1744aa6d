"""Fixture with a round hole, made of boxes so that contacts are exact.

Bullet inflates convex hulls by 1 mm and is slow and unsound on concave meshes; a ring of boxes has neither fault. The
inscribed circle of the ring is the hole, so its clearance is that of the flats, and slightly more in the corners.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from math import cos, hypot, pi, sin, tan

from physai_envs.robot import write
from physai_envs.world import Body, Box, World

SIDES = 16  # boxes of the ring, Bullet's limit for one shape
WALL = 0.012  # m, thickness of the ring
ROUNDING = (
    0.0001  # m, of a chamfer's edges; Bullet's 1 mm is more than half of a slope, which then sticks out by 0.5 mm
)


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


def add_chamfered_hole(world: World, name: str, radius: float, depth: float, chamfer: float) -> Body:
    """Adds a hole as `add_hole` does, whose mouth is widened by a chamfer of 45 degrees, `chamfer` [m] wide and deep.

    A side is three boxes: the wall below the chamfer, its slope, and the flat around it. They are one body.
    """
    robot = ElementTree.Element("robot", name=name)
    link = ElementTree.SubElement(robot, "link", name="hole")
    colour = ElementTree.SubElement(robot, "material", name="blue")
    ElementTree.SubElement(colour, "color", rgba="0.25 0.45 0.7 1")
    slope, thick = hypot(chamfer, chamfer), WALL / 2
    back = thick / 2 / 2**0.5
    width = 2 * (radius + WALL) * tan(pi / SIDES)
    flat = WALL - chamfer
    parts = (  # radius and height of the middle, pitch, size
        (radius + WALL / 2, -(depth + chamfer) / 2, 0.0, (WALL, width, depth - chamfer)),
        (radius + chamfer / 2 + back, -chamfer / 2 - back, -pi / 4, (slope, width, thick)),
        (radius + chamfer + flat / 2, -depth / 2, 0.0, (flat, width, depth)),
    )
    for angle in (2 * pi * i / SIDES for i in range(SIDES)):
        for at, height, pitch, size in parts:
            for kind in ("collision", "visual"):
                part = ElementTree.SubElement(link, kind)
                xyz, rpy = (at * cos(angle), at * sin(angle), height), (0.0, pitch, angle)
                ElementTree.SubElement(part, "origin", xyz=_text(xyz), rpy=_text(rpy))
                ElementTree.SubElement(ElementTree.SubElement(part, "geometry"), "box", size=_text(size))
                if kind == "visual":
                    ElementTree.SubElement(part, "material", name="blue")
    ElementTree.indent(robot)  # Bullet breaks lines longer than 8192 characters, wherever that is
    body = world.load(name, write(robot, name, visual=world.visual), fixed=True)
    body.set_dynamics(collisionMargin=ROUNDING)
    return body


def _text(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{v:.9f}" for v in numbers)
