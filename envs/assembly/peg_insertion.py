"""PegInsertion: push a held peg into a hole that is barely wider, without pressing hard.

Goal      peg of 16 mm diameter 90 % down a hole of 17 mm (0.5 mm clearance a side).
Start     peg 6 cm above the fixture; the hole anywhere within 5 cm to each side, measured with 1 mm of noise and a
          constant error of 0.5 mm, and its axis askew by up to 0.4 degrees, which nothing measures. The arm's motors
          give 80 to 100 % of the torque that they are told to.
Ends      success; failure when the contact force passes 60 N, where a real cell would stop; 8 s (truncated).
Reward    nearness, alignment and depth less the cost of time; contact force; a stop by force.
Sources   `tolerance`: arXiv:1801.00690; force limit: under half of the 140 N that ISO/TS 15066 allows on a hand.
"""

from __future__ import annotations

from math import hypot

from physai_envs import terms
from physai_envs.control import CompliantPull
from physai_envs.engine import Physics, Vector, quaternion_from_euler
from physai_envs.geometry import distance, subtract
from physai_envs.parts.hole import add_hole
from physai_envs.parts.table import add_table
from physai_envs.robots.panda import PANDA_PEG
from physai_envs.sensors import ContactMeter
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared

PEG_RADIUS = 0.008  # m, of assets/tools/peg.urdf
CLEARANCE = 0.0005  # m, a side
DEPTH = 0.025  # m
SEATED = 0.9  # of the depth counts as inserted
MOUTH_HEIGHT = 0.04  # m, of the fixture above the table
HOLE_CENTRE, HOLE_RANGE = (0.5, 0.0), 0.05  # m
START_HEIGHT, START_RANGE = 0.06, 0.01  # m above the mouth
SKEW = 0.005  # rad, of the fixture about each horizontal axis
PULL = 0.008  # m, of the arm's spring: 16 N at its 2000 N/m
FORCE_LIMIT = 60.0  # N
FORCE_SCALE = 20.0  # N, contact force at which its penalty is 1
REACH_MARGIN, ALIGN_MARGIN = 0.1, 0.01  # m: one term to find the hole, one to be exact
STOP_COST = 30.0  # as much as waiting for ever costs at the discount of 0.95: the force limit is no way out
METER_NEAR = 0.03  # m above the mouth; at full pull against the arm's damping the peg comes down 7 mm a control step
INSIDE = 0.3  # difficulty below which episodes start with the peg in the hole


def build(s: Scene) -> None:
    add_hole(s.world, "hole", PEG_RADIUS + CLEARANCE, DEPTH)
    add_surroundings(s)


def add_surroundings(s: Scene) -> None:
    """Adds what there is beside the hole: table, block below it, sensor of contact."""
    add_table(s.world)
    s.world.box("block", half=(0.05, 0.05, 0.0075), color=(0.35, 0.38, 0.42, 1.0))
    s.add_sensor("contact", ContactMeter(s.world, s.robot.body, s["hole"], lambda: tip_to_mouth(s)[2] > -METER_NEAR))


def reset(s: Scene) -> None:
    s.robot.place_tip(place_fixture(s))


def place_fixture(s: Scene) -> Vector:
    """Puts the hole somewhere, and returns where the tip starts [m]."""
    x, y = s.rng.uniform(-HOLE_RANGE, HOLE_RANGE, 2) + HOLE_CENTRE
    s["hole"].place((x, y, MOUTH_HEIGHT), quaternion_from_euler((s.memory.skew_x, s.memory.skew_y, 0.0)))
    s["block"].place((x, y, MOUTH_HEIGHT - DEPTH - 0.0075))
    s.memory.mouth = (x, y, MOUTH_HEIGHT)
    s.memory.seated = (x, y, MOUTH_HEIGHT - DEPTH)
    start = s.rng.uniform(-START_RANGE, START_RANGE, 3) + (*HOLE_CENTRE, MOUTH_HEIGHT + START_HEIGHT)
    return _on_the_way(s, start)


def _on_the_way(s: Scene, start: Vector) -> Vector:
    """Start at the given difficulty: in the hole at 0, above the mouth from 0.3, at the full distance at 1."""
    x, y, mouth = s.memory.mouth
    d = s.difficulty
    if d < INSIDE:
        return x, y, mouth - DEPTH * (1.0 - d / INSIDE) * SEATED * 0.9
    way = (d - INSIDE) / (1.0 - INSIDE)
    sideways = way**2  # rises before it moves away, so that the peg clears the mouth
    return x + sideways * (start[0] - x), y + sideways * (start[1] - y), mouth + way * (start[2] - mouth) + 0.001


