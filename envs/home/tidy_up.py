"""TidyUp: put three different things from a table into a bin, one after the other, held by friction alone.

Goal      cube, brick and can inside the bin, at rest and not touched by the gripper, for 0.3 s.
Start     the things anywhere in 0.3 x 0.4 m, turned anyhow, clear of each other; the bin anywhere in 0.3 x 0.7 m, clear
          of them; gripper open above.
Ends      success; failure when a thing has left the table; 16 s (truncated).
Reward    near, gripped, lifted and carried: means over the things, each 0 to 1 and full for one over the bin, held or
          not; settled, which pays in the 0.3 s before success what all of them pay in a whole episode, so that holding
          on never pays.
Sources   gripper: Franka Hand (assets/tools/gripper.urdf); `tolerance`: arXiv:1801.00690.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import atan2, cos, hypot, pi, sin

import numpy as np

from physai_envs import terms
from physai_envs.control import EndEffectorTwist, GripperSpeed
from physai_envs.geometry import distance, norm, rotate, rotate_back, subtract, wrap_angle, yaw_of
from physai_envs.parts.bin import Bin
from physai_envs.parts.table import add_table
from physai_envs.robots.panda import PANDA_GRIPPER
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Physics, Vector, quaternion_from_euler


@dataclass(frozen=True, eq=False)
class Thing:
    """What lies on the table.

    Attributes:
        name: of the body.
        height: half of it [m]; the origin is the centre.
        turns: in how many ways the fingers can take it, a full circle having that many; 0: from any side.
        slot: where the expert leaves it, from the middle of the bin [m].
    """

    name: str
    height: float
    turns: int
    slot: tuple[float, float]


CUBE = Thing("cube", 0.02, 4, (0.045, 0.05))
BRICK = Thing("brick", 0.02, 2, (-0.05, 0.0))
CAN = Thing("can", 0.025, 0, (0.045, -0.05))
THINGS = (CUBE, BRICK, CAN)
BRICK_HALF = (0.034, 0.016, BRICK.height)  # m; the gripper opens 8 cm and takes it across its 3.2 cm
CAN_RADIUS = 0.021  # m
ROLLING = 0.001  # m, resistance of a can that rolls: without any, Bullet's cylinders roll for ever
BIN = Bin(half=0.1)
LOW, HIGH = np.array([0.35, -0.2]), np.array([0.65, 0.2])  # m, of the things
BIN_LOW, BIN_HIGH = np.array([0.35, -0.35]), np.array([0.65, 0.35])  # m
APART, BIN_APART = 0.13, 0.2  # m between the centres: room for an open finger beside a thing, and beside the bin
START_LOW, START_HIGH = np.array([0.35, -0.25, 0.15]), np.array([0.6, 0.25, 0.3])  # m, of the tip
EASY_HEIGHT = 0.1  # m, start of the tip above the cube at difficulty 0
SPEED, TURN = 0.4, 2.0  # m/s, of each axis, and rad/s
FINGER_SPEED, GRIP = 0.05, 15.0  # m/s and N, of a finger
LEFT = 0.05  # m from the tip, beyond which a thing in the bin counts as left there
RESTING = 0.02  # m/s, slower than this counts as at rest
TUMBLED = 0.7  # sine of the slope above which an edge of a thing counts as standing
BLOCKED_LOW, BLOCKED_HIGH, BLOCKED_SPEED = 0.025, 0.055, 0.02  # m and m/s, what the fingers read around a thing
MARGIN = 0.4  # m, distance at which `near` and `carried` are down to 0.1
LIFT = 0.08  # m, height at which a thing counts as lifted
EPISODE_S, HOLD_S, CONTROL_HZ = 16.0, 0.3, 20
SETTLED = EPISODE_S / HOLD_S  # a step; in the hold as much as the 1 of all other terms in an episode

# The expert
ALONG, ACROSS = 0.011, 0.015  # m, how far beside the tip a thing can be gripped: along the pads and down, and across
WIDE = 0.07  # m, opening with which it goes down
HOVER = 0.09  # m, of the tip above a thing, until the fingers would pass beside it
CARRY, RELEASE = 0.14, 0.05  # m, height of the tip: on the way, the thing 6 cm above the rim, and over the bin
RELEASE_RADIUS, RELEASE_HEIGHT = 0.025, 0.07  # m, from the slot and above the table, where it lets go
HIGH_ENOUGH = 0.25  # m, where it waits when it has left a thing
GAIN, TURN_GAIN = 10.0, 8.0  # 1/s, how fast it closes its errors


def build(s: Scene) -> None:
    add_table(s.world)
    s.world.box("cube", half=(CUBE.height,) * 3, mass=0.1, color=(0.9, 0.45, 0.1, 1.0))
    s.world.box("brick", half=BRICK_HALF, mass=0.1, color=(0.75, 0.2, 0.2, 1.0))
    can = s.world.cylinder("can", CAN_RADIUS, 2 * CAN.height, mass=0.1, color=(0.3, 0.62, 0.3, 1.0))
    can.set_dynamics(rollingFriction=ROLLING, spinningFriction=ROLLING)
    for thing in THINGS:
        s[thing.name].let_sleep()
    BIN.add(s.world, "bin")


def reset(s: Scene) -> None:
    places, centre = _places(s)
    for thing, place in zip(THINGS, places, strict=True):
        yaw = s.difficulty * s.rng.uniform(-pi, pi)
        s[thing.name].place((*place, thing.height), quaternion_from_euler((0.0, 0.0, yaw)))
    s["bin"].place((*centre, 0.0))
    easy, start = np.array((*places[0], EASY_HEIGHT)), s.rng.uniform(START_LOW, START_HIGH)
    s.robot.place_tip(tuple((easy + s.difficulty * (start - easy)).tolist()))


def _places(s: Scene) -> tuple[list[list[float]], list[float]]:
    """Draws where the things and the bin stand until all are clear of each other."""
    while True:
        places = s.rng.uniform(LOW, HIGH, (len(THINGS), 2)).tolist()
        centre = s.rng.uniform(BIN_LOW, BIN_HIGH).tolist()
        pairs = [(0, 1), (0, 2), (1, 2)]
        if all(distance(places[i], places[j]) > APART for i, j in pairs) and all(
            distance(place, centre) > BIN_APART for place in places
        ):
            return places, centre


@shared
def from_tip(s: Scene) -> dict[Thing, Vector]:
    """Vector from the tip to the centre of each thing, world frame [m], (3,)."""
    return {thing: subtract(s[thing.name].position, s.robot.tip_position) for thing in THINGS}


@shared
def from_bin(s: Scene) -> dict[Thing, Vector]:
    """Vector from the bin's origin to the centre of each thing, world frame [m], (3,)."""
    return {thing: subtract(s[thing.name].position, s["bin"].position) for thing in THINGS}


