"""OpenDoor: turn the lever handle of a cupboard until its bolt is back, and swing the door open.

Goal      door open by 60 degrees.
Start     door shut and bolted, its handle anywhere in 7 x 7 x 12 cm and the cupboard turned by up to 8 degrees; hand
          pointing ahead with open fingers, 11 to 19 cm before the handle. A camera estimates where the handle is, with
          noise of 2 mm and a constant error of 3 mm along each axis, and how leaf, lever and cupboard are turned, with
          noise of a degree and a constant error of half of one, all of it 50 ms late. Nothing measures the angle of the
          hinge or the bolt.
Ends      success; failure when arm and door press on each other with more than 250 N; 8 s (truncated).
Physics   hinge and lever with friction and springs; the bolt is a stop of the hinge, moved by the lever (`parts.door`).
          Its friction in the strike is left out, which would make the lever heavy for one that pulls too early.
Reward    near, gripped, unlatched and opened, less the cost of time; a stop by force.
Sources   gripper: Franka Hand (assets/tools/gripper.urdf); door: assets/furniture/door.urdf and `parts/door.py`;
          `tolerance`: arXiv:1801.00690.
"""

from __future__ import annotations

from math import cos, pi, radians, sin

from physai_envs import handles, terms
from physai_envs.control import EndEffectorTwist, GripperSpeed
from physai_envs.geometry import rotation_error
from physai_envs.parts.door import GRIP, RELEASE, SPINDLE, STANDOFF, Door
from physai_envs.robots.panda import PANDA_BESIDE
from physai_envs.sensors import ContactMeter
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Physics, Vector

OPENED = radians(60.0)
HANDLE_LOW, HANDLE_HIGH = (0.205, 0.58, 0.54), (0.275, 0.65, 0.66)  # m
MAX_TURN = radians(8.0)  # of the cupboard, to either side
START_LOW, START_HIGH = (0.07, 0.58, 0.54), (0.10, 0.66, 0.66)  # m, of the tip
EASY_AWAY = 0.06  # m, of the tip before the handle at difficulty 0
AHEAD = (0.5, 0.5, 0.5, 0.5)  # orientation of a hand that points along x and closes up and down
SPEED, TURN_RATE = 0.35, 1.2  # m/s and rad/s, of each axis
FINGER_FORCE = 50.0  # N, of a finger; the hand holds 70 N for as long as one likes
PRESS_SPEED = 0.12  # m/s, told to blocked fingers: no less than 0.104 at 240 Hz, 20 iterations and 0.1 kg
BLOCKED_SPEED = 0.08  # m/s, of both fingers around a bar; they close at 0.1 m/s where nothing is
BEFORE, ASIDE, ACROSS = 0.009, 0.03, 0.025  # m: a bar that is not farther off is between the fingers
DEEP = 0.004  # m, by which the tip is to be behind the middle of the bar, so that the pads cover it
AJAR = radians(2.0)  # from there on the bolt is out of the strike for certain

# The expert
HOVER = 0.07  # m before the handle, until the fingers would pass above and below it
GAIN = 6.0  # 1/s, how fast it closes its errors
PRESSED = radians(44.0)  # how far it turns the lever: beyond the release by more than the camera errs
PULLING = radians(38.0)  # from there on it pulls a door that is shut
LET_UP, LET_GO = radians(5.0), radians(20.0)  # of the door: it lets the lever turn back from the one to the other
LEVER_RATE, SWING_RATE, HASTE = 1.2, 0.8, 0.25  # rad/s: of lever and door, and how much faster than the door it pulls


def build(s: Scene) -> None:
    s.world.box("floor", (1.3, 1.3, 0.01), (0.1, 0.2, -0.01), color=handles.FLOOR, scenery=True)
    s.memory.door = s.memory.furniture = Door(s.world)
    s.add_sensor("door", s.memory.door)
    body = s.memory.door.body
    s.add_sensor(handles.contact_of(body), ContactMeter(s.world, s.robot.body, body))


def reset(s: Scene) -> None:
    m, drawn, d = s.memory, s.randomization, s.difficulty
    handle, start = s.rng.uniform(HANDLE_LOW, HANDLE_HIGH).tolist(), s.rng.uniform(START_LOW, START_HIGH).tolist()
    m.door.place(handle, pi + d * float(s.rng.uniform(-MAX_TURN, MAX_TURN)))
    m.door.set_hinge(drawn["hinge_friction"], drawn["closer_moment"])
    m.door.set_lever(drawn["lever_stiffness"], drawn["handle_friction"])
    x, y, z = handle
    easy = (x + EASY_AWAY * cos(m.door.yaw), y + EASY_AWAY * sin(m.door.yaw), z)
    s.robot.place_tip(tuple(a + d * (b - a) for a, b in zip(easy, start, strict=True)))
    m.gripped_at, m.slip = None, 0.0


