"""GearMeshing: put a held gear over its shaft and into the teeth of a mate that turns slowly, without pressing hard.

Goal      gear seated on its shaft, 90 % of its teeth's width in the gaps of the mate, which goes on turning, for 0.3 s.
Start     gear 3 cm above the shaft, which is anywhere within 4 cm to each side, at any angle to the mate's teeth.
Ends      success; failure when a contact force passes 60 N, where a real cell would stop; 12 s (truncated).
Reward    near, aligned, in phase, down, each 0 to 1, less the cost of time; contact force; the end, good or bad.
Sources   gear: module 4, 12 teeth; `tolerance`: arXiv:1801.00690; force limit: under half of the 140 N that ISO/TS
          15066 allows on a hand. Factory (arXiv:2205.03532) has this task with a mate that stands still.
"""

from __future__ import annotations

from math import cos, hypot, sin, tau

from physai_envs import terms
from physai_envs.control import CompliantPull
from physai_envs.engine import Physics, Vector
from physai_envs.geometry import subtract
from physai_envs.parts.gear import FACE, PITCH_RADIUS, TEETH, add_mate, phase_error, yaw_of_gear
from physai_envs.parts.table import add_table
from physai_envs.robots.panda import PANDA_GEAR
from physai_envs.sensors import ContactMeter
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared

SHAFT_RADIUS, SHAFT_TOP = 0.008, 0.055  # m
COLLAR = 0.02  # m, height of the collar that the gear sits on, and of the mate's lower face
SEATED = 0.9  # of the face width that the teeth overlap
SHAFT_CENTRE, SHAFT_RANGE = (0.5, 0.0), 0.04  # m
START_HEIGHT, START_RANGE = 0.03, 0.01  # m above the shaft's top
DIRECTIONS = 0.5  # rad, of the mate to each side of +y
PULL, TURN = 0.008, 0.05  # m and rad: 16 N and 1 Nm
FORCE_LIMIT, FORCE_SCALE = 60.0, 20.0  # N
RUNNING = 0.5  # of its own speed that the mate must keep
REACH_MARGIN, ALIGN_MARGIN, PHASE_MARGIN = 0.05, 0.005, 0.15  # m, m, rad: errors at which terms are down to 0.1
END_BONUS, STOP_COST = 20.0, 30.0

# The expert
ABOVE = 0.004  # m: waits so far above shaft or teeth until it is on their axis and in phase
CENTRED, IN_PHASE = 0.0006, 0.06  # m and rad
GENTLE = 0.003  # m, pull near shaft and teeth: 6 N
DRAG = 0.035  # rad of pull for each rad/s: what the arm's damping takes


def build(s: Scene) -> None:
    add_table(s.world)
    grey, blue = (0.6, 0.62, 0.66, 1.0), (0.25, 0.45, 0.7, 1.0)
    s.world.cylinder("shaft", SHAFT_RADIUS, SHAFT_TOP, color=grey, friction=0.2)
    s.world.cylinder("collar", 1.6 * SHAFT_RADIUS, COLLAR, color=blue, friction=0.2)
    add_mate(s.world, "mate")
    s.add_sensor("on_shaft", ContactMeter(s.world, s.robot.body, s["shaft"], lambda: height(s) < SHAFT_TOP + 0.02))
    s.add_sensor("on_mate", ContactMeter(s.world, s.robot.body, s["mate"], lambda: height(s) < COLLAR + FACE + 0.02))


def reset(s: Scene) -> None:
    m, d = s.memory, s.difficulty
    x, y = (s.rng.uniform(-SHAFT_RANGE, SHAFT_RANGE, 2) + SHAFT_CENTRE).tolist()
    m.top = (x, y, SHAFT_TOP)
    s["shaft"].place((x, y, SHAFT_TOP / 2))
    s["collar"].place((x, y, COLLAR / 2))
    m.direction = tau / 4 + s.rng.uniform(-DIRECTIONS, DIRECTIONS)
    apart = 2 * PITCH_RADIUS + m.centre_distance
    mate = s["mate"]
    mate.place((x + apart * cos(m.direction), y + apart * sin(m.direction), COLLAR))
    mate.set_joints([s.rng.uniform(0.0, tau)])
    m.speed = m.mate_speed if s.rng.random() < 0.5 else -m.mate_speed
    mate.drive_velocity(mate.movable, [m.speed], [m.mate_torque])
    dx, dy, dz = (s.rng.uniform(-START_RANGE, START_RANGE, 3) * d).tolist()
    s.robot.place_tip((x + dx, y + dy, SHAFT_TOP + 0.2 * START_HEIGHT + 0.8 * d * START_HEIGHT + max(dz, 0.0)))


