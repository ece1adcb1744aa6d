"""A 300 mm wafer that lies where it is put by friction alone, the fork that carries it, and the station it is put on.

Wafer: SEMI M1, 300 mm diameter, 0.775 mm thick, 0.128 kg. It collides, and is drawn, 4 mm thick: Bullet pushes a
thinner disc off its pads, 0.8 mm slipped by 1 mm at rest. Friction of pads and pins is 1 and that of the wafer counts,
since Bullet multiplies the two.
"""

from __future__ import annotations

from collections.abc import Sequence

from physai_envs.geometry import rotate
from physai_envs.world import Body, Box, World

PADS = ((-0.125, 0.0), (0.091, 0.07), (0.091, -0.07))  # m, of the fork, from its centre
PAD_HALF, PAD_HEIGHT = 0.006, 0.002  # m; of a pad, and how far it stands out of the blade
FORK_MASS = (
    0.06  # kg; most of its mass is counted with the hand, whose motor would not hold a fork of 0.3 kg in 20 iterations
)
RADIUS, THICKNESS, MASS = 0.15, 0.004, 0.128  # m, m, kg
PINS = ((0.10, 0.0), (-0.06, 0.115), (-0.06, -0.115))  # m, from the centre; the tines pass between them
PIN_HALF, PIN_LENGTH = 0.004, 0.045  # m
OPENING = 0.175  # m, half of the way between the side walls: 25 mm more than the wafer on each side
DEPTH = (-0.13, 0.175)  # m, from the front edge of the side walls to the rear wall
WALL, RIM = 0.006, 0.03  # m, half the thickness of a wall; height of its top above the pins
BLADE = 0.002  # m, half the thickness of the fork
SILICON, CERAMIC, PAD = (0.36, 0.42, 0.60, 1.0), (0.97, 0.93, 0.84, 1.0), (0.12, 0.12, 0.13, 1.0)
SHELL, INSIDE, PIN = (0.80, 0.83, 0.87, 1.0), (0.33, 0.37, 0.43, 1.0), (0.96, 0.62, 0.18, 1.0)


def add_wafer(world: World, name: str) -> Body:
    """Adds a wafer; the centre of its mass is half its thickness above its underside."""
    return world.cylinder(name, RADIUS, THICKNESS, mass=MASS, color=SILICON)


def add_fork(world: World, name: str) -> Body:
    """Adds a fork whose origin is where the middle of a wafer's underside should be; x points away from the hand.

    Bolt it to the hand of a robot by `world.attach`. As a link of the arm it would lose the wafer: within a step,
    Bullet moves a free body straight and a link along its arc, which friction does not see, and the wafer crept outward
    by 1.4 mm for each second of swinging at 1.4 rad/s. Two bodies that both move freely do not drift apart.
    """
    pads = [Box((PAD_HALF, PAD_HALF, PAD_HEIGHT / 2), (x, y, -PAD_HEIGHT / 2), color=PAD) for x, y in PADS]
    blade = -PAD_HEIGHT - BLADE
    tines = [Box((0.12, 0.015, BLADE), (-0.005, side * 0.07, blade)) for side in (-1.0, 1.0)]
    bridge = Box((0.02, 0.085, BLADE), (-0.14, 0.0, blade))
    palm = Box((0.075, 0.05, BLADE), (-0.225, 0.0, blade), solid=False)
    return world.compound(name, [*pads, *tines, bridge, palm], mass=FORK_MASS, color=CERAMIC, friction=1.0)


def add_station(world: World, name: str) -> Body:
    """Adds a station whose origin is where the middle of a wafer's underside should be; x points into it.

    Three pins carry the wafer; a floor, two side walls and a rear wall stand around it.
    """
    low = -PIN_LENGTH
    front, back = DEPTH
    middle, half = 0.5 * (front + back), 0.5 * (back - front)
    height, level = 0.5 * (RIM - low), 0.5 * (RIM + low)
    pins = [Box((PIN_HALF, PIN_HALF, PIN_LENGTH / 2), (x, y, low / 2), color=PIN) for x, y in PINS]
    walls = [Box((half, WALL, height), (middle, side * (OPENING + WALL), level), color=SHELL) for side in (-1.0, 1.0)]
    walls.append(Box((WALL, OPENING + 2 * WALL, height), (back + WALL, 0.0, level), color=SHELL))
    floor = Box((half, OPENING, WALL), (middle, 0.0, low - WALL), color=INSIDE)
    stand = Box((0.08, 0.08, 0.16), (0.03, 0.0, low - 2 * WALL - 0.16), color=SHELL, solid=False)
    return world.compound(name, [*pins, *walls, floor, stand], friction=1.0, scenery=True)


def tilt(wafer: Body) -> float:
    """Sine of the slope of a wafer."""
    x, y, _ = rotate(wafer.orientation, (0.0, 0.0, 1.0))
    return float((x * x + y * y) ** 0.5)


def touches_wall(world: World, wafer: Body, stations: Sequence[Body]) -> bool:
    """Whether the edge of the wafer pressed on a wall of one of the stations in the last physics step."""
    walls = [station.id for station in stations]
    near = RADIUS - 0.01  # m, farther out than any pin
    x, y, _ = wafer.position
    return any(
        point[2] in walls and point[9] > 0.0 and (point[5][0] - x) ** 2 + (point[5][1] - y) ** 2 > near * near
        for point in world.contacts(wafer)
    )
