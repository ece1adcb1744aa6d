"""TidyUp: pick a cube from a table by friction alone, and leave it at rest in a bin.

Goal      cube inside the bin, at rest and not touched by the gripper, for 0.3 s.
Start     cube of 4 cm, any yaw, anywhere in 0.3 x 0.4 m; bin anywhere in 0.3 x 0.7 m, clear of it; gripper open above.
Ends      success; failure when the cube has left the table; 6 s (truncated).
Reward    near, gripped, lifted and carried, each 0 to 1 and full for a cube over the bin, held or not; settled, which
          pays in the 0.3 s before success what all of them pay in a whole episode, so that holding on never pays.
Sources   gripper: Franka Hand (assets/tools/gripper.urdf); `tolerance`: arXiv:1801.00690.
"""

from __future__ import annotations

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

HALF = 0.02  # m, half the cube's edge; the gripper opens 8 cm
BIN = Bin()
CUBE_LOW, CUBE_HIGH = np.array([0.35, -0.2]), np.array([0.65, 0.2])  # m
BIN_LOW, BIN_HIGH = np.array([0.35, -0.35]), np.array([0.65, 0.35])  # m
APART = 0.2  # m between the centres: room for an open finger beside the bin
START_LOW, START_HIGH = np.array([0.35, -0.25, 0.15]), np.array([0.6, 0.25, 0.3])  # m, of the tip
EASY_HEIGHT = 0.1  # m, start of the tip above the table at difficulty 0
SPEED, TURN = 0.4, 2.0  # m/s, of each axis, and rad/s
FINGER_SPEED, GRIP = 0.05, 15.0  # m/s and N, of a finger
RESTING = 0.02  # m/s, slower than this counts as at rest
TUMBLED = 0.7  # sine of the slope above which an edge of the cube counts as standing
BLOCKED_LOW, BLOCKED_HIGH, BLOCKED_SPEED = 0.03, 0.055, 0.01  # m and m/s, what the fingers read around a cube
MARGIN = 0.4  # m, distance at which `near` and `carried` are down to 0.1
LIFT = 0.08  # m, height at which a cube counts as lifted
SETTLED = 20.0  # a step; 6 steps of hold times 20 equal 120 steps of episode times the 1 of all other terms

# The expert
ALONG, ACROSS = 0.011, 0.015  # m, how far beside the tip a cube can be gripped: along the pads and down, and across
WIDE = 0.07  # m, opening with which it goes down
HOVER = 0.09  # m, of the tip above the cube, until the fingers would pass beside it
CARRY, RELEASE = 0.13, 0.055  # m, height of the tip: on the way, the cube 6 cm above the rim, and over the bin
RELEASE_RADIUS, RELEASE_HEIGHT = 0.035, 0.075  # m, from the centre of the bin and of the table, where it lets go
GAIN, TURN_GAIN = 10.0, 8.0  # 1/s, how fast it closes its errors


def build(s: Scene) -> None:
    add_table(s.world)
    s.world.box("cube", half=(HALF,) * 3, mass=0.1, color=(0.9, 0.45, 0.1, 1.0))
    BIN.add(s.world, "bin")


def reset(s: Scene) -> None:
    cube, centre = s.rng.uniform(CUBE_LOW, CUBE_HIGH), s.rng.uniform(BIN_LOW, BIN_HIGH)
    while distance(cube, centre) < APART:
        centre = s.rng.uniform(BIN_LOW, BIN_HIGH)
    yaw = s.difficulty * s.rng.uniform(-pi / 4, pi / 4)
    s["cube"].place((*cube, HALF), quaternion_from_euler((0.0, 0.0, yaw)))
    s["bin"].place((*centre, 0.0))
    easy, start = np.array((*cube, EASY_HEIGHT)), s.rng.uniform(START_LOW, START_HIGH)
    s.robot.place_tip(tuple((easy + s.difficulty * (start - easy)).tolist()))


@shared
def tip_to_cube(s: Scene) -> Vector:
    """Vector from the tip to the cube's centre, world frame [m], (3,)."""
    return subtract(s["cube"].position, s.robot.tip_position)


@shared
def bin_to_cube(s: Scene) -> Vector:
    """Vector from the bin's origin to the cube's centre, world frame [m], (3,)."""
    return subtract(s["cube"].position, s["bin"].position)


def seen(s: Scene, to_body: Vector) -> Vector:
    """Vector from the tip to a body, as a camera reports it that stands beside where the robot believes [m], (3,)."""
    x, y, z = to_body
    return x + s.memory.camera_x, y + s.memory.camera_y, z


def seen_cube(s: Scene) -> Vector:
    """Vector from the tip to the cube's centre, as the camera reports it [m], (3,)."""
    return seen(s, tip_to_cube(s))


def seen_bin(s: Scene) -> Vector:
    """Vector from the tip to the bin's origin, as the camera reports it [m], (3,)."""
    return seen(s, subtract(s["bin"].position, s.robot.tip_position))


@shared
def yaw_error(s: Scene) -> float:
    """Turn that aligns the fingers with the nearest faces of the cube [rad], -pi/4 to pi/4."""
    q = s["cube"].orientation
    edge = rotate(q, (1.0, 0.0, 0.0))
    if abs(edge[2]) > TUMBLED:
        edge = rotate(q, (0.0, 1.0, 0.0))
    return 0.25 * wrap_angle(4.0 * (atan2(edge[1], edge[0]) - yaw_of(s.robot.tip_pose[1])))