def height(s: Scene) -> float:
    """Height of the gear's lower face [m]."""
    return s.robot.tip_position[2]


@shared
def tip_to_shaft(s: Scene) -> Vector:
    """Vector from the gear's lower face to the shaft's top, world frame [m], (3,)."""
    return subtract(s.memory.top, s.robot.tip_position)


@shared
def phase(s: Scene) -> float:
    """Turn that puts the gear's teeth into the gaps of the mate [rad], within half a tooth."""
    mate_angle = s["mate"].joint_states[0][0]
    return phase_error(yaw_of_gear(s.robot.tip_pose[1]), mate_angle, s.memory.direction)


def mesh_phase(s: Scene) -> Vector:
    """Sine and cosine of the phase error, a full circle for a tooth, as a camera sees it, (2,)."""
    return sin(TEETH * phase(s)), cos(TEETH * phase(s))


def mate_speed(s: Scene) -> float:
    """Speed of the mate [rad/s]."""
    return s["mate"].joint_states[0][1]


def yaw_rate(s: Scene) -> float:
    """Speed at which the gear turns [rad/s]."""
    return s.robot.tip_turning[2]


def wrench(s: Scene) -> Vector:
    """Force and torque between flange and tool, sensor frame [N, Nm], (6,)."""
    return s.robot.wrench


def reach(s: Scene) -> float:
    """1 when seated, 0.1 at 5 cm."""
    x, y, _ = tip_to_shaft(s)
    return terms.tolerance(hypot(x, y, height(s) - COLLAR), 0.0, 0.0, REACH_MARGIN)


def align(s: Scene) -> float:
    """1 on the axis of the shaft, 0.1 at 5 mm from it."""
    return terms.tolerance(hypot(*tip_to_shaft(s)[:2]), 0.0, 0.0, ALIGN_MARGIN)


def in_phase(s: Scene) -> float:
    """1 with the teeth in the gaps of the mate, 0.1 at 0.15 rad from there."""
    return terms.tolerance(phase(s), 0.0, 0.0, PHASE_MARGIN)


def down(s: Scene) -> float:
    """Share of the way down the shaft, and of the teeth's overlap, a half each."""
    if hypot(*tip_to_shaft(s)[:2]) > SHAFT_RADIUS:
        return 0.0
    on_shaft = (SHAFT_TOP - height(s)) / (SHAFT_TOP - COLLAR - FACE)
    return 0.5 * min(max(on_shaft, 0.0), 1.0) + 0.5 * min(overlap(s), 1.0)


def time(s: Scene) -> float:
    """1 each step; its weight is the sum of the weights above, so that being done is worth more than any waiting."""
    return 1.0


def contact_force(s: Scene) -> float:
    """Mean contact force of the control step over 20 N, at most 1."""
    return min((s.sensors["on_shaft"].mean + s.sensors["on_mate"].mean) / FORCE_SCALE, 1.0)


def finished(s: Scene) -> float:
    """1 with the gear seated and running with its mate."""
    return float(meshed(s))


def stopped(s: Scene) -> float:
    """1 when the force limit ended the episode."""
    return float(pressed_too_hard(s))


def overlap(s: Scene) -> float:
    """Share of the face width by which the teeth overlap."""
    x, y, _ = tip_to_shaft(s)
    return max((COLLAR + FACE - height(s)) / FACE, 0.0) if hypot(x, y) < SHAFT_RADIUS else 0.0


@shared
def meshed(s: Scene) -> bool:
    running = mate_speed(s) / s.memory.speed > RUNNING
    return overlap(s) > SEATED and running and not pressed_too_hard(s)


def peak_force(s: Scene) -> float:
    """Largest contact force of the episode [N]."""
    return max(s.sensors["on_shaft"].peak, s.sensors["on_mate"].peak)


