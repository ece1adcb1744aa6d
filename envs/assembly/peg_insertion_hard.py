"""PegInsertionHard: push a held peg, that starts askew, into a hole 0.2 mm wider a side, and find it by touch.

Goal      peg of 16 mm diameter 90 % down a hole of 16.4 mm (0.2 mm clearance a side), with a chamfer of 0.5 mm x 45
          degrees. The engine rounds the peg's end by 1 mm; dowel pins have more (ISO 2338: 3 mm x 15 degrees).
Start     peg 6 cm above the fixture, leaning by 4 to 6 degrees; the hole anywhere within 5 cm to each side, measured
          with 1 mm of noise and a constant error of 0.5 mm, more than the clearance, and its axis askew by up to 0.4
          degrees, which nothing measures.
Ends      success; failure when the contact force passes 60 N, where a real cell would stop; 8 s (truncated).
Reward    as PegInsertion, and for standing upright.
Sources   chamfer that guides a part which gives way: D. Whitney, "Quasi-Static Assembly of Compliantly Supported Rigid
          Parts", 1982; its size: the smaller end of what drawings call for, 0.5 to 1 mm; the rest as PegInsertion.
"""

from __future__ import annotations

from math import cos, hypot, sin, tau

from physai_envs import terms
from physai_envs.assembly import peg_insertion as peg
from physai_envs.control import CompliantPull
from physai_envs.engine import Physics, Vector
from physai_envs.parts.hole import add_chamfered_hole
from physai_envs.robots.panda import PANDA_PEG
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared

CLEARANCE = 0.0002  # m, a side
CHAMFER = 0.0005  # m, wide and deep
LEAN = 0.07, 0.105  # rad, 4 to 6 degrees
TILT = 0.05  # rad, largest pull of the arm's spring: 6 Nm at its 120 Nm/rad
UPRIGHT_MARGIN = 0.05  # rad, angle at which the term is down to 0.1

# The expert
NEAR = 0.006  # m above the mouth, from where the peg comes down slowly
CENTRED = 0.001, 0.002  # m: goes on coming down below the first, waits above the second
UPRIGHT = 0.02, 0.04  # rad, likewise
FAST, SLOW, PRESS = 0.006, 0.001, 0.003  # m of pull: 0.1 and 0.017 m/s against the arm's damping; 6 N
TOUCH = 0.5  # N
SEARCH = 0.0015  # m, added to the pull across when the peg stands beside the hole: more than friction holds
LATERAL_GAIN, TILT_GAIN = 0.6, 1.0


def build(s: Scene) -> None:
    add_chamfered_hole(s.world, "hole", peg.PEG_RADIUS + CLEARANCE, peg.DEPTH, CHAMFER)
    peg.add_surroundings(s)


def reset(s: Scene) -> None:
    start = peg.place_fixture(s)
    amount = s.rng.uniform(*LEAN) * max(s.difficulty - peg.INSIDE, 0.0) / (1.0 - peg.INSIDE)
    direction = s.rng.uniform(0.0, tau)
    s.robot.place_tip(start, lean=(amount * cos(direction), amount * sin(direction), 0.0))


def lean(s: Scene) -> Vector:
    """Turn about the world's x and y axes that puts the peg upright [rad], (2,)."""
    x, y, _ = s.robot.tool_axis
    return -y, x


@shared
def off_axis(s: Scene) -> Vector:
    """Turn about the world's x and y axes that puts the peg parallel to the hole [rad], (2,)."""
    x, y = lean(s)
    return x + s.memory.skew_x, y + s.memory.skew_y


def force(s: Scene) -> Vector:
    """Force between flange and tool, sensor frame [N], (3,)."""
    return s.robot.wrench[:3]


def torque(s: Scene) -> Vector:
    """Torque between flange and tool, sensor frame [Nm], (3,)."""
    return s.robot.wrench[3:]


def upright(s: Scene) -> float:
    """1 when the peg is parallel to the hole, 0.1 at 0.05 rad from it."""
    return terms.tolerance(angle(s), 0.0, 0.0, UPRIGHT_MARGIN)