def process(s: Scene) -> None:
    """Before every control step: remembers how far the bar has moved between the fingers since it was gripped."""
    m = s.memory
    if holding(s):
        m.gripped_at = m.gripped_at or from_front(s)
        m.slip = max(m.slip, abs(from_front(s)[1] - m.gripped_at[1]), abs(from_front(s)[0] - m.gripped_at[0]))


def opening(s: Scene) -> float:
    """Angle by which the door is open [rad]."""
    return s.memory.door.opening


def lever_turn(s: Scene) -> float:
    """Angle by which the lever is turned down [rad]."""
    return s.memory.door.turned


@shared
def leaf_yaw(s: Scene) -> float:
    """Angle about the vertical by which the leaf is turned away from facing along -x [rad]."""
    return s.memory.door.yaw - pi + opening(s)


def cupboard_yaw(s: Scene) -> float:
    """The same of the cupboard [rad]."""
    return s.memory.door.yaw - pi


@shared
def hand_turn(s: Scene) -> Vector:
    """Rotation vector of the hand away from pointing along x, world frame [rad, to first order], (3,)."""
    return rotation_error(s.robot.tip_pose[1], AHEAD)


@shared
def from_front(s: Scene) -> Vector:
    """Way from the tip to the middle of the grip: towards the leaf, along the bar and across it [m], (3,)."""
    (x, y, z), yaw, turned = handles.tip_to_handle(s), leaf_yaw(s), lever_turn(s)
    cos_yaw, sin_yaw = cos(yaw), sin(yaw)
    ahead, left = x * cos_yaw + y * sin_yaw, y * cos_yaw - x * sin_yaw
    return ahead, -left * cos(turned) - z * sin(turned), z * cos(turned) - left * sin(turned)


@shared
def between(s: Scene) -> bool:
    """Whether the bar is where closing fingers grip it; they need not let go of what they have begun to close on."""
    slack = 1.0 + 0.5 * float(s.robot.tool_opening[0] < handles.OPEN)
    ahead, aside, up = from_front(s)
    return abs(ahead + DEEP) < slack * BEFORE and abs(aside) < slack * ASIDE and abs(up) < slack * ACROSS


@shared
def holding(s: Scene) -> bool:
    """Whether the fingers press on the bar, as width, speed and force of the gripper tell."""
    return handles.blocked(s, BLOCKED_SPEED, FINGER_FORCE) and between(s)


def wrench(s: Scene) -> Vector:
    """Force and torque between flange and hand, its weight included, sensor frame [N, Nm], (6,)."""
    return s.robot.wrench


def gripped(s: Scene) -> float:
    """1 with the bar between blocked fingers."""
    return float(holding(s))


def unlatched(s: Scene) -> float:
    """Share of the way on which the lever draws back the bolt; 1 as soon as the door is ajar."""
    return 1.0 if opening(s) > AJAR else min(max(lever_turn(s) / RELEASE, 0.0), 1.0)


def opened(s: Scene) -> float:
    """Share of the 60 degrees by which the door is open."""
    return min(max(opening(s) / OPENED, 0.0), 1.0)


def is_open(s: Scene) -> bool:
    return opening(s) >= OPENED and not handles.pressed_too_hard(s)


def expert(s: Scene) -> list[float]:
    """Takes the step of approach, grip, turn and swing that the present state asks for; remembers nothing."""
    yaw, turned = leaf_yaw(s), lever_turn(s)
    ahead, aside, up = from_front(s)
    swing, lever, grip = s.memory.door.speed, 0.0, -1.0  # rad/s: it follows a door that falls shut
    if holding(s):
        swing, lever = _turning(s)
        ahead = -DEEP
    elif not between(s):
        grip = 1.0
        off = max(abs(aside) / ASIDE, abs(up) / ACROSS, 3.0 * (handles.OPEN - s.robot.tool_opening[0]) / handles.OPEN)
        ahead -= HOVER * min(max(2.0 * off - 1.0, 0.0), 1.0)
    # of the grip, in the leaf's frame: x towards the leaf, y from the bar's end to the spindle, z up
    across, down = cos(turned), sin(turned)
    vx = GAIN * (ahead + DEEP) - swing * (SPINDLE - GRIP * across)
    vy = GAIN * (-aside * across - up * down) + lever * GRIP * down - swing * STANDOFF
    vz = GAIN * (up * across - aside * down) - lever * GRIP * across
    wanted = (0.0, 0.0, sin(0.5 * yaw), cos(0.5 * yaw))
    wanted = _product(_product(wanted, (sin(0.5 * turned), 0.0, 0.0, cos(0.5 * turned))), AHEAD)
    rx, ry, rz = (GAIN * error for error in rotation_error(wanted, s.robot.tip_pose[1]))
    c, n = cos(yaw), sin(yaw)
    velocity = (vx * c - vy * n, vx * n + vy * c, vz)
    rates = (rx + lever * c, ry + lever * n, rz + swing)
    command = (*(v / SPEED for v in velocity), *(r / TURN_RATE for r in rates), grip)
    return [min(max(v, -1.0), 1.0) for v in command]


