"""OpenDrawer: grip the handle of a drawer by friction alone, and pull it open.

Goal      drawer open by 90 % of its 25 cm of travel.
Start     drawer closed, its handle anywhere in 8 x 20 x 14 cm and turned by up to 10 degrees, one of three thicknesses;
          hand pointing ahead with open fingers, 15 to 30 cm before the handle. What the camera sees has noise of 2 mm
          and a constant error of 3 mm along each axis. Commands come up to 50 ms late.
Ends      success; failure when hand and chest press on each other with more than 250 N; 6 s (truncated).
Reward    near, gripped and opened, less the cost of time; a stop by force.
Sources   gripper: Franka Hand (assets/tools/gripper.urdf); chest: assets/furniture/drawer.urdf;
          `tolerance`: arXiv:1801.00690.
"""

from __future__ import annotations

from math import pi, sin

from physai_envs import handles, terms
from physai_envs.control import EndEffectorTwist, GripperSpeed
from physai_envs.geometry import norm
from physai_envs.parts.drawer import BARS, TRAVEL, Drawer
from physai_envs.robots.panda import PANDA_AHEAD
from physai_envs.sensors import ContactMeter
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Physics, Vector

OPENED = 0.9 * TRAVEL  # m
HANDLE_LOW, HANDLE_HIGH = (0.58, -0.1, 0.53), (0.66, 0.1, 0.67)  # m
MAX_TURN = pi / 18  # rad, of the chest, to either side
START_LOW, START_HIGH = (0.36, -0.12, 0.52), (0.43, 0.12, 0.68)  # m, of the tip
EASY_AWAY = 0.06  # m, of the tip before the handle at difficulty 0
SPEED = 0.35  # m/s, of each axis
GRIP = 30.0  # N, of a finger; the hand holds 70 N for as long as one likes
BLOCKED_SPEED = 0.01  # m/s, of both fingers around a bar
METER_NEAR = 0.12  # m, from tip to handle: before, nothing of the hand touches the chest
MOST_DELAY = 0.05  # s, of a command, from a controller at the end of a network

# The expert
ALONG, ASIDE, ACROSS = 0.009, 0.05, 0.025  # m: a bar that is not farther off is between the fingers
HOVER = 0.08  # m before the handle, until the fingers would pass above and below it
GAIN = 8.0  # 1/s, how fast it closes its errors
PULL, HASTE = 0.3, 0.05  # m/s: when pulling, and how much faster than the drawer: more pulls the bar out


def build(s: Scene) -> None:
    s.world.box("floor", (1.3, 1.3, 0.01), (0.3, 0.0, -0.01), color=handles.FLOOR, scenery=True)
    drawer = s.memory.drawer = s.memory.furniture = Drawer(s.world)
    for chest in drawer.chests:
        meter = ContactMeter(s.world, s.robot.body, chest, lambda c=chest: c is drawer.body and near(s))
        s.add_sensor(handles.contact_of(chest), meter)


def reset(s: Scene) -> None:
    m, drawn, d = s.memory, s.randomization, s.difficulty
    handle, start = s.rng.uniform(HANDLE_LOW, HANDLE_HIGH).tolist(), s.rng.uniform(START_LOW, START_HIGH).tolist()
    m.turn = d * float(s.rng.uniform(-MAX_TURN, MAX_TURN))
    m.drawer.place(handle, pi + m.turn, int(s.rng.integers(len(BARS))))
    m.drawer.set_mass(drawn["drawer_mass"])
    m.drawer.set_friction(drawn["rail_friction"], drawn["handle_friction"])
    (x, y, z), (ox, oy) = handle, m.drawer.out
    easy = (x + EASY_AWAY * ox, y + EASY_AWAY * oy, z)
    s.robot.place_tip(tuple(a + d * (b - a) for a, b in zip(easy, start, strict=True)))
    m.gripped_at, m.slip = None, 0.0


def process(s: Scene) -> None:
    """Before every control step: remembers how far the handle has moved between the fingers since it was gripped."""
    m = s.memory
    if holding(s):
        m.gripped_at = m.gripped_at or from_front(s)
        m.slip = max(m.slip, abs(from_front(s)[0] - m.gripped_at[0]))


def turn(s: Scene) -> float:
    """Sine of the angle by which the chest is turned away from facing the arm."""
    return sin(s.memory.turn)


def opening(s: Scene) -> float:
    """How far the drawer is open [m]."""
    return s.memory.drawer.opening


