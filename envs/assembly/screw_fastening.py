"""ScrewFastening: place a screw in its hole, drive it in, and stop in the torque window.

Goal      M4 screw seated, its torque within 10 % of 2.4 Nm, the spindle at rest for 0.25 s.
Start     screw on the bit, 2 cm above the part and up to 2 cm beside the hole, whose place is known to 0.2 mm.
Ends      success; failure when it is cross-threaded, tightened too far, pressed too hard or lost; 20 s (truncated).
Physics   the part's surface is a stop of the screw along the hole's axis, and its thread a gear between turn and feed
          (`parts.screw`). Screw and bit have no other collision shapes; the screw keeps the bit 1 cm above the part.
Reward    near, down, turned, tightened, each 0 to 1, less the cost of time; the end, good or bad.
Sources   M4: ISO 261, ISO 4762; 2.4 Nm: four fifths of the 3 Nm usual for M4 of class 8.8 (VDI 2230); window of
          10 %: our choice; `tolerance`: arXiv:1801.00690.
"""

from __future__ import annotations

from math import hypot, tau

from physai_envs import terms
from physai_envs.control import EndEffectorTwist, SpindleSpeed
from physai_envs.parts.screw import LENGTH, PITCH, Hole, Screw
from physai_envs.parts.table import add_table
from physai_envs.robots.panda import PANDA_SCREWDRIVER
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Box, Physics, Vector, quaternion_from_euler

TARGET, WINDOW = 2.4, 0.1  # Nm, and its share to each side
HOLE_CENTRE, HOLE_RANGE = (0.5, 0.0), 0.05  # m
MOUTH = 0.05  # m, height of the part above the table
START_HEIGHT, START_RANGE = 0.02, 0.02  # m above the mouth, and to each side
TILT = 0.009  # rad, of the part to each side
DEPTH, DEPTH_RANGE = 0.0056, 0.0004  # m, at which the screw is seated: 8 turns, and 0.6 of one to each side
SPEED = 0.02  # m/s: tenths of a millimetre are to be seen in the command
SPINDLE = SpindleSpeed(speed=12.0, reverse=3.0, torque=4.0)  # rad/s and Nm
SPAN = SPINDLE.speed + SPINDLE.reverse
SLIDE, SPIN = 7, 8  # columns of the tool's joints, after the seven of the arm
FORCE_LIMIT = 18.0  # N: the bit is nearly at the end of its travel, beyond which the arm presses without a spring
SLIPPED = 0.003  # m, between bit and screw: the bit has left the screw
AT_REST = 0.3  # rad/s
REACH, FINE = 0.05, 0.002  # m, distances at which `near` and `centred` are down to 0.1

# The expert
GAIN, SIDE_GAIN = 5.0, 10.0  # 1/s, how fast it closes its errors along and across
HOVER, ON_AXIS, OFF_AXIS = 0.003, 0.0005, 0.0015  # m: waits over the mouth until it is on the axis
SLOW = 0.008  # m/s, on the last millimetres, in which it comes to the axis as well as its camera allows
PRESS = 8.0  # N
CATCHING, CAREFUL = 5.0, 4.0  # rad/s: to find the thread, and from shortly before the seat; full speed between
EARLY = 0.0002  # m before the earliest seat
TIGHTEN = 2.0  # rad/s for each Nm that is missing
END_BONUS, END_COST = 20.0, 30.0


def build(s: Scene) -> None:
    add_table(s.world)
    steel, dark = (0.55, 0.58, 0.62, 1.0), (0.1, 0.1, 0.1, 1.0)
    part = [  # looks alone: where the screw touches it, and what happens then, is in `Screw`
        Box((0.05, 0.05, 0.01), (0.0, 0.0, -0.01), solid=False),
        Box((0.035, 0.035, 0.015), (0.0, 0.0, -0.035), color=(0.25, 0.45, 0.7, 1.0), solid=False),
        Box((0.0023, 0.0023, 0.0003), (0.0, 0.0, 0.0), color=dark, solid=False),
    ]
    s.world.compound("part", part, color=steel)
    s.add_sensor("screw", Screw(s.world, s.robot, lambda: bit_force(s)))


