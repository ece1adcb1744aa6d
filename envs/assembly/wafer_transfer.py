"""WaferTransfer: carry a wafer that friction alone holds from one station to another, within a takt.

Goal      300 mm wafer at rest on the three pins of the other station, the fork clear below it, within 0.5 mm of where
          it belongs, and never more than 1 mm from where it lay on the fork.
Start     fork in a station, the wafer lifted off its pins, anywhere within 1.5 mm of the middle of the fork; the other
          station 50 to 130 degrees to the left or right, its place taught with up to 0.15 mm of error an axis.
Ends      success; failure when the wafer has slipped by 1 mm, or it or the fork touches a wall; 4.5 s, the takt
          (truncated).
Reward    progress along the way (out, round, in, down) less the cost of time; slip; success 5, failure -5.
Sources   wafer: SEMI M1; friction of pads of ceramic to elastomer 0.25 to 0.5; robot: assets/robots/wafer_robot.urdf.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, hypot, radians, sin, sqrt

from physai_envs import terms
from physai_envs.geometry import norm
from physai_envs.parts import wafer as parts
from physai_envs.robots.wafer_robot import ARM, DRIVE, PADS, RETRACTED, WAFER_ROBOT
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Physics, Vector, quaternion_from_euler

CONTROL_HZ, TAKT = 20, 4.5  # Hz, s
MOST_DELAY = 0.05  # s, of a command, from a controller at the end of a network
WITHIN, MOST_SLIP = 0.0005, 0.001  # m
PINS = PADS + 0.012  # m, height of the top of the pins
CARRY, CLEAR = 0.008, 0.004  # m, of the pads above the pins on the way, and below them when the wafer is handed over
AMONG = 0.002  # m, of the pads below the pins, from which a station has the wafer
RESTING, SEATED = 0.005, 0.0005  # m/s and m, slower and nearer to the pins than this the wafer lies there
TILTED = 0.02  # sine of the slope at which a wafer has fallen off
FAR = 0.71  # m, of the station where it starts from the axis of the robot
NEAR, FARTHEST = 0.70, 0.725  # m, of the other one
LEAST_SWING, MOST_SWING = radians(50), radians(130)
BOLT = 2000.0  # N, what holds the fork on the hand
FREE = (
    FAR - parts.RADIUS + parts.DEPTH[0] - 0.02
)  # m: with its centre inside of this, the wafer passes a station's walls

# The expert
PUSH, TURN = 1.6, 1.3  # m/s2, of extension and of swing at the wafer, whose friction bears 2.45 at least
AHEAD = 3.0  # control steps of acceleration that a command runs ahead of the speed, which shows it only later
SWING = 1.5  # rad/s
GAIN, LAG = 7.0, 0.04  # 1/s, how fast it closes small errors; s, until what it says is done
INLINE = 0.04  # rad, from the line into the station where it begins to go in
ALIGNED, UNALIGNED, SETTLE = 0.0002, 0.0005, 0.02  # m, m, s: it goes down within, not beyond; what speed adds to it
LOWER, LIFT_GAIN = 0.03, 4.0  # m/s, 1/s
TOUCHING = 0.0003  # m, of the pads above the pins


def build(s: Scene) -> None:
    world = s.world
    world.box("plate", (0.95, 0.95, 0.01), (0.0, 0.0, -0.01), color=(0.90, 0.91, 0.93, 1.0), scenery=True)
    parts.add_station(world, "source")
    parts.add_station(world, "station")
    parts.add_fork(world, "fork")
    parts.add_wafer(world, "wafer")


def reset(s: Scene) -> None:
    rng, m, drawn = s.rng, s.memory, s.randomization
    swing = float(rng.uniform(LEAST_SWING, MOST_SWING)) * (1.0 if rng.random() < 0.5 else -1.0)
    middle = float(rng.uniform(-0.3, 0.3))
    start, angle, radius = middle - 0.5 * swing, middle + 0.5 * swing, float(rng.uniform(NEAR, FARTHEST))
    m.taught = (angle, radius)
    m.goal = (
        radius * cos(angle) + drawn["taught_error_x"], radius * sin(angle) + drawn["taught_error_y"], PINS
    )  # fmt: skip
    s["source"].place((FAR * cos(start), FAR * sin(start), PINS), quaternion_from_euler((0.0, 0.0, start)))
    s["station"].place(m.goal, quaternion_from_euler((0.0, 0.0, angle)))
    put_fork(s, *_on_the_way(s, start))
    s.robot.drive.taught, s.robot.drive.stiffness_hz = m.taught, drawn["drive_stiffness"]
    m.at_start, m.slip = wafer_offset(s), 0.0
    m.last_way = way_left(s)


def put_fork(s: Scene, angle: float, radius: float) -> None:
    """Puts fork and wafer at a place of the robot's polar frame, at rest and at the height to carry [rad, m]."""
    x, y, z = radius * cos(angle), radius * sin(angle), PINS + CARRY
    turned = quaternion_from_euler((0.0, 0.0, angle))
    s.robot.body.set_joints((z - PADS, *ARM.joints(angle, radius)))
    s["fork"].place((x, y, z), turned)
    s.world.attach(s.robot.body, s["fork"], BOLT, parent_link=s.robot.last_link)
    along, across = s.randomization["offset_along"], s.randomization["offset_across"]
    x, y = x + cos(angle) * along - sin(angle) * across, y + sin(angle) * along + cos(angle) * across
    s["wafer"].place((x, y, z + 0.5 * parts.THICKNESS), turned)