@shared
def from_front(s: Scene) -> Vector:
    """Way from the tip to the middle of the handle: towards the front, aside and up [m], (3,)."""
    (x, y, z), (ox, oy) = handles.tip_to_handle(s), s.memory.drawer.out
    return -x * ox - y * oy, x * oy - y * ox, z


def near(s: Scene) -> bool:
    """Whether anything of the hand can touch the chest."""
    return norm(handles.tip_to_handle(s)) < METER_NEAR


@shared
def between(s: Scene) -> bool:
    """Whether the bar is where closing fingers grip it; they need not let go of what they have begun to close on."""
    slack = 1.0 + 0.5 * float(s.robot.tool_opening[0] < handles.OPEN)
    ahead, aside, up = from_front(s)
    return abs(ahead) < slack * ALONG and abs(aside) < slack * ASIDE and abs(up) < slack * ACROSS


@shared
def holding(s: Scene) -> bool:
    """Whether the fingers press on the bar, as width, speed and force of the gripper tell."""
    return handles.blocked(s, BLOCKED_SPEED, GRIP) and between(s)


def gripped(s: Scene) -> float:
    """1 with the bar between blocked fingers."""
    return float(holding(s))


def opened(s: Scene) -> float:
    """Share of the travel by which the drawer is open."""
    return min(max(opening(s) / TRAVEL, 0.0), 1.0)


def is_open(s: Scene) -> bool:
    return opening(s) >= OPENED and not handles.pressed_too_hard(s)


def expert(s: Scene) -> list[float]:
    """Takes the step of approach, grip and pull that the present state asks for; remembers nothing, so it recovers."""
    (ox, oy), (ahead, aside, up) = s.memory.drawer.out, from_front(s)
    if holding(s):
        pull, grip = min(PULL, s.memory.drawer.speed + HASTE), -1.0
        way, side, lift = -pull, GAIN * aside, 0.0
    elif between(s):
        way, side, lift, grip = GAIN * ahead, GAIN * aside, GAIN * up, -1.0
    else:
        off = max(abs(aside) / ASIDE, abs(up) / ACROSS, 3.0 * (handles.OPEN - s.robot.tool_opening[0]) / handles.OPEN)
        way = GAIN * (ahead - HOVER * min(max(2.0 * off - 1.0, 0.0), 1.0))
        side, lift, grip = GAIN * aside, GAIN * up, 1.0
    command = ((-way * ox + side * oy) / SPEED, (-way * oy - side * ox) / SPEED, lift / SPEED, grip)
    return [min(max(v, -1.0), 1.0) for v in command]


def drawn(s: Scene, value: float) -> None:
    """Nothing to apply: `reset` gives it to the drawer that is there."""


TASK = Task(
    id="OpenDrawer-v0",
    suite="home",
    summary="grip the handle of a drawer by friction and pull it open",
    robot=PANDA_AHEAD,
    control_hz=20,
    physics=Physics(hz=120, solver_iterations=20, contact_threshold=0.02),
    episode_s=6.0,
    actions=(EndEffectorTwist(linear=SPEED), GripperSpeed(speed=handles.FINGER_SPEED, force=GRIP)),
    observations=(
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -1.0, 1.0, noise_std=0.005),
        Observation("tip_to_handle", handles.tip_to_handle, (3,), "m", -1.0, 1.0, noise_std=0.002, bias_std=0.003),
        Observation("turn", turn, (1,), "1", -1.0, 1.0, noise_std=0.02, bias_std=0.01),
        Observation("opening", opening, (1,), "m", -0.1, 0.4, frame="chest", noise_std=0.002),
        *handles.FELT,
    ),
    rewards=(
        Reward("near", handles.nearness, weight=0.2),
        Reward("gripped", gripped, weight=0.3),
        Reward("opened", opened, weight=0.5),
        *handles.COSTS,
    ),
    randomization=(
        Randomize("drawer_mass", 2.0, 6.0, "kg", drawn),
        Randomize("rail_friction", 3.0, 12.0, "N", drawn),
        Randomize("handle_friction", 0.4, 0.9, "1", drawn),
        Randomize("command_delay", 0.0, MOST_DELAY, "s", terms.set_command_delay),
    ),
    metrics=(Metric("opening", opening, "m"), *handles.METRICS),
    process=process,
    build=build,
    reset=reset,
    success=is_open,
    failure=handles.pressed_too_hard,
    expert=expert,
    camera=Camera(eye=(-0.35, 1.45, 1.05), target=(0.38, 0.0, 0.44), field_of_view_deg=42.0, light=(-0.5, 0.8, 4.0)),
)
