"""TidyUp: pick a cube from a table by friction alone, and leave it at rest in a bin.

Goal      cube inside the bin, not touched by the gripper and at rest, for 0.3 s.
Start     cube (4 cm, any yaw) anywhere in 0.3 x 0.4 m, bin anywhere in 0.3 x 0.7 m clear of it, open gripper above the table.
Ends      success; failure when the cube has left the table; 6 s (truncated).
Reward    near, gripped, lifted and carried, each 0 to 1, all of them full for a cube in the bin; settled, which pays more
          in the 0.3 s before success than holding on could pay in a whole episode.
Sources   gripper: Franka Hand (see assets/tools/gripper.urdf); `tolerance`: arXiv:1801.00690.
"""

from __future__ import annotations

from math import atan2, cos, hypot, pi, sin

import numpy as np

from physai_envs import terms
from physai_envs.control import EndEffectorTwist, GripperSpeed
from physai_envs.engine import Physics, Vector, quaternion_from_euler
from physai_envs.geometry import distance, norm, rotate, rotate_back, subtract, wrap_angle, yaw_of
from physai_envs.parts.bin import Bin
from physai_envs.robots.panda import PANDA_GRIPPER
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task

HALF = 0.02  # m, half the cube's edge; the gripper opens 8 cm
BIN = Bin()
OBJECT_LOW, OBJECT_HIGH = np.array([0.35, -0.2]), np.array([0.65, 0.2])  # m
BIN_LOW, BIN_HIGH = np.array([0.35, -0.35]), np.array([0.65, 0.35])  # m
APART = 0.2  # m between the centres: room for an open finger beside the bin
START_LOW, START_HIGH = np.array([0.35, -0.25, 0.15]), np.array([0.6, 0.25, 0.3])  # m, of the tip
SPEED, TURN = 0.4, 2.0  # m/s, of each axis, and rad/s
FINGER_SPEED, GRIP = 0.05, 15.0  # m/s and N, a finger
RESTING = 0.02  # m/s, slower than this counts as at rest
MARGIN = 0.4  # m, distance at which `near` and `carried` are down to 0.1
TUMBLED = 0.7  # sine of the slope above which an edge of the cube counts as standing
GRIPPED_LOW, GRIPPED_HIGH, STOPPED = 0.03, 0.055, 0.01  # m and m/s, what the fingers read around a cube
REACH_ALONG, REACH_ACROSS = 0.011, 0.015  # m, from the tip: along the pads and down, and across
WIDE = 0.07  # m, opening with which the expert goes down
LIFT = 0.08  # m, height at which a cube counts as lifted
SETTLED_BONUS = 20.0  # a step; times the 6 steps of the hold it is what all else pays in 120 steps

HOVER = 0.09  # m, of the tip above the cube before it goes down
CARRY = 0.13  # m, of the tip: the cube clears the rim by 6 cm
RELEASE_HEIGHT = 0.075  # m, of the cube's centre above the table
RELEASE_RADIUS = 0.035  # m, from the centre of the bin
GAIN, TURN_GAIN = 10.0, 8.0  # 1/s, how fast the expert closes its errors


def build(s: Scene) -> None:
    s.world.box("table", half=(0.35, 0.5, 0.2), position=(0.5, 0.0, -0.2), color=(0.82, 0.78, 0.72, 1.0))
    s.world.box("cube", half=(HALF,) * 3, mass=0.1, color=(0.9, 0.45, 0.1, 1.0))
    BIN.add(s.world, "bin")


def reset(s: Scene) -> None:
    cube = s.rng.uniform(OBJECT_LOW, OBJECT_HIGH)
    centre = s.rng.uniform(BIN_LOW, BIN_HIGH)
    while distance(cube, centre) < APART:
        centre = s.rng.uniform(BIN_LOW, BIN_HIGH)
    yaw = s.rng.uniform(-pi / 4, pi / 4)
    s["cube"].place((*cube, HALF), quaternion_from_euler((0.0, 0.0, s.difficulty * yaw)))
    s["bin"].place((*centre, 0.0))
    above, start = np.array((*cube, 0.1)), s.rng.uniform(START_LOW, START_HIGH)
    s.robot.place_tip(tuple((above + s.difficulty * (start - above)).tolist()))


