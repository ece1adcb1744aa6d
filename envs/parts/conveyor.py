"""A belt conveyor: it carries by friction whatever lies on it."""

from __future__ import annotations

from physai_envs.world import Body, Box, Vector, World

THICK = 0.01  # m, half the thickness of the belt
STROKE = 0.05  # m, of the belt before it is put back; it reaches that much farther than it looks
RAIL, RAIL_HEIGHT = 0.008, 0.012  # m, half the width of the side rails, and how far they stand above the belt
RUBBER, STEEL = (0.16, 0.17, 0.19, 1.0), (0.70, 0.73, 0.77, 1.0)


class Conveyor:
    """A belt along y whose top is at a height, between two rails.

    Bullet takes the velocity of a body that no force moves for its contacts, and moves it, too. So the belt travels,
    and every `STROKE` it is put back: parts feel a surface that moves and never ends. Put back in every control step,
    contacts never settled, and boxes sank by 0.5 mm, tilted by a degree and drifted sideways at 1.5 mm/s.

    Args:
        world: the world.
        name: of the belt; its frame is ``<name>_frame``.
        half: half of width and length [m].
        top: middle of its upper side, world frame [m].
        friction: of the belt.
    """

    def __init__(self, world: World, name: str, half: tuple[float, float], top: Vector, friction: float = 0.8) -> None:
        x, y, z = top
        self._home = (x, y - 0.5 * STROKE, z - THICK)
        belt = Box((*half, THICK), (0.0, 0.0, 0.0), seen=False)
        core = Box((0.9 * half[0], half[1] - STROKE, 0.5 * THICK), (0.0, 0.0, 0.0), solid=False)  # the frame hides it
        self.body: Body = world.compound(name, [belt, core], self._home, friction=friction)
        tall = 0.5 * (RAIL_HEIGHT + 2 * THICK)
        boxes = [Box((RAIL, half[1], tall), (sign * (half[0] + RAIL), 0.0, RAIL_HEIGHT - tall)) for sign in (-1.0, 1.0)]
        boxes.append(Box((*half, THICK), (0.0, 0.0, -THICK), color=RUBBER, solid=False))
        leg = 0.5 * (z - 2 * THICK)
        for along in (-0.8, 0.8):
            boxes.append(Box((half[0], 0.015, leg), (0.0, along * half[1], -2 * THICK - leg), solid=False))
        world.compound(f"{name}_frame", boxes, top, color=STEEL, friction=0.3, scenery=True)
        self.speed = 0.0

    def start(self, speed: float) -> None:
        """Puts the belt back and runs it with a speed along y [m/s]; call it at each reset."""
        self.speed = speed
        self.body.place(self._home)
        self.body.set_velocity((0.0, speed, 0.0))

    def run(self, speed: float) -> None:
        """Runs with a speed along y [m/s] for the next control step."""
        if abs(self.body.position[1] - self._home[1]) > STROKE:
            self.start(speed)
        elif speed != self.speed:
            self.speed = speed
            self.body.set_velocity((0.0, speed, 0.0))