@shared
def tip_distance(s: Scene) -> dict[Thing, float]:
    """Distance from the tip to the centre of each thing [m]."""
    return {thing: norm(way) for thing, way in from_tip(s).items()}


@shared
def over_bin(s: Scene) -> list[Thing]:
    """What is between the walls of the bin or above, held or not."""
    return [thing for thing, offset in from_bin(s).items() if BIN.over(offset)]


@shared
def waiting(s: Scene) -> list[Thing]:
    """What is not yet left in the bin, the nearest to the tip first, as a camera tells."""
    away, gone = tip_distance(s), from_bin(s)
    left = [thing for thing in THINGS if away[thing] <= LEFT or not BIN.holds(gone[thing])]
    return sorted(left, key=away.__getitem__)


@shared
def target(s: Scene) -> Thing:
    """What is to be put away next; when nothing is left, what was put away last."""
    left = waiting(s)
    return left[0] if left else min(THINGS, key=tip_distance(s).__getitem__)


def number_waiting(s: Scene) -> float:
    """How many things are not in the bin yet."""
    return float(len(waiting(s)))


def kind(s: Scene) -> Vector:
    """1 for the class of the target among cube, brick and can, (3,)."""
    wanted = target(s)
    return tuple([float(thing is wanted) for thing in THINGS])


def seen(s: Scene, to_body: Vector) -> Vector:
    """Vector from the tip to a body, as a camera reports it that stands beside where the robot believes [m], (3,)."""
    x, y, z = to_body
    return x + s.memory.camera_x, y + s.memory.camera_y, z


def seen_target(s: Scene) -> Vector:
    """Vector from the tip to the target's centre, as the camera reports it [m], (3,)."""
    return seen(s, from_tip(s)[target(s)])