def _on_the_way(s: Scene, start: float) -> Vector:
    """Angle and radius of the start: in the source at difficulty 1, along the way to the station below, there at 0."""
    angle, radius = s.memory.taught
    pieces = (radius - RETRACTED, RETRACTED * abs(start - angle), FAR - RETRACTED)
    left = s.difficulty * sum(pieces)
    if left < pieces[0]:
        return angle, radius - left
    left -= pieces[0]
    if left < pieces[1]:
        return angle + (start - angle) * left / pieces[1], RETRACTED
    return start, RETRACTED + left - pieces[1]


def process(s: Scene) -> None:
    """Before every control step: remembers the slip so far, and the way that is left."""
    s.memory.slip = slip(s)
    s.memory.last_way = way_left(s)


@dataclass(slots=True)
class Fork:
    """Where the fork is by the joints: angle [rad], radius [m], height of the pads over the pins [m]; their speeds."""

    angle: float
    radius: float
    height: float
    swing: float
    out: float
    lift: float


@shared
def fork(s: Scene) -> Fork:
    """The present place of the fork."""
    lift, shoulder, elbow, wrist = s.robot.joint_positions
    x, y, yaw = ARM.place(shoulder, elbow, wrist)
    rise, turn, fold, twist = s.robot.joint_velocities
    radius = hypot(x, y)
    # the links fold alike, so that half of the elbow's speed is theirs
    return Fork(yaw, radius, PADS + lift - PINS, turn + fold + twist, -0.5 * fold / ARM.bend(radius), rise)


@shared
def wafer_offset(s: Scene) -> Vector:
    """Place of the wafer on the fork: along and across, from the fork's middle [m], (2,)."""
    (fx, fy, _), (_, _, qz, qw) = s["fork"].pose
    x, y, _ = s["wafer"].position
    c, n = qw * qw - qz * qz, 2.0 * qw * qz
    return c * (x - fx) + n * (y - fy), c * (y - fy) - n * (x - fx)


@shared
def handed_over(s: Scene) -> bool:
    """Whether the pads are clear below the pins, so that the wafer is no longer on the fork."""
    return fork(s).height < -AMONG


@shared
def slip(s: Scene) -> float:
    """Largest distance so far of the wafer from where it lay on the fork at the start [m]."""
    if handed_over(s):
        return float(s.memory.slip)
    (x, y), (x0, y0) = wafer_offset(s), s.memory.at_start
    return max(s.memory.slip, hypot(x - x0, y - y0))


@shared
def to_station(s: Scene) -> Vector:
    """Swing [rad], extension and lift [m] from the fork to the taught place, at the height to carry, (3,)."""
    f, (angle, radius) = fork(s), s.memory.taught
    return angle - f.angle, radius - f.radius, CARRY - f.height


