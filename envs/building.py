"""Building a world: one Bullet client, and named bodies of URDF files and primitive shapes.

Frames are world frames, units SI, quaternions (x, y, z, w).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from physai.errors import AssetError, SimulationError
from physai_envs.body import Body
from physai_envs.engine import STDOUT, Physics, Readings, Vector, bullet, quaternion_from_euler, silenced

CAP_RINGS, CAP_SECTORS = 8, 24  # of the mesh of a dome


@dataclass(frozen=True)
class Box:
    """A box of a compound shape: half extents and position relative to the body [m].

    `color` is the body's own unless given. A box that is not `solid` is only looks; one that is not `seen` has none.
    """

    half: Vector
    at: Vector
    yaw: float = 0.0
    color: Vector | None = None
    solid: bool = True
    seen: bool = True


def _frames(boxes: Sequence[Box]) -> tuple[list[Vector], list[Vector]]:
    return [box.at for box in boxes], [quaternion_from_euler((0, 0, box.yaw)) for box in boxes]


def _cap(radius: float) -> tuple[list[list[float]], list[int]]:
    """Vertices [m] and triangles of the top of a ball, 60 degrees down from its pole."""
    points, faces = [[0.0, 0.0, radius]], []
    for ring in range(1, CAP_RINGS + 1):
        down = math.pi / 3.0 * ring / CAP_RINGS
        for i in range(CAP_SECTORS):
            turn = 2.0 * math.pi * i / CAP_SECTORS
            across = radius * math.sin(down)
            points.append([across * math.cos(turn), across * math.sin(turn), radius * math.cos(down)])
            here, there = 1 + (ring - 1) * CAP_SECTORS + i, 1 + (ring - 1) * CAP_SECTORS + (i + 1) % CAP_SECTORS
            inner = (0, 0) if ring == 1 else (here - CAP_SECTORS, there - CAP_SECTORS)
            faces += [inner[0], here, there] + ([] if ring == 1 else [inner[0], there, inner[1]])
    return points, faces


class Builder:
    """One Bullet client, headless but in a `Window`, and the bodies that are put into it.

    Args:
        physics: engine settings.
        visual: load visual shapes, for somebody who looks; the physics is the same.
    """

    def __init__(self, physics: Physics, *, visual: bool = False) -> None:
        self.physics, self.visual = physics, visual
        self.client: int = self._connect()
        if self.client < 0:
            raise SimulationError("Bullet gave no simulation client; close environments that are no longer used")
        self.bodies: dict[str, Body] = {}
        self.readings = Readings()
        self.followed: list[Body] = []  # bodies whose joints are read after every physics step
        bullet.setGravity(0, 0, -physics.gravity, self.client)
        bullet.setPhysicsEngineParameter(
            fixedTimeStep=1.0 / physics.hz,
            numSolverIterations=physics.solver_iterations,
            deterministicOverlappingPairs=1,
            physicsClientId=self.client,
        )
        if physics.contact_erp is not None:
            bullet.setPhysicsEngineParameter(contactERP=physics.contact_erp, physicsClientId=self.client)

    def _connect(self) -> int:
        return bullet.connect(bullet.DIRECT)  # type: ignore[no-any-return]

    def __getitem__(self, name: str) -> Body:
        try:
            return self.bodies[name]
        except KeyError:
            raise SimulationError(f"no body {name!r} in the scene; there are: {', '.join(self.bodies)}") from None

    def touch(self) -> None:
        """Forgets what was read: the state has changed."""
        self.readings.forget()

    def load(
        self, name: str, urdf: Path, position: Sequence[float] = (0, 0, 0), *, fixed: bool, merge_fixed: bool = True
    ) -> Body:
        """Loads a URDF as body `name`, its base frame at `position` [m].

        Raises:
            AssetError: if the file is missing or Bullet cannot read it.
        """
        if not urdf.is_file():
            raise AssetError(f"robot description {urdf} is missing; reinstall physai, or correct the path")
        # without implicit cylinders Bullet makes hulls of them, 1 mm too fat
        flags = bullet.URDF_USE_INERTIA_FROM_FILE | bullet.URDF_USE_IMPLICIT_CYLINDER
        flags |= bullet.URDF_MERGE_FIXED_LINKS if merge_fixed else 0
        try:
            with silenced(STDOUT):
                uid = bullet.loadURDF(str(urdf), position, useFixedBase=fixed, flags=flags, physicsClientId=self.client)
        except bullet.error as failure:
            raise AssetError(f"Bullet cannot read {urdf} ({failure}); check that it is valid URDF") from failure
        body = self._add(name, uid, dynamic=not fixed)
        body.motors_off()
        for link in range(-1, len(body.joints)):  # Bullet's default damping 0.04 1/s is no property of a real robot
            body.set_dynamics(link, linearDamping=0.0, angularDamping=0.0)
        return body

    def box(
        self, name: str, half: Vector, position: Vector = (0, 0, 0), *, mass: float = 0.0,
        color: Vector = (0.7, 0.7, 0.7, 1.0), friction: float = 0.5, scenery: bool = False,
    ) -> Body:  # fmt: skip
        """Adds a box of `half` extents [m]; without `mass` [kg] it stands still."""
        boxes = (Box(half, (0.0, 0.0, 0.0)),)
        return self.compound(name, boxes, position, mass=mass, color=color, friction=friction, scenery=scenery)

    def compound(
        self, name: str, boxes: Sequence[Box], position: Vector = (0, 0, 0), *, mass: float = 0.0,
        color: Vector = (0.7, 0.7, 0.7, 1.0), friction: float = 0.5, scenery: bool = False,
    ) -> Body:  # fmt: skip
        """Adds one rigid body of several boxes (at most 16, Bullet's limit), centre of mass at its origin.

        With `scenery` it can be placed but has no velocity (a belt or cart needs one), and costs next to nothing.
        """
        if len(boxes) > 16:
            raise SimulationError(f"compound {name!r} has {len(boxes)} boxes, Bullet takes at most 16; split it")
        shape = visual = -1
        solid = [box for box in boxes if box.solid]
        if len(solid) == 1:  # contacts and rays of a plain box cost a third less than those of a compound of one
            at, turned = _frames(solid)
            shape = bullet.createCollisionShape(
                bullet.GEOM_BOX, halfExtents=solid[0].half, collisionFramePosition=at[0],
                collisionFrameOrientation=turned[0], physicsClientId=self.client,
            )  # fmt: skip
        elif solid:
            at, turned = _frames(solid)
            shape = bullet.createCollisionShapeArray(
                shapeTypes=[bullet.GEOM_BOX] * len(solid), halfExtents=[box.half for box in solid],
                collisionFramePositions=at, collisionFrameOrientations=turned, physicsClientId=self.client,
            )  # fmt: skip
        if self.visual:
            visual = self._looks([box for box in boxes if box.seen], color)
        return self._rigid(name, shape, visual, position, mass=mass, color=None, friction=friction, scenery=scenery)

    def _looks(self, boxes: Sequence[Box], color: Vector) -> int:
        """Makes one visual shape of boxes, and returns its number; -1 of none."""
        if not boxes:
            return -1
        at, turned = _frames(boxes)
        shape: int = bullet.createVisualShapeArray(
            shapeTypes=[bullet.GEOM_BOX] * len(boxes), halfExtents=[box.half for box in boxes],
            visualFramePositions=at, visualFrameOrientations=turned,
            rgbaColors=[box.color or color for box in boxes], physicsClientId=self.client,
        )  # fmt: skip
        return shape

    def cylinder(
        self, name: str, radius: float, height: float, position: Vector = (0, 0, 0), *, mass: float = 0.0,
        color: Vector = (0.7, 0.7, 0.7, 1.0), friction: float = 0.5, scenery: bool = False,
    ) -> Body:  # fmt: skip
        """Adds an upright cylinder [m]."""
        shape = bullet.createCollisionShape(
            bullet.GEOM_CYLINDER, radius=radius, height=height, physicsClientId=self.client
        )
        visual = -1
        if self.visual:
            visual = bullet.createVisualShape(
                bullet.GEOM_CYLINDER, radius=radius, length=height, rgbaColor=color, physicsClientId=self.client
            )
        return self._rigid(name, shape, visual, position, mass=mass, color=color, friction=friction, scenery=scenery)

    def sphere(
        self, name: str, radius: float, position: Vector = (0, 0, 0), *, mass: float = 0.0,
        color: Vector = (0.7, 0.7, 0.7, 1.0), friction: float = 0.5,
    ) -> Body:  # fmt: skip
        """Adds a ball [m]."""
        shape = bullet.createCollisionShape(bullet.GEOM_SPHERE, radius=radius, physicsClientId=self.client)
        visual = -1
        if self.visual:
            visual = bullet.createVisualShape(
                bullet.GEOM_SPHERE, radius=radius, rgbaColor=color, physicsClientId=self.client
            )
        return self._rigid(name, shape, visual, position, mass=mass, color=color, friction=friction)

    def dome(
        self, name: str, radius: float, position: Vector = (0, 0, 0), *,
        color: Vector = (0.7, 0.7, 0.7, 1.0), friction: float = 0.5,
    ) -> Body:  # fmt: skip
        """Adds scenery: a ball [m] that is buried but for its top, the only part that is drawn.

        Bullet draws a ball of 0.5 m as a solid whose faces lie up to 2 cm inside; on the top of it, wheels would hover.
        """
        shape = bullet.createCollisionShape(bullet.GEOM_SPHERE, radius=radius, physicsClientId=self.client)
        visual, mesh = -1, None
        if self.visual:
            points, faces = _cap(radius)
            mesh = np.array(points, np.float32), np.array(faces, np.uint32).reshape(-1, 3)
            visual = bullet.createVisualShape(
                bullet.GEOM_MESH, vertices=points, indices=faces, normals=[[v / radius for v in p] for p in points],
                rgbaColor=color, physicsClientId=self.client,
            )  # fmt: skip
        body = self._rigid(name, shape, visual, position, mass=0.0, color=color, friction=friction, scenery=True)
        body.mesh = mesh
        return body

    def marker(self, name: str, radius: float, color: Vector) -> Body | None:
        """Adds a ball without collision that only somebody who looks sees; None in training."""
        if not self.visual:
            return None
        visual = bullet.createVisualShape(
            bullet.GEOM_SPHERE, radius=radius, rgbaColor=color, physicsClientId=self.client
        )
        return self._rigid(name, -1, visual, (0, 0, -1), mass=0.0, color=color, friction=0.0)

    def floor(self, friction: float = 0.8, color: Vector = (0.86, 0.87, 0.89, 1.0)) -> Body:
        """Adds the ground at z = 0."""
        shape = bullet.createCollisionShape(bullet.GEOM_PLANE, physicsClientId=self.client)
        visual = -1
        if self.visual:  # an infinite plane costs the software renderer milliseconds, a slab does not
            visual = bullet.createVisualShape(
                bullet.GEOM_BOX, halfExtents=(8, 8, 0.01), rgbaColor=color,
                visualFramePosition=(0, 0, -0.01), physicsClientId=self.client,
            )  # fmt: skip
        return self._rigid("floor", shape, visual, (0, 0, 0), mass=0.0, color=color, friction=friction)

    def _rigid(
        self, name: str, shape: int, visual: int, position: Vector, *, mass: float, color: Vector | None,
        friction: float, scenery: bool = False,
    ) -> Body:  # fmt: skip
        uid = bullet.createMultiBody(
            baseMass=mass, baseCollisionShapeIndex=shape, baseVisualShapeIndex=visual,
            basePosition=position, useMaximalCoordinates=scenery, physicsClientId=self.client,
        )  # fmt: skip
        body = self._add(name, uid, dynamic=mass > 0)
        body.set_dynamics(lateralFriction=friction, linearDamping=0.0, angularDamping=0.0)
        if color is not None:  # a compound has its colours already, each box its own
            body.set_color(color)
        return body

    def _add(self, name: str, uid: int, *, dynamic: bool) -> Body:
        if name in self.bodies:
            raise SimulationError(f"two bodies named {name!r}; give each its own name")
        self.bodies[name] = Body(self, name, uid, dynamic=dynamic)
        return self.bodies[name]

    def gear(self, body: Body, parent: int, child: int, ratio: float, max_force: float) -> None:
        """Couples two joints of a body for good (gripper fingers, screw and nut)."""
        constraint = bullet.createConstraint(
            body.id, parent, body.id, child, bullet.JOINT_GEAR, (1, 0, 0), (0, 0, 0), (0, 0, 0),
            physicsClientId=self.client,
        )  # fmt: skip
        bullet.changeConstraint(constraint, gearRatio=ratio, erp=0.2, maxForce=max_force, physicsClientId=self.client)
