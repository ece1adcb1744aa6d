"""The table that the arm stands on and works at; its top is z = 0, the base of the arm at the origin."""

from __future__ import annotations

from physai_envs.world import Body, World

HALF = (0.5, 0.5, 0.2)  # m
CENTRE = (0.35, 0.0, -0.2)  # m: from 15 cm behind the arm to the end of its reach of 0.855 m
WOOD = (0.82, 0.78, 0.72, 1.0)


def add_table(world: World, friction: float = 0.5) -> Body:
    """Adds the table."""
    return world.box("table", HALF, CENTRE, color=WOOD, friction=friction)