@shared
def tip_to_mouth(s: Scene) -> Vector:
    """Vector from the peg's end to the hole's mouth, world frame [m], (3,)."""
    return subtract(s.memory.mouth, s.robot.tip_position)


def wrench(s: Scene) -> Vector:
    """Force and torque between flange and tool, sensor frame [N, Nm], (6,)."""
    return s.robot.wrench


def seated_distance(s: Scene) -> float:
    """Distance of the peg's end from the bottom of the hole [m]."""
    return distance(s.memory.seated, s.robot.tip_position)


@shared
def depth(s: Scene) -> float:
    """Depth of the peg's end in the hole [m]; 0 outside."""
    x, y, z = tip_to_mouth(s)
    return max(z, 0.0) if x * x + y * y < (2 * PEG_RADIUS) ** 2 else 0.0


def reach(s: Scene) -> float:
    """1 when seated, 0.1 at 10 cm."""
    return terms.tolerance(seated_distance(s), 0.0, 0.0, REACH_MARGIN)


def align(s: Scene) -> float:
    """1 when the peg's end is on the axis of the hole, 0.1 at 1 cm from it."""
    x, y, _ = tip_to_mouth(s)
    return terms.tolerance(hypot(x, y), 0.0, 0.0, ALIGN_MARGIN)


def insert(s: Scene) -> float:
    """Share of the depth that the peg is down."""
    return min(depth(s) / DEPTH, 1.0)


def time(s: Scene) -> float:
    """1 each step; its weight is the sum of the weights above, so that being done is worth more than any waiting."""
    return 1.0


def stopped(s: Scene) -> float:
    """1 when the force limit ended the episode."""
    return float(pressed_too_hard(s))


def contact_force(s: Scene) -> float:
    """Mean contact force of the control step over 20 N, at most 1."""
    return min(s.sensors["contact"].mean / FORCE_SCALE, 1.0)


def inserted(s: Scene) -> bool:
    return depth(s) > SEATED * DEPTH and not pressed_too_hard(s)


def pressed_too_hard(s: Scene) -> bool:
    return s.sensors["contact"].peak > FORCE_LIMIT


def set_hole_friction(s: Scene, friction: float) -> None:
    s["hole"].set_dynamics(lateralFriction=friction)


def set_motor_strength(s: Scene, share: float) -> None:
    s.robot.motor_strength = share


SKEWS = (
    Randomize("skew_x", -SKEW, SKEW, "rad", lambda s, value: setattr(s.memory, "skew_x", value)),
    Randomize("skew_y", -SKEW, SKEW, "rad", lambda s, value: setattr(s.memory, "skew_y", value)),
)


TASK = Task(
    id="PegInsertion-v0",
    suite="assembly",
    summary="insert a held peg with 0.5 mm clearance a side, force-limited",
    robot=PANDA_PEG,
    control_hz=20,
    physics=Physics(hz=120, solver_iterations=20, contact_threshold=0.002, gravity=0.0),
    episode_s=8.0,
    actions=(CompliantPull(reach=PULL),),
    observations=(
        Observation("tip_to_mouth", tip_to_mouth, (3,), "m", -0.3, 0.3, noise_std=0.001, bias_std=0.0005),
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -0.5, 0.5, noise_std=0.002),
        Observation("wrench", wrench, (6,), "N, Nm", -100.0, 100.0, frame="flange", noise_std=0.05),
        Observation("previous_action", terms.previous_action, (3,), "1", -1.0, 1.0, frame="policy"),
    ),
    rewards=(
        Reward("reach", reach, weight=0.4),
        Reward("align", align, weight=0.3),
        Reward("insert", insert, weight=0.8),
        Reward("time", time, weight=-1.5),
        Reward("contact_force", contact_force, weight=-0.2),
        Reward("stopped", stopped, weight=-STOP_COST),
    ),
    randomization=(
        Randomize("hole_friction", 0.1, 0.5, "1", set_hole_friction),
        Randomize("motor_strength", 0.8, 1.0, "1", set_motor_strength),
        *SKEWS,
    ),
    metrics=(
        Metric(
            "peak_force",
            lambda s: s.sensors["contact"].peak,
            "N",
            "Largest force between peg and fixture in a physics step.",
        ),
        Metric("depth", depth, "m"),
    ),
    build=build,
    reset=reset,
    success=inserted,
    failure=pressed_too_hard,
    solved_at=0.98,
    camera=Camera(eye=(1.0, 0.45, 0.45), target=(0.5, 0.0, 0.11), field_of_view_deg=29.0),
)