def _turning(s: Scene) -> tuple[float, float]:
    """How fast the expert swings the door and turns the lever that it holds [rad/s]."""
    opened, turned = opening(s), lever_turn(s)
    down = min(max((LET_GO - opened) / (LET_GO - LET_UP), 0.0), 1.0)
    lever = min(max(GAIN * (PRESSED * down - turned), -LEVER_RATE), LEVER_RATE)
    free = opened > AJAR or turned > PULLING
    return (min(SWING_RATE, s.memory.door.speed + HASTE) if free else 0.0), lever


def _product(a: Vector, b: Vector) -> Vector:
    """Product of two quaternions."""
    (ax, ay, az, aw), (bx, by, bz, bw) = a, b
    return (
        aw * bx + ax * bw + ay * bz - az * by, aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw, aw * bw - ax * bx - ay * by - az * bz,
    )  # fmt: skip


def drawn(s: Scene, value: float) -> None:
    """Nothing to apply: `reset` gives it to the door."""


TASK = Task(
    id="OpenDoor-v0",
    suite="home",
    summary="turn a latched lever handle and swing the door open by 60 degrees",
    robot=PANDA_BESIDE,
    control_hz=20,
    physics=Physics(hz=240, solver_iterations=20, contact_threshold=0.02, contact_erp=0.4),
    episode_s=8.0,
    actions=(
        EndEffectorTwist(linear=SPEED, angular=TURN_RATE, tilt=TURN_RATE),
        GripperSpeed(speed=handles.FINGER_SPEED, force=FINGER_FORCE, press_speed=PRESS_SPEED),
    ),
    observations=(
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -1.0, 1.0, noise_std=0.005),
        Observation("hand_turn", hand_turn, (3,), "rad", -2.0, 2.0, noise_std=0.001),
        Observation(
            "tip_to_handle", handles.tip_to_handle, (3,), "m", -1.0, 1.0, noise_std=0.002, bias_std=0.003, delay_s=0.05
        ),
        Observation("leaf_yaw", leaf_yaw, (1,), "rad", -0.5, 2.0, noise_std=0.02, bias_std=0.01, delay_s=0.05),
        Observation("cupboard_yaw", cupboard_yaw, (1,), "rad", -0.5, 0.5, noise_std=0.02, bias_std=0.01, delay_s=0.05),
        Observation(
            "lever_turn", lever_turn, (1,), "rad", -0.2, 1.3, frame="leaf", noise_std=0.02, bias_std=0.01, delay_s=0.05
        ),
        Observation("wrench", wrench, (6,), "N, Nm", -100.0, 100.0, frame="flange", noise_std=0.1),
        *handles.FELT,
    ),
    rewards=(
        Reward("near", handles.nearness, weight=0.15),
        Reward("gripped", gripped, weight=0.2),
        Reward("unlatched", unlatched, weight=0.2),
        Reward("opened", opened, weight=0.45),
        *handles.COSTS,
    ),
    randomization=(
        Randomize("hinge_friction", 0.3, 1.0, "Nm", drawn),
        Randomize("closer_moment", 0.5, 2.0, "Nm", drawn),
        Randomize("lever_stiffness", 0.6, 1.6, "Nm/rad", drawn),
        Randomize("handle_friction", 0.4, 0.9, "1", drawn),
    ),
    metrics=(Metric("opening", opening, "rad"), *handles.METRICS),
    process=process,
    build=build,
    reset=reset,
    success=is_open,
    failure=handles.pressed_too_hard,
    expert=expert,
    camera=Camera(eye=(-1.05, 1.25, 1.05), target=(0.1, 0.36, 0.54), field_of_view_deg=43.0, light=(-0.6, 0.9, 4.0)),
)