def tip_to_cube(s: Scene) -> Vector:
    """Vector from the tip to the cube's centre, world frame [m], (3,)."""
    return subtract(s["cube"].position, s.robot.tip_position)


def cube_to_bin(s: Scene) -> Vector:
    """Vector from the cube's centre to where it rests in the middle of the bin, world frame [m], (3,)."""
    x, y, _ = s["bin"].position
    return subtract((x, y, BIN.wall + HALF), s["cube"].position)


def tip_to_bin(s: Scene) -> Vector:
    """Vector from the tip to the bin's origin, world frame [m], (3,)."""
    return subtract(s["bin"].position, s.robot.tip_position)


def yaw_error(s: Scene) -> float:
    """Turn that aligns the fingers with the nearest faces of the cube [rad], -pi/4 to pi/4."""
    q = s["cube"].orientation
    edge = rotate(q, (1.0, 0.0, 0.0))
    if abs(edge[2]) > TUMBLED:  # the cube has come to lie on that side
        edge = rotate(q, (0.0, 1.0, 0.0))
    return 0.25 * wrap_angle(4.0 * (atan2(edge[1], edge[0]) - yaw_of(s.robot.tip_pose[1])))


def seen_cube(s: Scene) -> Vector:
    """`tip_to_cube` as a camera reports it that stands slightly beside where the robot believes, (3,)."""
    x, y, z = tip_to_cube(s)
    return x + s.memory.camera_x, y + s.memory.camera_y, z


def seen_bin(s: Scene) -> Vector:
    """`tip_to_bin` as the same camera reports it, (3,)."""
    x, y, z = tip_to_bin(s)
    return x + s.memory.camera_x, y + s.memory.camera_y, z


def turn_of_cube(s: Scene) -> Vector:
    """Sine and cosine of four times `yaw_error`: the same for all four faces, without a jump, (2,)."""
    angle = 4.0 * yaw_error(s)
    return sin(angle), cos(angle)


def holding(s: Scene) -> bool:
    """Whether the closing fingers are stopped by something, as grippers report it from width and speed."""
    width, speed = terms.gripper_width(s), terms.gripper_speed(s)
    return bool(s.action[-1] < 0.0) and GRIPPED_LOW < width < GRIPPED_HIGH and abs(speed) < STOPPED


def in_bin(s: Scene) -> bool:
    x, y, z = subtract(s["cube"].position, s["bin"].position)
    return BIN.holds((x, y, z))


def near(s: Scene) -> float:
    """1 at the cube, 0.1 at 40 cm; 1 with the cube in the bin."""
    return 1.0 if in_bin(s) else terms.tolerance(norm(tip_to_cube(s)), 0.0, 0.0, MARGIN)


def gripped(s: Scene) -> float:
    """1 with the cube between stopped fingers, or over or in the bin."""
    return float(over_bin(s) or (holding(s) and between(s)))


def lifted(s: Scene) -> float:
    """Height of the cube over 8 cm, at most 1; 1 over or in the bin."""
    return 1.0 if over_bin(s) else min(max(s["cube"].position[2] - HALF, 0.0) / LIFT, 1.0)


def carried(s: Scene) -> float:
    """1 with the cube above or in the middle of the bin, 0.1 at 40 cm; whether the gripper holds it plays no part."""
    x, y, _ = cube_to_bin(s)
    return terms.tolerance(hypot(x, y), 0.0, RELEASE_RADIUS, MARGIN)


def settled(s: Scene) -> float:
    """1 with the cube at rest in the bin and released."""
    return float(tidy(s))