def to_station_fine(s: Scene) -> Vector:
    """The last millimetres of it: across and along the fork [m], (2,)."""
    turn, out, _ = to_station(s)
    return turn * s.memory.taught[1], out


def speeds(s: Scene) -> Vector:
    """Speeds of swing [rad/s], extension and lift [m/s], (3,)."""
    f = fork(s)
    return f.swing, f.out, f.lift


def radius(s: Scene) -> float:
    """Distance of the fork's middle from the axis of the robot [m]."""
    return fork(s).radius


@shared
def placement_error(s: Scene) -> float:
    """Horizontal distance of the wafer from where it belongs [m]."""
    (x, y, _), (gx, gy, _) = s["wafer"].position, s.memory.goal
    return hypot(x - gx, y - gy)


@shared
def way_left(s: Scene) -> float:
    """Way of the fork still to go: out, round, in and down [m]."""
    f = fork(s)
    turn, out, _ = to_station(s)
    turning = min(1.0, abs(turn) / 0.1)
    there = hypot(out, f.radius * min(abs(turn), 0.1))
    round_ = max(0.0, f.radius - RETRACTED) + s.memory.taught[1] - RETRACTED + RETRACTED * abs(turn)
    return turning * round_ + (1.0 - turning) * there + max(0.0, f.height + CLEAR)


def progress(s: Scene) -> float:
    """Way made in this step, as a share of the farthest that the extension can go, -1 to 1."""
    return min(1.0, max(-1.0, (s.memory.last_way - way_left(s)) * CONTROL_HZ / DRIVE.radial))


def slipping(s: Scene) -> float:
    """Slip so far, as a share of what is allowed, at most 1."""
    return min(1.0, slip(s) / MOST_SLIP)


def time(s: Scene) -> float:
    """1 in every step: time costs."""
    return 1.0


@shared
def placed(s: Scene) -> bool:
    wafer = s["wafer"]
    if fork(s).height > -AMONG or placement_error(s) > WITHIN or slip(s) > MOST_SLIP:
        return False
    seated = abs(wafer.position[2] - 0.5 * parts.THICKNESS - PINS) < SEATED
    return seated and norm(wafer.velocity[0]) < RESTING


@shared
def spoiled(s: Scene) -> bool:
    """Whether the wafer has slipped or fallen, or it or the fork has touched a wall."""
    wafer, forked = s["wafer"], s["fork"]
    if slip(s) > MOST_SLIP or parts.tilt(wafer) > TILTED:
        return True
    if fork(s).radius < FREE:
        return False
    stations = (s["source"], s["station"])
    return any(s.world.touching(forked, st) for st in stations) or parts.touches_wall(s.world, wafer, stations)


def success_bonus(s: Scene) -> float:
    """1 with the wafer placed; ends the episode."""
    return float(placed(s))


def failure_cost(s: Scene) -> float:
    """1 with the wafer spoiled; ends the episode."""
    return float(spoiled(s))


def _speed(distance: float, now: float, acceleration: float) -> float:
    """Speed that takes to a place without more than `acceleration`, however late it is set; the drives ramp it."""
    left = abs(distance - LAG * now)
    near = acceleration / GAIN**2
    speed = GAIN * left if left < near else sqrt(2.0 * acceleration * (left - 0.5 * near))
    wanted = speed if distance > LAG * now else -speed
    change = AHEAD * acceleration / CONTROL_HZ
    return min(max(wanted, now - change), now + change)


