"""The world of one environment: one Bullet client, bodies by name.

Frames are world frames, units SI, quaternions (x, y, z, w). State is read from the engine at most once between two
physics steps, when somebody first asks for it, and shared by everything that asks again.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai_envs.body import Body
from physai_envs.building import Box, Builder
from physai_envs.engine import (
    NO_ROTATION,
    STDERR,
    STDOUT,
    Physics,
    Vector,
    bullet,
    invert,
    multiply,
    quaternion_from_euler,
    silenced,
)
from physai_envs.renderer import renderer

__all__ = ["Body", "Box", "Physics", "Vector", "World", "quaternion_from_euler"]

Hook = Callable[[], None]
GEAR_ERP = 0.2  # share of a gear's position error that a physics step takes away
PARKING_M = 1000.0  # far from every scene; bodies rest there while contacts are cleared


class World(Builder):
    """A world that runs: resets, steps, and the reads that concern more than one body."""

    draws_itself = False  # as a window does
    _threshold_in_force: float | None = None  # contactBreakingThreshold is global to the process

    def __init__(self, physics: Physics, *, visual: bool = False) -> None:
        super().__init__(physics, visual=visual)
        self._renderer = renderer(self.client) if visual and not self.draws_itself else bullet.ER_TINY_RENDERER
        self.seconds_in_physics = 0.0
        self._constraints: list[int] = []

    def reset(self) -> None:
        """Brings every body home, with no memory of contacts: the next episode is that of a world just built."""
        self._use_threshold()
        for constraint in self._constraints:
            bullet.removeConstraint(constraint, self.client)
        self._constraints.clear()
        for i, body in enumerate(self.bodies.values()):
            if body.dynamic or body.movable:
                bullet.resetBasePositionAndOrientation(body.id, (PARKING_M + 10.0 * i, 0, 0), NO_ROTATION, self.client)
        if any([body.keep_awake() for body in self.bodies.values()]):
            bullet.stepSimulation(self.client)  # contacts of those that slept are forgotten after a step awake
        bullet.performCollisionDetection(self.client)
        for body in self.bodies.values():
            body.go_home()

    def attach(self, parent: Body, child: Body, max_force: float, *, parent_link: int = -1) -> int:
        """Holds `child` rigidly where it is now relative to a link of `parent`, with at most `max_force` [N] a row.

        For suction cups and the like; `detach` or the next reset lets go. Returns what `detach` and `load_on` take.
        """
        at, turned = parent.pose if parent_link < 0 else parent.link_state(parent_link)[0:2]
        place, orientation = multiply(*invert(at, turned), *child.pose)
        constraint: int = bullet.createConstraint(
            parent.id, parent_link, child.id, -1, bullet.JOINT_FIXED, (0, 0, 0), place, (0, 0, 0), orientation,
            physicsClientId=self.client,
        )  # fmt: skip
        bullet.changeConstraint(constraint, maxForce=max_force, physicsClientId=self.client)
        self._constraints.append(constraint)
        return constraint

    def pin(
        self, parent: Body, link: int, at: Vector, child: Body, child_link: int, child_at: Vector, max_force: float
    ) -> int:
        """Holds a point of one link at a point of another, free to turn, with at most `max_force` [N] an axis.

        `at` and `child_at` are in the links' centre-of-mass frames [m]. Undone as `attach` is.
        """
        constraint: int = bullet.createConstraint(
            parent.id, link, child.id, child_link, bullet.JOINT_POINT2POINT, (0, 0, 0), at, child_at,
            physicsClientId=self.client,
        )  # fmt: skip
        bullet.changeConstraint(constraint, maxForce=max_force, physicsClientId=self.client)
        self._constraints.append(constraint)
        return constraint

    def couple(
        self, parent: Body, joint: int, child: Body, child_joint: int, ratio: float, max_force: float,
        target: float | None = None,
    ) -> int:  # fmt: skip
        """Gears two joints, so that speed + `ratio` times the child's speed is zero. Undone as `attach` is.

        With `target`, of two joints of one body, position + `ratio` times the child's position is held there, too.
        """
        constraint: int = bullet.createConstraint(
            parent.id, joint, child.id, child_joint, bullet.JOINT_GEAR, (0, 0, 1), (0, 0, 0), (0, 0, 0),
            physicsClientId=self.client,
        )  # fmt: skip
        values = {} if target is None else {"erp": GEAR_ERP, "relativePositionTarget": target}
        bullet.changeConstraint(constraint, gearRatio=ratio, maxForce=max_force, physicsClientId=self.client, **values)
        self._constraints.append(constraint)
        return constraint

    def load_on(self, constraint: int) -> float:
        """Force that an attachment carried in the last physics step [N]."""
        return math.hypot(*bullet.getConstraintState(constraint, self.client)[:3])

    def detach(self, constraint: int) -> None:
        """Lets go of what `attach` holds."""
        bullet.removeConstraint(constraint, self.client)
        self._constraints.remove(constraint)

    def advance(self, steps: int, before: Sequence[Hook] = (), after: Sequence[Hook] = ()) -> None:
        """Steps the physics; around every step, controllers run `before` and sensors `after`."""
        self._use_threshold()
        step, client, clock = bullet.stepSimulation, self.client, time.perf_counter
        followed = self.followed
        if not (before or after or followed):
            started = clock()
            for _ in range(steps):
                step(client)
            self.seconds_in_physics += clock() - started
            self.touch()
            return
        for body in followed:
            body.samples = [body.joint_states]
        follow = [(body.samples.append, body.reader()) for body in followed]
        spent = 0.0
        for _ in range(steps):
            for hook in before:
                hook()
            started = clock()
            step(client)
            spent += clock() - started
            for keep, read in follow:
                keep(read())
            for hook in after:
                hook()
        self.seconds_in_physics += spent
        self.touch()
        for body in followed:
            self.readings.keep(body.__dict__, "joint_states", body.samples[-1])

    def _use_threshold(self) -> None:
        wanted = self.physics.contact_threshold
        if World._threshold_in_force != wanted:
            bullet.setPhysicsEngineParameter(contactBreakingThreshold=wanted, physicsClientId=self.client)
            World._threshold_in_force = wanted

    def contact_force(self, a: Body, b: Body, link_a: int = -2, link_b: int = -2) -> float:
        """Sum of the normal forces between two bodies in the last physics step [N]; link -2 means any, -1 the base."""
        points = bullet.getContactPoints(a.id, b.id, link_a, link_b, self.client)
        return sum([point[9] for point in points]) if points else 0.0

    def touching(self, a: Body, b: Body | None = None) -> bool:
        """Whether `a` pressed on `b` (or on anything) in the last physics step."""
        other = -1 if b is None else b.id
        points = bullet.getContactPoints(a.id, other, physicsClientId=self.client)
        return any(point[9] > 0.0 for point in points)

    def contacts(self, body: Body) -> Sequence[tuple[Any, ...]]:
        """Bullet's contact points of `body`: 2 the other body's id, 3 and 4 the links, 8 distance, 9 normal force."""
        return bullet.getContactPoints(body.id, physicsClientId=self.client)

    def gap(self, a: Body, b: Body, within: float) -> float:
        """Free distance between two bodies [m], negative where they overlap; `within` if it is no less than that.

        It also tells about two bodies without mass, between which the engine makes no contacts.
        """
        points = bullet.getClosestPoints(a.id, b.id, within, physicsClientId=self.client)
        return min([point[8] for point in points], default=within)

    def rays(
        self, start: Sequence[Vector], end: Sequence[Vector], frame: Body | None = None
    ) -> Sequence[tuple[Any, ...]]:
        """Casts rays [m], in the world or in a body's base frame; a hit is (body id, link, fraction, point, normal)."""
        parent = -1 if frame is None else frame.id
        return bullet.rayTestBatch(start, end, 1, parent, -1, physicsClientId=self.client)

    def camera(
        self, eye: Vector, target: Vector, width: int, height: int, field_of_view_deg: float = 50.0,
        light: Vector = (0.86, -0.57, 1.71),
    ) -> NDArray[np.uint8]:  # fmt: skip
        """Renders an image, (height, width, 3) uint8; `light` is the lamp, beyond the scene [m]."""
        view = bullet.computeViewMatrix(eye, target, (0, 0, 1))
        projection = bullet.computeProjectionMatrixFOV(field_of_view_deg, width / height, 0.05, 50.0)
        with self._quietly():
            image = bullet.getCameraImage(
                width, height, view, projection, lightDirection=light, lightDistance=math.hypot(*light), shadow=1,
                renderer=self._renderer, flags=bullet.ER_NO_SEGMENTATION_MASK, physicsClientId=self.client,
            )  # fmt: skip
        return np.asarray(image[2], dtype=np.uint8).reshape(height, width, 4)[:, :, :3].copy()

    def _quietly(self) -> contextlib.AbstractContextManager[None]:
        """EGL talks with its first picture and at its end."""
        return contextlib.nullcontext() if self._renderer == bullet.ER_TINY_RENDERER else silenced(STDOUT, STDERR)

    def close(self) -> None:
        """Ends the client; calling it again does nothing."""
        if self.client >= 0:
            with self._quietly():
                bullet.disconnect(self.client)
            self.client = -1