def pressed_too_hard(s: Scene) -> bool:
    return peak_force(s) > FORCE_LIMIT


def ramp(x: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, a straight line between."""
    return min(max((x - low) / (high - low), 0.0), 1.0)


def expert(s: Scene) -> list[float]:
    """Goes over the shaft, down to the teeth, and on when they stand right; turns with the mate. Remembers nothing."""
    x, y, _ = tip_to_shaft(s)
    z, turn = height(s), phase(s)
    teeth = COLLAR + FACE
    wait, ready = SHAFT_TOP, 1.0 - ramp(hypot(x, y), CENTRED, 2 * CENTRED)
    if z < SHAFT_TOP - 0.002:
        wait, ready = teeth, 1.0 - ramp(abs(turn), IN_PHASE, 2 * IN_PHASE)
        if z < teeth - 0.001:
            ready = 1.0
    pull_down = GENTLE if z - wait < 3 * ABOVE else PULL
    vz = -pull_down * ready + (1.0 - ready) * min(max(0.8 * (wait + ABOVE - z), -PULL), PULL)
    yaw = 0.4 * turn - DRAG * s.memory.speed
    command = (0.8 * x / PULL, 0.8 * y / PULL, vz / PULL, yaw / TURN)
    return [min(max(v, -1.0), 1.0) for v in command]


TASK = Task(
    id="GearMeshing-v0",
    suite="assembly",
    summary="seat a held gear on its shaft and in the teeth of a running mate, force-limited",
    robot=PANDA_GEAR,
    control_hz=20,
    physics=Physics(hz=120, solver_iterations=20, contact_threshold=0.002, gravity=0.0),
    episode_s=12.0,
    hold_s=0.3,
    actions=(CompliantPull(reach=PULL, turn=TURN),),
    observations=(
        Observation("tip_to_shaft", tip_to_shaft, (3,), "m", -0.3, 0.3, noise_std=0.0005, bias_std=0.00025),
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -0.5, 0.5, noise_std=0.002),
        Observation("yaw_rate", yaw_rate, (1,), "rad/s", -5.0, 5.0, noise_std=0.01),
        Observation("mesh_phase", mesh_phase, (2,), "1", -1.0, 1.0, frame="mate", noise_std=0.1),
        Observation("mate_speed", mate_speed, (1,), "rad/s", -1.0, 1.0, frame="mate", noise_std=0.02),
        Observation("wrench", wrench, (6,), "N, Nm", -100.0, 100.0, frame="flange", noise_std=0.05),
        Observation("previous_action", terms.previous_action, (4,), "1", -1.0, 1.0, frame="policy"),
    ),
    rewards=(
        Reward("reach", reach, weight=0.3),
        Reward("align", align, weight=0.3),
        Reward("in_phase", in_phase, weight=0.3),
        Reward("down", down, weight=0.6),
        Reward("time", time, weight=-1.5),
        Reward("contact_force", contact_force, weight=-0.2),
        Reward("finished", finished, weight=END_BONUS),
        Reward("stopped", stopped, weight=-STOP_COST),
    ),
    randomization=(
        Randomize("mate_speed", 0.15, 0.4, "rad/s", lambda s, value: setattr(s.memory, "mate_speed", value)),
        Randomize("mate_torque", 0.5, 1.0, "Nm", lambda s, value: setattr(s.memory, "mate_torque", value)),
        Randomize("centre_distance", 0.0, 0.0005, "m", lambda s, value: setattr(s.memory, "centre_distance", value)),
        Randomize("tooth_friction", 0.05, 0.2, "1", lambda s, value: s["mate"].set_dynamics(0, lateralFriction=value)),
    ),
    metrics=(
        Metric("peak_force", peak_force, "N"),
        Metric("overlap", overlap, "1"),
        Metric("phase_error", lambda s: abs(phase(s)), "rad", "How far the teeth are from the middle of the gaps."),
    ),
    build=build,
    reset=reset,
    success=meshed,
    failure=pressed_too_hard,
    expert=expert,
    solved_at=0.9,
    camera=Camera(eye=(0.76, 0.24, 0.2), target=(0.5, 0.02, 0.08)),
)
