"""What a world looks like, for those who draw it themselves: shapes, and where their links are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from physai.errors import AssetError
from physai_envs.body import Body
from physai_envs.engine import Vector, bullet, invert, multiply
from physai_envs.world import World

KINDS = {
    bullet.GEOM_SPHERE: "sphere", bullet.GEOM_BOX: "box", bullet.GEOM_CYLINDER: "cylinder",
    bullet.GEOM_CAPSULE: "capsule", bullet.GEOM_PLANE: "plane", bullet.GEOM_MESH: "mesh",
}  # fmt: skip
BODY_TYPE, MULTIBODY = 10, 2  # where Bullet's dynamics tell the kind of a body, and the kind of all but scenery
Link = tuple[Body, int]  # link -1 is the base


@dataclass(frozen=True)
class Shape:
    """One visual shape.

    Attributes:
        link: the body and link that wear it.
        kind: a value of `KINDS`.
        size: box: its sides; sphere: its radius; cylinder and capsule (both along z): length and radius; mesh: its
            scale [m].
        position, orientation: in the frame of the link [m], quaternion.
        color: red, green, blue and opacity, each in [0, 1].
        mesh: the points (n, 3) and triangles (m, 3) of a mesh.
    """

    link: Link
    kind: str
    size: Vector
    position: Vector
    orientation: Vector
    color: Vector
    mesh: tuple[NDArray[np.float32], NDArray[np.uint32]] | None = None


def shapes(world: World) -> list[Shape]:
    """Returns every visual shape of a world.

    Raises:
        AssetError: if a mesh is not an OBJ file.
    """
    found = []
    for body in world.bodies.values():
        for row in bullet.getVisualShapeData(body.id, physicsClientId=world.client) or ():
            kind, mesh = KINDS[row[2]], None
            if kind == "mesh":
                mesh = read_obj(Path(row[4].decode())) if row[4] else body.mesh
            found.append(Shape((body, row[1]), kind, row[3], row[5], row[6], row[7], mesh))
    return found


def frame(link: Link) -> Vector:
    """Where a link's frame is now: position [m] and quaternion, (7,)."""
    body, index = link
    if index >= 0:
        position, orientation = body.link_state(index)[4:6]
        return (*position, *orientation)
    dynamics = body.dynamics_info()
    if dynamics[BODY_TYPE] != MULTIBODY:  # scenery; for it Bullet tells an inertial frame at random
        return (*body.position, *body.orientation)
    position, orientation = multiply(*body.pose, *invert(*dynamics[3:5]))  # a pose is that of the centre of mass
    return (*position, *orientation)


def read_obj(path: Path) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Reads the points (n, 3) and triangles (m, 3) of a Wavefront OBJ file.

    Raises:
        AssetError: if it is none, or cannot be read.
    """
    points: list[list[float]] = []
    faces: list[list[int]] = []
    if path.suffix.lower() != ".obj":
        raise AssetError(f"{path} cannot be shown; meshes that are shown are OBJ files")
    try:
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            kind, *values = line.split() or [""]
            if kind == "v":
                points.append([float(value) for value in values[:3]])
            elif kind == "f":
                corners = [int(value.partition("/")[0]) for value in values]
                corners = [c - 1 if c > 0 else len(points) + c for c in corners]
                faces += [[corners[0], corners[i], corners[i + 1]] for i in range(1, len(corners) - 1)]
    except (OSError, ValueError) as problem:
        raise AssetError(f"{path} cannot be read as an OBJ file ({problem})") from problem
    return np.array(points, np.float32), np.array(faces, np.uint32)
