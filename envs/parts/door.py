"""A cupboard door: a leaf on a hinge, and a lever handle whose bolt holds the leaf shut until the lever is turned.

Hinge: Coulomb friction, and a closer that turns the leaf shut with a constant moment, a spring and a damper. Lever: a
spring that is wound up at rest, and Coulomb friction. Bolt: while it is out and the leaf is shut, it is a stop of the
hinge just behind the play of the strike. The lever draws it back beyond `RELEASE`; below `CATCH` it is out again, and
falls into the strike when the leaf comes back to it. Once the leaf is ajar, the bolt does not matter. Left out: the
friction of the bolt in the strike, which makes a lever heavy when somebody pulls at the door.

Friction is a velocity motor with the target 0: it brakes with at most that moment, and holds below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, radians, sin

from physai_envs.robot import parse, write
from physai_envs.world import Vector, World

URDF = "furniture/door.urdf"
HINGE, LEVER = 0, 1  # joints
SPINDLE = 0.40  # m, of the lever's spindle from the hinge, along the leaf
STANDOFF = 0.06  # m, of the middle of the bar from the hinge, out of the leaf: 5 cm from its surface
GRIP = 0.085  # m, of the place to hold the bar, from the spindle
HANDLE_HEIGHT = 0.6  # m, of the spindle above the foot of the cupboard
SWING = 0.5 * pi  # rad, until the leaf meets its stop
PLAY = 0.005  # rad, of the leaf behind the bolt: 2 mm at its edge
RELEASE, CATCH = radians(35.0), radians(30.0)  # of the lever: the bolt is back, and is out again
PRELOAD = 0.4  # Nm, of the lever's spring at rest
LEVER_FRICTION = 0.08  # Nm
FORCED, PUSHED_BACK = -0.04, 0.2  # rad and Nm: beyond that a joint stays where it was forced past its limit in Bullet,
# which a lever does not do that somebody lets go of
CLOSER_RATE = 0.5  # Nm/rad, of the closer's spring
DAMPER = 1.0  # Nms/rad, of the closer


class Door:
    """The door and its mechanics, which a sensor of the scene carries on after every physics step.

    Attributes:
        body: cupboard, leaf and lever.
        yaw: direction that the cupboard faces [rad].
        bolted: whether the bolt holds the leaf.
    """

    def __init__(self, world: World) -> None:
        self.body = world.load("door", write(parse(URDF), "door", visual=world.visual), fixed=True)
        self._states = self.body.reader()
        self._hinge: Vector = (0.0, 0.0, 0.0)
        self._closer, self._stiffness, self._moments = 0.0, 0.0, [0.0, 0.0]
        self.yaw, self.bolted = 0.0, False

    def place(self, handle: Sequence[float], yaw: float) -> None:
        """Puts it with the place to hold the bar, door shut, at `handle` [m], facing along `yaw` [rad]."""
        self.yaw = yaw
        (ox, oy), along = (cos(yaw), sin(yaw)), SPINDLE - GRIP
        x, y, z = handle
        self._hinge = (x - STANDOFF * ox - along * oy, y - STANDOFF * oy + along * ox, z)
        foot = (self._hinge[0], self._hinge[1], z - HANDLE_HEIGHT)
        self.body.place(foot, (0.0, 0.0, sin(0.5 * yaw), cos(0.5 * yaw)))

    def set_hinge(self, friction: float, closer: float) -> None:
        """Sets the friction and the closer's constant moment [Nm]."""
        self._closer = closer
        self.body.drive_velocity([HINGE, LEVER], [0.0, 0.0], [friction, LEVER_FRICTION])

    def set_lever(self, stiffness: float, friction: float) -> None:
        """Sets the stiffness of the lever's spring [Nm/rad] and the friction coefficient of the bar."""
        self._stiffness = stiffness
        self.body.set_dynamics(LEVER, lateralFriction=friction)

    def reset(self) -> None:
        """Bolts a door that is shut, and loads the springs."""
        self.body.apply_torques([HINGE, LEVER], [-moment for moment in self._moments])  # that no step has used up
        hinge, lever = self._states()
        self._bolt(hinge[0] <= PLAY and lever[0] < CATCH)
        self.after_physics_step()

    def start(self) -> bool:
        """Has nothing to prepare; springs act in every physics step."""
        return True

    def after_physics_step(self) -> None:
        """Moves the bolt, and sets the moments of the next step."""
        hinge, lever = self._states()
        opening, turned = hinge[0], lever[0]
        if self.bolted:
            if turned >= RELEASE:
                self._bolt(False)
        elif turned < CATCH and opening <= PLAY:
            self._bolt(True)
        closing = -self._closer - CLOSER_RATE * opening - DAMPER * hinge[1]
        returning = -PRELOAD - self._stiffness * turned if turned > FORCED else PUSHED_BACK
        self._moments = [closing, returning]
        self.body.apply_torques([HINGE, LEVER], self._moments)

    def _bolt(self, out: bool) -> None:
        self.bolted = out
        self.body.limit_joint(HINGE, 0.0, PLAY if out else SWING)

    @property
    def opening(self) -> float:
        """Angle by which the leaf is open [rad]."""
        return self.body.joint_states[HINGE][0]

    @property
    def speed(self) -> float:
        """How fast it opens [rad/s]."""
        return self.body.joint_states[HINGE][1]

    @property
    def turned(self) -> float:
        """Angle by which the lever is turned down [rad]."""
        return self.body.joint_states[LEVER][0]

    @property
    def handle(self) -> Vector:
        """Where the bar is to be held, in the middle of it [m], (3,)."""
        out, turned = self.yaw + self.opening, self.turned
        ox, oy, along = cos(out), sin(out), SPINDLE - GRIP * cos(turned)
        x, y, z = self._hinge
        return x + STANDOFF * ox + along * oy, y + STANDOFF * oy - along * ox, z - GRIP * sin(turned)