def reset(s: Scene) -> None:
    m, d = s.memory, s.difficulty
    x, y = (s.rng.uniform(-HOLE_RANGE, HOLE_RANGE, 2) + HOLE_CENTRE).tolist()
    m.mouth = (x, y, MOUTH)
    dx, dy = (d * s.rng.uniform(-START_RANGE, START_RANGE, 2)).tolist()
    s.robot.place_tip((x + dx, y + dy, MOUTH + LENGTH + START_HEIGHT * (0.2 + 0.8 * d)))
    roll, pitch = (d * s.rng.uniform(-TILT, TILT, 2)).tolist()
    tilt = quaternion_from_euler((roll, pitch, 0.0))
    s["part"].place(m.mouth, tilt)
    start = s.rng.uniform(0.0, tau)
    hole = Hole(depth=m.depth, prevailing=m.prevailing, rate=m.rate, start=start)
    s.sensors["screw"].place(hole, m.mouth, tilt)


def screw(s: Scene) -> Screw:
    """The screw."""
    return s.sensors["screw"]  # type: ignore[no-any-return]


def bit_force(s: Scene) -> float:
    """Force of the bit's spring, of the physics step before [N]."""
    body = s.robot.body
    return SPINDLE.stiffness * max(body.samples[-1][SLIDE][0], 0.0) if body.samples else 0.0


@shared
def tip_to_hole(s: Scene) -> Vector:
    """Vector from the screw's end to the hole's mouth, by the joints of arm and bit, world frame [m], (3,)."""
    x, y, z = s.robot.tip_position
    travel = s.robot.body.joint_states[SLIDE][0]
    mx, my, mz = s.memory.mouth
    return mx - x, my - y, mz - (z + travel - LENGTH)


@shared
def axial_force(s: Scene) -> float:
    """Force with which the bit presses the screw down [N]."""
    return SPINDLE.stiffness * max(s.robot.body.joint_states[SLIDE][0], 0.0)


def spindle_turns(s: Scene) -> float:
    """Turns of the spindle since the start."""
    return s.robot.body.joint_states[SPIN][0] / tau


def spindle_speed(s: Scene) -> float:
    """Speed of the spindle [rad/s]."""
    return s.robot.body.joint_states[SPIN][1]


def spindle_torque(s: Scene) -> float:
    """Torque of the spindle's motor, mean over the control step, by a sensor whose gain is not quite 1 [Nm]."""
    return s.memory.gain * screw(s).motor_torque


def near(s: Scene) -> float:
    """1 with the screw over the hole, 0.1 at 5 cm from its axis."""
    return terms.tolerance(hypot(*screw(s).position[:2]), 0.0, 0.0, REACH)


def centred(s: Scene) -> float:
    """1 with the screw on the hole's axis and at its mouth or in it, 0.1 at 2 mm from there."""
    x, y, z = screw(s).position
    return terms.tolerance(hypot(x, y, max(z, 0.0)), 0.0, 0.0, FINE)


def turned(s: Scene) -> float:
    """Share of the turns that the screw has gone in."""
    return min(max(screw(s).turns * PITCH / screw(s).hole.depth, 0.0), 1.0)


def tightened(s: Scene) -> float:
    """Largest torque since the screw is seated over the target, at most 1."""
    return min(screw(s).peak_torque / TARGET, 1.0) if screw(s).seated else 0.0


def time(s: Scene) -> float:
    """1 each step; its weight is the sum of the weights above, so that being done is worth more than any waiting."""
    return 1.0


def finished(s: Scene) -> float:
    """1 when the screw is tight and the spindle at rest."""
    return float(tight(s))


def scrapped(s: Scene) -> float:
    """1 when the joint is spoilt."""
    return float(spoilt(s))


@shared
def tight(s: Scene) -> bool:
    joint = screw(s)
    in_window = abs(joint.peak_torque - TARGET) <= WINDOW * TARGET
    return joint.seated and in_window and abs(spindle_speed(s)) < AT_REST and not spoilt(s)


@shared
def spoilt(s: Scene) -> bool:
    joint = screw(s)
    too_far = joint.peak_torque > (1.0 + WINDOW) * TARGET
    return joint.crossed or joint.stripped or too_far or axial_force(s) > FORCE_LIMIT or slip(s) > SLIPPED


def slip(s: Scene) -> float:
    """Distance between the end of the bit and the head of the screw [m]."""
    x, y, z = screw(s).position
    dx, dy, dz = tip_to_hole(s)
    return hypot(x + dx, y + dy, z + dz)