def tidy(s: Scene) -> bool:
    cube = s["cube"]
    return in_bin(s) and norm(cube.velocity[0]) < RESTING and not s.world.touching(s.robot.body, cube)


def lost(s: Scene) -> bool:
    return s["cube"].position[2] < -HALF


def over_bin(s: Scene) -> bool:
    """Whether the cube is between the walls of the bin or above."""
    return BIN.over(cube_to_bin(s))


def between(s: Scene) -> bool:
    """Whether closing the fingers now would grip the cube."""
    x, y, z = rotate_back(s.robot.tip_pose[1], tip_to_cube(s))
    slack = 1.0 + ramp(WIDE - terms.gripper_width(s), 0.0, 0.01)  # do not let go of what the fingers have begun to close on
    return abs(x) < slack * REACH_ALONG and abs(y) < slack * REACH_ACROSS and abs(z) < slack * REACH_ALONG


def expert(s: Scene) -> list[float]:
    """Takes the next step of pick and place that the present state asks for; remembers nothing, so it recovers."""
    x, y, z = tip_to_cube(s)
    bx, by, _ = cube_to_bin(s)
    height = s.robot.tip_position[2]
    turn = 0.0
    if in_bin(s) or (hypot(bx, by) < RELEASE_RADIUS and s["cube"].position[2] < RELEASE_HEIGHT):
        return [0.0, 0.0, 0.5, 0.0, 1.0]  # let go and leave upward
    if between(s):
        grip = -1.0
        if holding(s):
            clear = ramp(height, 0.06, 0.11)  # first up, then sideways, down again when over the bin
            x, y, z = clear * bx, clear * by, CARRY - height - (CARRY - 0.055) * (1.0 - ramp(hypot(bx, by), 0.02, 0.07))
    else:
        grip, turn = 1.0, yaw_error(s)
        off = max(hypot(x, y) / 0.013, abs(turn) / 0.2, (WIDE - terms.gripper_width(s)) / 0.01)
        z += HOVER * ramp(off, 1.0, 3.0)  # stay above the cube until the fingers would pass beside it
        if height < HOVER and hypot(x, y) > 0.03:
            x, y = 0.2 * x, 0.2 * y
    speed = (GAIN * v / SPEED for v in (x, y, z))
    return [*(min(max(v, -1.0), 1.0) for v in speed), min(max(TURN_GAIN * turn / TURN, -1.0), 1.0), grip]


def ramp(x: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, a straight line between."""
    return min(max((x - low) / (high - low), 0.0), 1.0)


def set_cube_mass(s: Scene, mass: float) -> None:
    s["cube"].set_dynamics(mass=mass)


def set_cube_friction(s: Scene, friction: float) -> None:
    s["cube"].set_dynamics(lateralFriction=friction)


def set_camera_x(s: Scene, offset: float) -> None:
    s.memory.camera_x = offset


def set_camera_y(s: Scene, offset: float) -> None:
    s.memory.camera_y = offset


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
        Observation("holding", holding, (1,), "1", 0.0, 1.0, frame="hand"),
    ),
    rewards=(
        Reward("near", near, weight=0.2),
        Reward("gripped", gripped, weight=0.2),
        Reward("lifted", lifted, weight=0.2),
        Reward("carried", carried, weight=0.4),
        Reward("settled", settled, weight=SETTLED_BONUS),
    ),
    randomization=(
        Randomize("cube_mass", 0.05, 0.15, "kg", set_cube_mass),
        Randomize("cube_friction", 0.4, 0.9, "1", set_cube_friction),
        Randomize("camera_x", -0.002, 0.002, "m", set_camera_x),
        Randomize("camera_y", -0.002, 0.002, "m", set_camera_y),
    ),
    metrics=(Metric("final_error", lambda s: norm(cube_to_bin(s)), "m"),),
    build=build,
    reset=reset,
    success=tidy,
    failure=lost,
    expert=expert,
    camera=Camera(eye=(1.35, 0.75, 0.75), target=(0.42, 0.0, 0.1)),
)
