"""A belt conveyor: it carries by friction whatever lies on it."""

from __future__ import annotations

from collections.abc import Sequence

from physai_envs.world import Body, Box, Vector, World

THICK = 0.01  # m, half the thickness of the belt
RAIL, RAIL_HEIGHT = 0.008, 0.012  # m, half the width of the side rails, and how far they stand above the belt
RUBBER, STEEL = (0.16, 0.17, 0.19, 1.0), (0.70, 0.73, 0.77, 1.0)


class Conveyor:
    """A belt along y whose top is at a height, between two rails.

    Bullet takes the velocity of a body that is not moved by forces for contacts, and moves it, too. So the belt is put
    back where it was in every control step, and then told its speed again, which being put back has cleared: parts feel
    a surface that moves and never ends.

    Args:
        world: the world.
        name: of the belt; its frame is ``<name>_frame``.
        half: half of width and length [m].
        top: middle of its upper side, world frame [m].
        friction: of the belt.
    """

    def __init__(self, world: World, name: str, half: tuple[float, float], top: Vector, friction: float = 0.8) -> None:
        x, y, z = top
        self._home = (x, y, z - THICK)
        self.body: Body = world.box(name, (*half, THICK), self._home, color=RUBBER, friction=friction)
        side = half[0] + RAIL
        level = 0.5 * (RAIL_HEIGHT - 2 * THICK)
        boxes = [
            Box((RAIL, half[1], 0.5 * (RAIL_HEIGHT + 2 * THICK)), (sign * side, 0.0, level)) for sign in (-1.0, 1.0)
        ]
        legs = _legs(half, z)
        world.compound(f"{name}_frame", [*boxes, *legs], top, color=STEEL, friction=0.3, scenery=True)
        self.speed = 0.0

    def run(self, speed: float) -> None:
        """Runs with a speed along y [m/s] for the next control step."""
        self.speed = speed
        self.body.place(self._home)
        self.body.set_velocity((0.0, speed, 0.0))


def _legs(half: Sequence[float], height: float) -> list[Box]:
    """Four legs that are only looked at."""
    leg = 0.5 * (height - 2 * THICK)
    return [
        Box((0.015, 0.015, leg), (sx * half[0], sy * 0.8 * half[1], -leg - 2 * THICK), solid=False)
        for sx in (-1.0, 1.0)
        for sy in (-1.0, 1.0)
    ]
