"""A screw on the bit of a screwdriver, and the threaded hole that it goes into.

The screw is a body of its own: it can move across the hole (x, y), along it (z) and turn. The bit holds it by a pin
(magnet and socket) and drives it by a gear (the socket's flats). Outside, a stop of z stands for the part's surface,
on which its first thread rests. Where turning forward under pressure brings it to the start of the hole's thread, it
engages:

- centred and upright, turn and feed are geared: one pitch a turn, exactly. The thread holds it across, where it
  caught it (a real one would also centre it by the last tenths of a millimetre).
- askew or off centre, it is cross-threaded: it does not go in, and it jams.

The torque that it takes: prevailing torque in the thread, against the motion, and from the seat on that of a spring
that is wound up (hard and soft joints of ISO 5393 differ in its rate). Beyond its strength the thread strips, and
hardly any torque is left.

The torque comes from a motor that is told to run backwards much faster than it can, so that it gives its limit in the
first solver iteration; told to stand still, it would give no more than inertia times speed. A spindle that stops thus
holds the torque that it has built up, as a servo spindle does that stays switched on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import acos, copysign, floor, hypot, tau

from physai_envs.engine import Vector
from physai_envs.geometry import rotate
from physai_envs.robot import ASSETS, Robot
from physai_envs.world import World

LENGTH = 0.016  # m, of screw and head, from its end to where the bit holds it (assets/tools/screw.urdf)
PITCH = 0.0007  # m a turn, M4 coarse thread, ISO 261
X, Y, Z, TURN = range(4)  # joints of the screw
PIN_FORCE, DRIVE_TORQUE, HOLDING, THREAD_FORCE = 60.0, 20.0, 300.0, 1e4  # N, Nm, N, N
BIT_END = (0.0, 0.0, 0.05)  # m, in the spindle's frame (assets/tools/screwdriver.urdf)
TOUCHING, PRESSING = 0.0002, 2.0  # m above the mouth and N: what it takes to catch the thread
TURNING = 0.1  # rad/s, slower than this counts as standing still
BACK_OUT = 0.3  # rad, unscrewed so far beyond the start, the thread lets go
STRIP = 3.5  # Nm, half as much again as the 2.4 Nm that an M4 of class 8.8 is tightened with
STRIPPED_TORQUE = 0.3  # Nm, of what is left then
JAM = 4.0  # Nm/rad, of a cross-threaded screw
BACKWARDS = 1000.0  # rad/s, faster than any solver step can reach


@dataclass(frozen=True)
class Hole:
    """What is particular about one threaded hole.

    Attributes:
        depth: at which the screw's head meets the part [m].
        prevailing: torque in the thread on the way [Nm].
        rate: rise of the torque once seated [Nm/rad].
        start: angle at which the thread begins [rad].
        capture: how far off centre a screw still finds its thread [m].
        capture_angle: how much askew [rad].
        mouth: how far off centre it still falls into the hole, and is cross-threaded [m].
    """

    depth: float = 0.0056
    prevailing: float = 0.2
    rate: float = 1.6
    start: float = 0.0
    capture: float = 0.0005
    capture_angle: float = 0.035
    mouth: float = 0.002


class Screw:
    """The screw's state and its physics, which a sensor of the scene carries on after every physics step.

    Args:
        world: the world.
        robot: whose tool has a joint `spindle`.
        pressing: gives the force with which the bit presses [N].

    Attributes:
        hole: of this episode.
        engaged, crossed, stripped, lost: what has become of the screw.
        turns: since it engaged.
        torque: that turns the screw back now [Nm].
        motor_torque: mean of the spindle's motor over the control step [Nm].
        peak_torque: largest of the spindle's motor since the screw is seated [Nm].
        peak_force: largest pressing force [N].
        offset: from the hole's axis when it engaged [m].
    """

    def __init__(self, world: World, robot: Robot, pressing: Callable[[], float]) -> None:
        self._world, self._robot, self._pressing = world, robot, pressing
        self._spindle = robot.body.joints["spindle"]
        self._column = robot.body.movable.index(self._spindle)
        self.body = world.load("screw", ASSETS / "tools" / "screw.urdf", fixed=True)
        self.body.set_dynamics(maxJointVelocity=1e5)  # Bullet's limit of 100 rad/s swallows torques on light links
        self.body.follow()
        robot.body.follow()
        self.hole = Hole()
        self.reset()

    def place(self, hole: Hole, position: Vector, orientation: Vector) -> None:
        """Puts the hole's mouth there, and the screw under the bit. For resets only, with the tool already in place."""
        self.hole = hole
        self.body.place(position, orientation)
        tip = self._robot.tip_position
        self.body.set_joints((tip[0] - position[0], tip[1] - position[1], tip[2] - LENGTH - position[2], 0.0))

    def reset(self) -> None:
        """Gives the screw to the bit; it has not engaged."""
        self.engaged = self.crossed = self.stripped = self.lost = False
        self.turns = self.torque = self.peak_torque = self.peak_force = self.offset = 0.0
        self._start, self._angle, self._way = 0.0, self.body.joint_states[TURN][0], 1.0
        self._sum, self._count, self._thread = 0.0, 0, -1
        self.body.limit_joint(Z, 0.0, 1.0)
        spindle, height = self._robot.body, (0.0, 0.0, LENGTH)
        self._pin = self._world.pin(spindle, self._spindle, BIT_END, self.body, TURN, height, PIN_FORCE)
        self._world.couple(spindle, self._spindle, self.body, TURN, -1.0, DRIVE_TORQUE)

    def start(self) -> bool:
        """Starts a new average of the motor's torque."""
        self._sum, self._count = 0.0, 0
        return True

    def after_physics_step(self) -> None:
        """Looks whether the thread catches, and sets the torque of the next step."""
        x, y, z, turn = self.body.samples[-1]
        if not (self.engaged or self.crossed):
            self._try_to_engage(x[0], y[0], z[0], turn[0])
        elif self.engaged and turn[0] < self._start - BACK_OUT:
            self._let_go()
        self._angle = turn[0]
        if abs(turn[1]) > TURNING:
            self._way = 1.0 if turn[1] > 0.0 else -1.0
        self._resist(turn[0])
        motor, force = self._robot.body.samples[-1][self._column][3], self._pressing()
        self._sum, self._count = self._sum + motor, self._count + 1
        self.peak_force = max(self.peak_force, force)
        if self.crossed or self.seated:
            self.peak_torque = max(self.peak_torque, motor)

    def _try_to_engage(self, x: float, y: float, z: float, angle: float) -> None:
        start = self.hole.start
        passed = floor((angle - start) / tau) > floor((self._angle - start) / tau)
        if not passed or z > TOUCHING or self._pressing() < PRESSING:
            return
        offset = hypot(x, y)
        if offset > self.hole.mouth:
            return  # turns on the flat beside the hole
        self.offset, self._start = offset, angle
        if offset > self.hole.capture or self.tilt > self.hole.capture_angle:
            self.crossed = True
            return
        self.engaged = True
        ratio = tau / PITCH
        self._thread = self._world.couple(self.body, TURN, self.body, Z, ratio, THREAD_FORCE, angle + ratio * z)
        self.body.limit_joint(Z, -1.0, 1.0)
        self.body.hold_joints([X, Y], [x, y], [HOLDING] * 2)

    def _let_go(self) -> None:
        self.engaged = False
        self._world.detach(self._thread)
        self.body.limit_joint(Z, 0.0, 1.0)
        self.body.drive_velocity([X, Y], [0.0, 0.0], [0.0, 0.0])

    def _resist(self, angle: float) -> None:
        hole = self.hole
        self.turns = (angle - self._start) / tau if self.engaged else 0.0
        friction, wound = (hole.prevailing, 0.0) if self.engaged or self.crossed else (0.0, 0.0)
        if self.seated:
            wound = hole.rate * (self.turns * PITCH - hole.depth) * tau / PITCH
        elif self.crossed:
            wound = JAM * max(angle - self._start, 0.0)
        self.stripped = self.stripped or wound + friction > STRIP
        if self.stripped:
            friction, wound = STRIPPED_TORQUE, 0.0
        self.torque = self._way * friction + wound
        self.body.drive_velocity([TURN], [-copysign(BACKWARDS, self.torque)], [abs(self.torque)])

    @property
    def seated(self) -> bool:
        """Whether the head has met the part."""
        return self.engaged and self.turns * PITCH > self.hole.depth

    @property
    def tilt(self) -> float:
        """Angle between the tool and the hole's axis [rad]."""
        hole = rotate(self.body.orientation, (0.0, 0.0, -1.0))
        return acos(min(sum([a * b for a, b in zip(hole, self._robot.tool_axis, strict=True)]), 1.0))

    @property
    def motor_torque(self) -> float:
        """Mean torque of the spindle's motor over the control step [Nm]."""
        return self._sum / self._count if self._count else 0.0

    @property
    def position(self) -> Sequence[float]:
        """Place of the screw's end from the middle of the hole's mouth, along the hole's axes [m], (3,)."""
        return [state[0] for state in self.body.joint_states[:3]]