def ramp(x: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, a straight line between."""
    return min(max((x - low) / (high - low), 0.0), 1.0)


def expert(s: Scene) -> list[float]:
    """Takes the step of screwdriving that the present state asks for; remembers nothing."""
    joint, force = screw(s), axial_force(s)
    dx, dy, dz = tip_to_hole(s)
    height, follow = -dz, (PRESS - force) / SPINDLE.stiffness  # m that the tool has to go down to press as wanted
    if joint.engaged:
        to_seat = (DEPTH - DEPTH_RANGE - EARLY - (-height)) / PITCH * tau  # rad, to the earliest
        turn = CAREFUL + (SPINDLE.speed - CAREFUL) * ramp(to_seat, 0.0, 4.0)
        turn = min(turn, TIGHTEN * max(TARGET - joint.torque, 0.0)) if joint.torque < 0.98 * TARGET else 0.0
        vz = -PITCH * turn / tau - GAIN * follow
    else:
        off = ramp(hypot(dx, dy), ON_AXIS, OFF_AXIS)
        turn = CATCHING * ramp(force, 1.0, 3.0) * (1.0 - off)
        vz = -GAIN * ((1.0 - off) * (follow + max(height, 0.0)) + off * (height - HOVER))
        vz = max(vz, -SLOW - GAIN * max(height - HOVER, 0.0))
    command = (SIDE_GAIN * dx / SPEED, SIDE_GAIN * dy / SPEED, vz / SPEED, -1.0 + 2.0 * (turn + SPINDLE.reverse) / SPAN)
    return [min(max(v, -1.0), 1.0) for v in command]


TASK = Task(
    id="ScrewFastening-v0",
    suite="assembly",
    summary="place an M4 screw, drive it in and stop at 2.4 Nm, never cross-threaded",
    robot=PANDA_SCREWDRIVER,
    control_hz=20,
    physics=Physics(hz=120, solver_iterations=20, contact_threshold=0.02),
    episode_s=20.0,
    hold_s=0.25,
    actions=(EndEffectorTwist(linear=SPEED), SPINDLE),
    observations=(
        Observation("tip_to_hole", tip_to_hole, (3,), "m", -0.15, 0.15, noise_std=0.0002, bias_std=0.0001),
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -0.3, 0.3, noise_std=0.001),
        Observation("axial_force", axial_force, (1,), "N", 0.0, 50.0, frame="tool", noise_std=0.2),
        Observation("spindle_turns", spindle_turns, (1,), "1", -50.0, 100.0, frame="tool"),
        Observation("spindle_speed", spindle_speed, (1,), "rad/s", -20.0, 20.0, frame="tool", noise_std=0.05),
        Observation("spindle_torque", spindle_torque, (1,), "Nm", -5.0, 5.0, frame="tool", noise_std=0.03),
        Observation("previous_action", terms.previous_action, (4,), "1", -1.0, 1.0, frame="policy"),
    ),
    rewards=(
        Reward("near", near, weight=0.3),
        Reward("centred", centred, weight=0.3),
        Reward("turned", turned, weight=0.4),
        Reward("tightened", tightened, weight=0.5),
        Reward("time", time, weight=-1.5),
        Reward("finished", finished, weight=END_BONUS),
        Reward("scrapped", scrapped, weight=-END_COST),
    ),
    randomization=(
        Randomize("prevailing_torque", 0.1, 0.4, "Nm", lambda s, value: setattr(s.memory, "prevailing", value)),
        Randomize("joint_rate", 1.2, 2.0, "Nm/rad", lambda s, value: setattr(s.memory, "rate", value)),
        Randomize(
            "seat_depth",
            DEPTH - DEPTH_RANGE,
            DEPTH + DEPTH_RANGE,
            "m",
            lambda s, value: setattr(s.memory, "depth", value),
        ),
        Randomize("torque_gain", 0.96, 1.04, "1", lambda s, value: setattr(s.memory, "gain", value)),
    ),
    metrics=(
        Metric(
            "final_torque",
            lambda s: screw(s).peak_torque,
            "Nm",
            "Largest torque of the motor since the screw is seated.",
        ),
        Metric("turns", lambda s: screw(s).turns, "1", "Turns of the spindle."),
        Metric("peak_axial_force", lambda s: screw(s).peak_force, "N", "Largest force along the spindle."),
        Metric(
            "offset_at_engagement",
            lambda s: screw(s).offset,
            "m",
            "Distance from the axis of the hole when the thread caught.",
        ),
        Metric("cross_threaded", lambda s: float(screw(s).crossed), "1", "1 if the thread is spoilt."),
        Metric("takt", lambda s: s.time_s, "s", "From the start to the end."),
    ),
    build=build,
    reset=reset,
    success=tight,
    failure=spoilt,
    expert=expert,
    camera=Camera(eye=(0.7, 0.22, 0.2), target=(0.5, 0.0, 0.1)),
)