def angle(s: Scene) -> float:
    """Angle of the peg to the hole's axis [rad]."""
    return hypot(*off_axis(s))


def _fall(value: float, span: tuple[float, float]) -> float:
    """1 below the span, 0 above, a straight line between."""
    low, high = span
    return min(max((high - value) / (high - low), 0.0), 1.0)


def expert(s: Scene) -> list[float]:
    """Stands the peg up over the true hole, comes down slowly, presses on from first touch. Remembers nothing."""
    x, y, down = peg.tip_to_mouth(s)
    off, across = hypot(x, y), LATERAL_GAIN
    inside, touching = down > CHAMFER, s.sensors["contact"].mean > TOUCH
    if touching and not inside and off > CLEARANCE:
        across += SEARCH / off * (1.0 - _fall(off, (CLEARANCE, CHAMFER)))
    ready = 1.0 if inside or touching else min(_fall(off, CENTRED), _fall(angle(s), UPRIGHT))
    if inside or touching:
        pull = PRESS
    else:
        pull = SLOW * ready + (FAST - SLOW) * (1.0 - _fall(-down, (NEAR, 4 * NEAR)))
        pull += 0.5 * (1.0 - ready) * min(-down - NEAR, 0.0)
    roll, pitch = off_axis(s)
    command = [across * x / peg.PULL, across * y / peg.PULL, -pull / peg.PULL]
    command += [TILT_GAIN * roll / TILT, TILT_GAIN * pitch / TILT]
    return [min(max(v, -1.0), 1.0) for v in command]


TASK = Task(
    id="PegInsertionHard-v0",
    suite="assembly",
    summary="find a hole with 0.2 mm clearance a side by touch, with a peg that starts askew",
    robot=PANDA_PEG,
    control_hz=20,
    physics=Physics(hz=240, solver_iterations=20, contact_threshold=0.002, gravity=0.0),
    episode_s=8.0,
    actions=(CompliantPull(reach=peg.PULL, tilt=TILT),),
    observations=(
        Observation("tip_to_mouth", peg.tip_to_mouth, (3,), "m", -0.3, 0.3, noise_std=0.001, bias_std=0.0005),
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -0.5, 0.5, noise_std=0.002),
        Observation("lean", lean, (2,), "rad", -0.3, 0.3, noise_std=0.0005, bias_std=0.001),
        Observation("force", force, (3,), "N", -100.0, 100.0, frame="flange", noise_std=0.1, bias_std=0.2),
        Observation("torque", torque, (3,), "Nm", -20.0, 20.0, frame="flange", noise_std=0.005, bias_std=0.01),
        Observation("previous_action", terms.previous_action, (5,), "1", -1.0, 1.0, frame="policy"),
    ),
    rewards=(
        Reward("reach", peg.reach, weight=0.4),
        Reward("align", peg.align, weight=0.3),
        Reward("upright", upright, weight=0.2),
        Reward("insert", peg.insert, weight=0.8),
        Reward("time", peg.time, weight=-1.7),
        Reward("contact_force", peg.contact_force, weight=-0.2),
        Reward("stopped", peg.stopped, weight=-peg.STOP_COST),
    ),
    randomization=(
        Randomize("hole_friction", 0.1, 0.4, "1", peg.set_hole_friction),
        *peg.SKEWS,
    ),
    metrics=(
        Metric(
            "peak_force",
            lambda s: s.sensors["contact"].peak,
            "N",
            "Largest force between peg and fixture in a physics step.",
        ),
        Metric("depth", peg.depth, "m"),
        Metric("angle", angle, "rad"),
    ),
    build=build,
    reset=reset,
    success=peg.inserted,
    failure=peg.pressed_too_hard,
    expert=expert,
    solved_at=0.9,
    camera=Camera(eye=(1.0, 0.45, 0.45), target=(0.5, 0.0, 0.11), field_of_view_deg=29.0),
)