def seen_bin(s: Scene) -> Vector:
    """Vector from the tip to the bin's origin, as the camera reports it [m], (3,)."""
    return seen(s, subtract(s["bin"].position, s.robot.tip_position))


@shared
def yaw_error(s: Scene) -> float:
    """Least turn that aligns the fingers with faces of the target that they can take [rad]."""
    thing = target(s)
    if not thing.turns:
        return 0.0
    q = s[thing.name].orientation
    edge = rotate(q, (1.0, 0.0, 0.0))
    if abs(edge[2]) > TUMBLED:
        edge = rotate(q, (0.0, 1.0, 0.0))
    return wrap_angle(thing.turns * (atan2(edge[1], edge[0]) - yaw_of(s.robot.tip_pose[1]))) / thing.turns


def turn_of_target(s: Scene) -> Vector:
    """Sine and cosine of `yaw_error` times the number of ways to take it: without a jump between them, (2,)."""
    angle = target(s).turns * yaw_error(s)
    return sin(angle), cos(angle)


@shared
def holding(s: Scene) -> bool:
    """Whether the fingers press on something of a thing's width, as width, speed and force of the gripper tell."""
    width, speed = s.robot.tool_opening
    pressing = BLOCKED_LOW < width < BLOCKED_HIGH and abs(speed) < BLOCKED_SPEED
    return pressing and terms.gripper_force(s) < -0.5 * GRIP


def between(s: Scene, thing: Thing) -> bool:
    """Whether a thing is where closing fingers grip it; they need not let go of what they have begun to close on."""
    slack = 1.0 + ramp(WIDE - s.robot.tool_opening[0], 0.0, 0.01)
    x, y, z = rotate_back(s.robot.tip_pose[1], from_tip(s)[thing])
    return abs(x) < slack * ALONG and abs(y) < slack * ACROSS and abs(z) < slack * ALONG