def expert(s: Scene) -> list[float]:
    """Out, round, in and down, each as soon as there is room, with what acceleration the least friction bears."""
    f, (turn, out, _), (along, across) = fork(s), to_station(s), wafer_offset(s)
    turn -= across / s.memory.taught[1]
    out -= along
    inline = min(1.0, max(0.0, 2.0 - abs(turn) / INLINE))  # 1 below INLINE, 0 from twice that on
    free = min(1.0, max(0.0, (FREE + 0.02 - f.radius) / 0.02))
    swing = _speed(turn * f.radius, f.swing * f.radius, TURN) / f.radius * max(free, inline)
    swing = min(SWING, max(-SWING, swing))
    reach = _speed(inline * out + (1.0 - inline) * (RETRACTED - f.radius), f.out, PUSH)
    off = hypot(turn * s.memory.taught[1], out) + SETTLE * hypot(f.out, f.swing * f.radius)
    down = min(1.0, max(0.0, (UNALIGNED - off) / (UNALIGNED - ALIGNED)))
    lift = LIFT_GAIN * (CARRY - f.height) * (1.0 - down) - down * LOWER
    if f.height < TOUCHING:
        swing = reach = 0.0
        lift = -LOWER
    share = DRIVE.share(f.angle, f.radius, s.memory.taught)
    return [
        min(max(v / most, -1.0), 1.0)
        for v, most in ((swing, share * DRIVE.swing), (reach, share * DRIVE.radial), (lift, DRIVE.lift))
    ]


def set_friction(s: Scene, friction: float) -> None:
    s["wafer"].set_dynamics(lateralFriction=friction)


def set_mass(s: Scene, kilograms: float) -> None:
    s["wafer"].set_dynamics(mass=kilograms)


def by_reset(s: Scene, value: float) -> None:
    """Nothing to apply: `reset` reads it."""


TASK = Task(
    id="WaferTransfer-v0",
    suite="assembly",
    summary="carry a 300 mm wafer held by friction alone from station to station, within 0.5 mm and a takt",
    robot=WAFER_ROBOT,
    control_hz=CONTROL_HZ,
    physics=Physics(hz=240, solver_iterations=20, contact_threshold=0.002),
    episode_s=TAKT,
    hold_s=0.1,
    actions=(DRIVE,),
    observations=(
        Observation(
            "to_station",
            to_station,
            (3,),
            "rad, m, m",
            (-2.6, -0.5, -0.03),
            (2.6, 0.5, 0.03),
            frame="robot",
            noise_std=2e-5,
        ),
        Observation("to_station_fine", to_station_fine, (2,), "m", -0.008, 0.008, frame="fork", noise_std=2e-5),
        Observation(
            "wafer_offset", wafer_offset, (2,), "m", -0.005, 0.005, frame="fork", noise_std=1e-4, bias_std=5e-5
        ),
        Observation("radius", radius, (1,), "m", 0.3, 0.8, frame="robot", noise_std=2e-5),
        Observation(
            "speeds",
            speeds,
            (3,),
            "rad/s, m/s, m/s",
            (-3.0, -1.5, -0.1),
            (3.0, 1.5, 0.1),
            frame="robot",
            noise_std=0.001,
        ),
    ),
    rewards=(
        Reward("progress", progress, weight=0.15, low=-1.0),
        Reward("slipping", slipping, weight=-0.02),
        Reward("time", time, weight=-0.02),
        Reward("success", success_bonus, weight=5.0),
        Reward("failure", failure_cost, weight=-5.0),
    ),
    randomization=(
        Randomize("friction", 0.25, 0.5, "1", set_friction),
        Randomize("wafer_mass", 0.10, 0.16, "kg", set_mass),
        Randomize("offset_along", -0.0015, 0.0015, "m", by_reset),
        Randomize("offset_across", -0.0015, 0.0015, "m", by_reset),
        Randomize("taught_error_x", -0.00015, 0.00015, "m", by_reset),
        Randomize("taught_error_y", -0.00015, 0.00015, "m", by_reset),
        Randomize("drive_stiffness", 12.0, 25.0, "Hz", by_reset),
        Randomize("command_delay", 0.0, MOST_DELAY, "s", terms.set_command_delay),
    ),
    metrics=(
        Metric("slip", slip, "m"),
        Metric("placement_error", placement_error, "m"),
        Metric("takt", lambda s: s.time_s, "s", "From the start to the end."),
        Metric(
            "peak_acceleration", lambda s: s.robot.drive.peak_acceleration, "m/s2", "Largest acceleration of the fork."
        ),
    ),
    process=process,
    build=build,
    reset=reset,
    success=placed,
    failure=spoiled,
    expert=expert,
    solved_at=0.98,
    camera=Camera(eye=(1.75, 0.0, 1.45), target=(0.36, 0.0, 0.28), field_of_view_deg=42.0),
)
