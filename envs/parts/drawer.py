"""A chest whose top drawer slides: a prismatic joint with Coulomb friction, and a bar handle to grip.

Friction of the rails is a velocity motor with the target 0: it brakes with at most the friction force, and holds the
drawer while less than that pulls on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from physai_envs.robot import parse, write
from physai_envs.world import Body, Vector, World

URDF = "furniture/drawer.urdf"
TRAVEL = 0.25  # m, until the stop
STANDOFF = 0.045  # m, of the middle of the bar from the front
HANDLE_HEIGHT = 0.65  # m, of the bar above the foot of the chest
BARS = (0.010, 0.014, 0.018)  # m, thickness of the handles that there are
PARKED_Z = -20.0  # m, under the floor


def _with_bar(thickness: float, *, visual: bool) -> Path:
    chest = parse(URDF)
    for shape in chest.iter():
        if shape.get("name") == "bar":
            box = shape.find("geometry/box")
            _, length, _ = box.get("size", "").split()  # type: ignore[union-attr]
            box.set("size", f"{thickness} {length} {thickness}")  # type: ignore[union-attr]
    return write(chest, "drawer", visual=visual)


class Drawer:
    """Chests with different handles, of which one is there in an episode.

    Attributes:
        chests: all of them, in the order of `BARS`.
        body: the chest that is there.
        out: unit vector in which the drawer opens (2,).
    """

    def __init__(self, world: World) -> None:
        self.chests = []
        for i, bar in enumerate(BARS):
            at = (float(i), 0.0, PARKED_Z)
            self.chests.append(world.load(f"chest{i}", _with_bar(bar, visual=world.visual), at, fixed=True))
        self._slide = self.chests[0].joints["slide"]
        self.body: Body = self.chests[0]
        self.out: Vector = (-1.0, 0.0)
        self._closed: Vector = (0.0, 0.0, 0.0)

    def place(self, handle: Sequence[float], yaw: float, bar: int) -> None:
        """Puts chest number `bar` with the middle of its closed handle at `handle` [m], opening along `yaw` [rad]."""
        self.body = self.chests[bar]
        self.out = out = (math.cos(yaw), math.sin(yaw))
        self._closed = tuple(handle)
        foot = (handle[0] - STANDOFF * out[0], handle[1] - STANDOFF * out[1], handle[2] - HANDLE_HEIGHT)
        self.body.place(foot, (0.0, 0.0, math.sin(0.5 * yaw), math.cos(0.5 * yaw)))

    def set_friction(self, rails: float, handle: float) -> None:
        """Sets the friction force of the rails [N] and the friction coefficient of the handle."""
        self.body.drive_velocity([self._slide], [0.0], [rails])
        self.body.set_dynamics(self._slide, lateralFriction=handle)

    def set_mass(self, mass: float) -> None:
        """Sets the mass of the drawer and what is in it [kg]."""
        self.body.set_dynamics(self._slide, mass=mass)

    @property
    def opening(self) -> float:
        """How far the drawer is open [m]."""
        return self.body.joint_states[0][0]

    @property
    def speed(self) -> float:
        """How fast it opens [m/s]."""
        return self.body.joint_states[0][1]

    @property
    def handle(self) -> Vector:
        """Middle of the bar [m], (3,)."""
        (x, y, z), (ox, oy), q = self._closed, self.out, self.opening
        return x + q * ox, y + q * oy, z