def ramp(x: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, a straight line between."""
    return min(max((x - low) / (high - low), 0.0), 1.0)


def mean_of_things(s: Scene, value: Callable[[Scene, Thing], float]) -> float:
    """Mean over the things, where one over the bin counts as 1."""
    done = over_bin(s)
    return sum([1.0 if thing in done else value(s, thing) for thing in THINGS]) / len(THINGS)


def near(s: Scene) -> float:
    """1 at a thing, 0.1 at 40 cm; 1 for one over the bin; mean of the three."""
    return mean_of_things(s, lambda s, thing: terms.tolerance(tip_distance(s)[thing], 0.0, 0.0, MARGIN))


def gripped(s: Scene) -> float:
    """1 for a thing between blocked fingers; 1 for one over the bin; mean of the three."""
    return mean_of_things(s, lambda s, thing: float(holding(s) and between(s, thing)))


def lifted(s: Scene) -> float:
    """Height of a thing over 8 cm, at most 1; 1 for one over the bin; mean of the three."""
    return mean_of_things(s, lambda s, thing: ramp(s[thing.name].position[2] - thing.height, 0.0, LIFT))


def carried(s: Scene) -> float:
    """1 for a thing over the bin, 0.1 at 40 cm from its wall; whether it is held plays no part; mean of the three."""
    return mean_of_things(s, lambda s, thing: terms.tolerance(hypot(*from_bin(s)[thing][:2]), 0.0, BIN.half, MARGIN))


def settled(s: Scene) -> float:
    """1 with all things at rest in the bin and released."""
    return float(tidy(s))


@shared
def tidy(s: Scene) -> bool:
    gone = from_bin(s)
    return all(BIN.holds(gone[thing]) for thing in THINGS) and all(_at_rest(s, thing) for thing in THINGS)


def _at_rest(s: Scene, thing: Thing) -> bool:
    body = s[thing.name]
    return norm(body.velocity[0]) < RESTING and not s.world.touching(s.robot.body, body)


def lost(s: Scene) -> bool:
    return any(s[thing.name].position[2] < -thing.height for thing in THINGS)


def expert(s: Scene) -> list[float]:
    """Takes the step of pick and place that the present state asks for; remembers nothing, so it recovers."""
    thing = target(s)
    x, y, z = from_tip(s)[thing]
    gone = from_bin(s)[thing]
    bx, by = thing.slot[0] - gone[0], thing.slot[1] - gone[1]
    height, aside = s.robot.tip_position[2], hypot(bx, by)
    if BIN.holds(gone) or (aside < RELEASE_RADIUS and gone[2] < RELEASE_HEIGHT):
        return [0.0, 0.0, 0.5 if height < HIGH_ENOUGH else 0.0, 0.0, 1.0]  # let go, and leave upward
    grip, turn = -1.0, 0.0
    if not between(s, thing):
        grip, turn = 1.0, yaw_error(s)
        off = max(hypot(x, y) / 0.013, abs(turn) / 0.2, (WIDE - s.robot.tool_opening[0]) / 0.01)  # of what fits, each
        z += HOVER * ramp(off, 1.0, 3.0)
        if height < HOVER and hypot(x, y) > 0.03:  # first up, then sideways
            x, y = 0.2 * x, 0.2 * y
    elif holding(s):
        clear = ramp(height, 0.06, 0.11)
        x, y = clear * bx, clear * by
        z = RELEASE + (CARRY - RELEASE) * ramp(aside, 0.02, 0.07) - height
    command = (GAIN * x / SPEED, GAIN * y / SPEED, GAIN * z / SPEED, TURN_GAIN * turn / TURN, grip)
    return [min(max(v, -1.0), 1.0) for v in command]


def _each(key: str) -> Callable[[Scene, float], None]:
    """Sets a property of all things."""

    def apply(s: Scene, value: float) -> None:
        for thing in THINGS:
            s[thing.name].set_dynamics(**{key: value})

    return apply


TASK = Task(
    id="TidyUp-v1",
    suite="home",
    summary="put a cube, a brick and a can from the table into a bin, held by friction alone",
    robot=PANDA_GRIPPER,
    control_hz=CONTROL_HZ,
    physics=Physics(hz=120, solver_iterations=20, contact_threshold=0.02, contact_erp=0.4),
    episode_s=EPISODE_S,
    hold_s=HOLD_S,
    actions=(EndEffectorTwist(linear=SPEED, angular=TURN), GripperSpeed(speed=FINGER_SPEED, force=GRIP)),
    observations=(
        Observation("tip_position", terms.tip_position, (3,), "m", -1.2, 1.2, noise_std=0.0005),
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -1.0, 1.0, noise_std=0.005),
        Observation("tip_to_target", seen_target, (3,), "m", -1.5, 1.5, noise_std=0.0015),
        Observation("turn_of_target", turn_of_target, (2,), "1", -1.0, 1.0, frame="tool", noise_std=0.05),
        Observation("kind", kind, (3,), "1", 0.0, 1.0, frame="camera"),
        Observation("number_waiting", number_waiting, (1,), "1", 0.0, 3.0, frame="camera"),
        Observation("tip_to_bin", seen_bin, (3,), "m", -1.5, 1.5, noise_std=0.0015),
        Observation("gripper_width", terms.gripper_width, (1,), "m", 0.0, 0.1, frame="hand", noise_std=0.0002),
        Observation("gripper_speed", terms.gripper_speed, (1,), "m/s", -0.2, 0.2, frame="hand", noise_std=0.002),
        Observation("gripper_force", terms.gripper_force, (1,), "N", -50.0, 50.0, frame="hand", noise_std=0.3),
    ),
    rewards=(
        Reward("near", near, weight=0.2),
        Reward("gripped", gripped, weight=0.2),
        Reward("lifted", lifted, weight=0.2),
        Reward("carried", carried, weight=0.4),
        Reward("settled", settled, weight=SETTLED),
    ),
    randomization=(
        Randomize("mass", 0.05, 0.15, "kg", _each("mass")),
        Randomize("friction", 0.4, 0.9, "1", _each("lateralFriction")),
        Randomize("camera_x", -0.002, 0.002, "m", lambda s, value: setattr(s.memory, "camera_x", value)),
        Randomize("camera_y", -0.002, 0.002, "m", lambda s, value: setattr(s.memory, "camera_y", value)),
    ),
    metrics=(
        Metric(
            "in_bin", lambda s: sum(BIN.holds(v) for v in from_bin(s).values()), "things", "Things that lie in the bin."
        ),
    ),
    build=build,
    reset=reset,
    success=tidy,
    failure=lost,
    expert=expert,
    camera=Camera(eye=(1.45, 0.8, 0.85), target=(0.37, 0.0, 0.18)),
)
