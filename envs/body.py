"""A body in the world: cached reads, motors, resets. Frames are world frames, units SI, quaternions (x, y, z, w)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from physai_envs.engine import NO_ROTATION, Vector, bullet, reading

if TYPE_CHECKING:
    from physai_envs.world import World

# Sum of the squares of speed [m/s] and turn rate [rad/s] below which Bullet lets a body sleep after 2 s. Its own 0.05
# stops a can that rolls at 20 cm/s.
ASLEEP_BELOW = 1e-4

# position, velocity [rad, rad/s or m, m/s], reaction wrench (6,) [N, Nm], effort of the motor [Nm or N]
JointState = tuple[float, float, Vector, float]


class Body:
    """A rigid or articulated body, addressed by name. What is read is kept until the physics moves.

    Attributes:
        joints: index of each joint by name, fixed joints included.
        movable: index of each joint that moves, in the engine's order.
        samples: joint states at the beginning of the control step and after each of its physics steps so far, for those
            who `follow` them; the last one is the present.
        colors: what links were coloured with, where somebody looks.
        mesh: points and triangles that the base is drawn with, where they come from no file; Bullet does not tell them.
    """

    def __init__(self, world: World, name: str, uid: int, *, dynamic: bool) -> None:
        self.world, self.name, self.id, self.dynamic = world, name, uid, dynamic
        self._client, self.readings = world.client, world.readings
        self._home = bullet.getBasePositionAndOrientation(uid, self._client)
        self.joints: dict[str, int] = {}
        self.movable: list[int] = []
        for index in range(bullet.getNumJoints(uid, self._client)):
            info = bullet.getJointInfo(uid, index, self._client)
            self.joints[info[1].decode()] = index
            if info[2] != bullet.JOINT_FIXED:
                self.movable.append(index)
        self.home_joints = [0.0] * len(self.movable)
        self._read = list(self.movable)
        self._jacobian = np.zeros((6, len(self.movable)))
        self._fill = Struct(f"{self._jacobian.size}d").pack_into  # a quarter of the time of making an array of tuples
        self.samples: list[Sequence[JointState]] = []
        self._sleeps = False
        self.colors: dict[int, Vector] = {}
        self.mesh: tuple[NDArray[np.float32], NDArray[np.uint32]] | None = None

    @reading
    def pose(self) -> tuple[Vector, Vector]:
        """Position [m] and orientation of the base's centre of mass."""
        return bullet.getBasePositionAndOrientation(self.id, self._client)  # type: ignore[no-any-return]

    @reading
    def position(self) -> Vector:
        """Position of the base's centre of mass [m], (3,)."""
        return self.pose[0]

    @reading
    def orientation(self) -> Vector:
        """Orientation of the base, quaternion."""
        return self.pose[1]

    @reading
    def velocity(self) -> tuple[Vector, Vector]:
        """Linear [m/s] and angular [rad/s] velocity of the base."""
        return bullet.getBaseVelocity(self.id, self._client)  # type: ignore[no-any-return]

    @reading
    def joint_states(self) -> Sequence[JointState]:
        """State of every movable joint, and after them of those whose wrench is measured."""
        return bullet.getJointStates(self.id, self._read, self._client)  # type: ignore[no-any-return]

    @reading
    def joint_positions(self) -> list[float]:
        """Positions of every movable joint [rad or m]."""
        return [state[0] for state in self.joint_states[: len(self.movable)]]

    @property
    def extent(self) -> float:
        """Largest side of the box around all links [m]."""
        boxes = [bullet.getAABB(self.id, link, self._client) for link in range(-1, len(self.joints))]
        lows, highs = zip(*boxes, strict=True)
        return float((np.max(highs, axis=0) - np.min(lows, axis=0)).max())

    def follow(self) -> None:
        """Has the world keep the joint states of every physics step in `samples`."""
        if self not in self.world.followed:
            self.world.followed.append(self)

    def reader(self) -> Callable[[], Sequence[JointState]]:
        """A call that reads the joint states of now, for those who ask in every physics step."""
        return partial(bullet.getJointStates, self.id, self._read, self._client)

    def link_state(self, link: int) -> Sequence[Vector]:
        """Bullet's link state, kinematics up to date: 4 and 5 are the link frame's pose, 6 and 7 its twist."""
        return bullet.getLinkState(self.id, link, 1, 1, self._client)  # type: ignore[no-any-return]

    def place(self, position: Sequence[float], orientation: Sequence[float] = NO_ROTATION) -> None:
        """Sets the base pose [m] at rest. For resets only: a running episode moves bodies by physics."""
        bullet.resetBasePositionAndOrientation(self.id, position, orientation, self._client)
        if self.dynamic:
            bullet.resetBaseVelocity(self.id, (0, 0, 0), (0, 0, 0), self._client)
        self.world.touch()

    def carry(self, position: Sequence[float], orientation: Sequence[float]) -> None:
        """Moves a body without mass to where a motion model outside of the engine has it, before a physics step."""
        bullet.resetBasePositionAndOrientation(self.id, position, orientation, self._client)
        self.world.touch()

    def set_velocity(self, linear: Sequence[float], angular: Sequence[float] = (0.0, 0.0, 0.0)) -> None:
        """Sets the base velocity [m/s, rad/s]; also how kinematic bodies (carts, belts) are driven."""
        bullet.resetBaseVelocity(self.id, linear, angular, self._client)
        self.world.touch()

    def push(self, force: Sequence[float]) -> None:
        """Pushes the middle of the base with a force [N], world frame, during the next physics step alone."""
        bullet.applyExternalForce(self.id, -1, force, self.position, bullet.WORLD_FRAME, self._client)

    def set_joints(self, positions: Sequence[float]) -> None:
        """Sets every movable joint [rad or m] at rest, and switches its motor off."""
        bullet.resetJointStatesMultiDof(
            self.id, self.movable, [[q] for q in positions], [[0.0]] * len(self.movable), physicsClientId=self._client
        )
        self.motors_off()
        self.world.touch()

    def motors_off(self) -> None:
        """Removes Bullet's default velocity motors, which would brake every joint."""
        zeros = [0.0] * len(self.movable)
        bullet.setJointMotorControlArray(
            self.id,
            self.movable,
            bullet.VELOCITY_CONTROL,
            targetVelocities=zeros,
            forces=zeros,
            physicsClientId=self._client,
        )

    def drive_velocity(self, joints: list[int], targets: list[float], forces: list[float]) -> None:
        """Velocity motors [rad/s or m/s] with at most `forces` [Nm or N]."""
        bullet.setJointMotorControlArray(
            self.id,
            joints,
            bullet.VELOCITY_CONTROL,
            targetVelocities=targets,
            forces=forces,
            physicsClientId=self._client,
        )

    def hold_joints(self, joints: list[int], targets: list[float], forces: list[float]) -> None:
        """Position motors [rad or m] with at most `forces` [Nm or N]."""
        bullet.setJointMotorControlArray(
            self.id, joints, bullet.POSITION_CONTROL, targetPositions=targets, forces=forces,
            physicsClientId=self._client,
        )  # fmt: skip

    def limit_joint(self, joint: int, low: float, high: float) -> None:
        """Moves the stops of a joint [rad or m]."""
        bullet.changeDynamics(self.id, joint, jointLowerLimit=low, jointUpperLimit=high, physicsClientId=self._client)

    def drive_position(
        self, joints: list[int], targets: list[float], rates: list[float], forces: list[float], gain: float
    ) -> None:
        """Position motors [rad or m] with at most `forces` [Nm or N]; making up for `gain` of the error in a step."""
        bullet.setJointMotorControlArray(
            self.id,
            joints,
            bullet.POSITION_CONTROL,
            targetPositions=targets,
            targetVelocities=rates,
            forces=forces,
            positionGains=[gain] * len(joints),
            velocityGains=[1.0] * len(joints),
            physicsClientId=self._client,
        )

    def apply_torques(self, joints: list[int], torques: list[float]) -> None:
        """Joint torques [Nm or N] for the next physics step alone."""
        bullet.setJointMotorControlArray(
            self.id, joints, bullet.TORQUE_CONTROL, forces=torques, physicsClientId=self._client
        )

    def jacobian(self, link: int, point: Vector, positions: list[float]) -> NDArray[np.float64]:
        """Geometric Jacobian (6, movable joints) at `point`, given in the link's centre-of-mass frame [m].

        The array is the same at every call.
        """
        zeros = [0.0] * len(positions)
        (x, y, z), (a, b, c) = bullet.calculateJacobian(self.id, link, point, positions, zeros, zeros, self._client)
        self._fill(self._jacobian, 0, *x, *y, *z, *a, *b, *c)
        return self._jacobian

    def joint_info(self, name: str) -> tuple[Any, ...]:
        """Bullet's joint description: 8 and 9 are the limits, 10 the effort, 11 the velocity."""
        return bullet.getJointInfo(self.id, self.joints[name], self._client)

    def dynamics_info(self, link: int = -1) -> tuple[Any, ...]:
        """Bullet's dynamics: 0 mass [kg], 1 friction, 2 principal inertia, 3 and 4 the centre-of-mass frame."""
        return bullet.getDynamicsInfo(self.id, link, self._client)

    def set_dynamics(self, link: int = -1, **values: float) -> None:
        """Changes one property a call: in one call Bullet applies some of them to the base instead of `link`."""
        for key, value in values.items():
            bullet.changeDynamics(self.id, link, **{key: value}, physicsClientId=self._client)

    def enable_wrench(self, joint: int) -> int:
        """Makes the reaction wrench of a joint readable; returns where its state lies in `joint_states`."""
        bullet.enableJointForceTorqueSensor(self.id, joint, True, self._client)
        if joint not in self._read:
            self._read.append(joint)
        return self._read.index(joint)

    def let_sleep(self) -> None:
        """Lets the engine leave the body out while it lies still and nothing that moves touches it.

        Ten times cheaper than a body that is kept still by its contacts.
        """
        self._sleeps = True
        self.set_dynamics(activationState=bullet.ACTIVATION_STATE_ENABLE_SLEEPING, sleepThreshold=ASLEEP_BELOW)

    def keep_awake(self) -> bool:
        """Ends the sleep of a body that may sleep, until it goes home; tells whether it may."""
        if self._sleeps:
            awake = bullet.ACTIVATION_STATE_DISABLE_SLEEPING | bullet.ACTIVATION_STATE_WAKE_UP
            self.set_dynamics(activationState=awake)
        return self._sleeps

    def set_color(self, rgba: Sequence[float], link: int = -1) -> None:
        """Colours a link, where somebody looks."""
        if self.world.visual:
            self.colors[link] = tuple(rgba)
            bullet.changeVisualShape(self.id, link, rgbaColor=rgba, physicsClientId=self._client)

    def go_home(self) -> None:
        """Restores the pose and joints that the body was built with, at rest."""
        self.place(*self._home)
        if self._sleeps:
            self.let_sleep()
        self.samples = []
        if self.movable:
            self.set_joints(self.home_joints)