def turn_of_cube(s: Scene) -> Vector:
    """Sine and cosine of four times `yaw_error`: the same for all four faces, and without a jump, (2,)."""
    angle = 4.0 * yaw_error(s)
    return sin(angle), cos(angle)


@shared
def holding(s: Scene) -> bool:
    """Whether the fingers press on something of the cube's width, as width, speed and force of the gripper tell."""
    width, speed = s.robot.tool_opening
    pressing = BLOCKED_LOW < width < BLOCKED_HIGH and abs(speed) < BLOCKED_SPEED
    return pressing and terms.gripper_force(s) < -0.5 * GRIP


def between(s: Scene) -> bool:
    """Whether the cube is where closing fingers grip it; they need not let go of what they have begun to close on."""
    slack = 1.0 + ramp(WIDE - s.robot.tool_opening[0], 0.0, 0.01)
    x, y, z = rotate_back(s.robot.tip_pose[1], tip_to_cube(s))
    return abs(x) < slack * ALONG and abs(y) < slack * ACROSS and abs(z) < slack * ALONG


def ramp(x: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, a straight line between."""
    return min(max((x - low) / (high - low), 0.0), 1.0)


@shared
def over_bin(s: Scene) -> bool:
    """Whether the cube is between the walls of the bin or above."""
    return BIN.over(bin_to_cube(s))


def near(s: Scene) -> float:
    """1 at the cube, 0.1 at 40 cm; 1 with the cube over the bin."""
    return 1.0 if over_bin(s) else terms.tolerance(norm(tip_to_cube(s)), 0.0, 0.0, MARGIN)


def gripped(s: Scene) -> float:
    """1 with the cube between blocked fingers; 1 with the cube over the bin."""
    return float(over_bin(s) or (holding(s) and between(s)))


def lifted(s: Scene) -> float:
    """Height of the cube over 8 cm, at most 1; 1 with the cube over the bin."""
    return 1.0 if over_bin(s) else ramp(s["cube"].position[2] - HALF, 0.0, LIFT)


def carried(s: Scene) -> float:
    """1 with the cube over the bin, 0.1 at 40 cm from its middle; whether it is held plays no part."""
    x, y, _ = bin_to_cube(s)
    return 1.0 if BIN.over((x, y)) else terms.tolerance(hypot(x, y), 0.0, BIN.half, MARGIN)


def settled(s: Scene) -> float:
    """1 with the cube at rest in the bin and released."""
    return float(tidy(s))


@shared
def tidy(s: Scene) -> bool:
    cube = s["cube"]
    return BIN.holds(bin_to_cube(s)) and norm(cube.velocity[0]) < RESTING and not s.world.touching(s.robot.body, cube)


def lost(s: Scene) -> bool:
    return s["cube"].position[2] < -HALF


def expert(s: Scene) -> list[float]:
    """Takes the step of pick and place that the present state asks for; remembers nothing, so it recovers."""
    x, y, z = tip_to_cube(s)
    bx, by, bz = (-v for v in bin_to_cube(s))
    height, aside = s.robot.tip_position[2], hypot(bx, by)
    if BIN.holds((bx, by, -bz)) or (aside < RELEASE_RADIUS and -bz < RELEASE_HEIGHT):
        return [0.0, 0.0, 0.5, 0.0, 1.0]  # let go, and leave upward
    grip, turn = -1.0, 0.0
    if not between(s):
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


TASK = Task(
    id="TidyUp-v0",
    suite="home",
    summary="pick a cube from the table by friction and leave it at rest in a bin",
    robot=PANDA_GRIPPER,
    control_hz=20,
    physics=Physics(hz=120, solver_iterations=20, contact_threshold=0.02),
    episode_s=6.0,
    hold_s=0.3,
    actions=(EndEffectorTwist(linear=SPEED, angular=TURN), GripperSpeed(speed=FINGER_SPEED, force=GRIP)),
    observations=(
        Observation("tip_position", terms.tip_position, (3,), "m", -1.2, 1.2, noise_std=0.0005),
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -1.0, 1.0, noise_std=0.005),
        Observation("tip_to_cube", seen_cube, (3,), "m", -1.5, 1.5, noise_std=0.0015),
        Observation("turn_of_cube", turn_of_cube, (2,), "1", -1.0, 1.0, frame="tool", noise_std=0.05),
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
        Randomize("cube_mass", 0.05, 0.15, "kg", lambda s, value: s["cube"].set_dynamics(mass=value)),
        Randomize("cube_friction", 0.4, 0.9, "1", lambda s, value: s["cube"].set_dynamics(lateralFriction=value)),
        Randomize("camera_x", -0.002, 0.002, "m", lambda s, value: setattr(s.memory, "camera_x", value)),
        Randomize("camera_y", -0.002, 0.002, "m", lambda s, value: setattr(s.memory, "camera_y", value)),
    ),
    metrics=(Metric("final_error", lambda s: hypot(*bin_to_cube(s)[:2]), "m"),),
    build=build,
    reset=reset,
    success=tidy,
    failure=lost,
    expert=expert,
    camera=Camera(eye=(1.45, 0.8, 0.85), target=(0.37, 0.0, 0.18)),
)
