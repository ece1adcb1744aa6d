"""ConveyorSorting: pick moving parts from a belt by suction, and drop each into the bin of its class.

Goal      all six parts, two of each of three classes, in the bins of their classes.
Start     parts on a running belt, one every 1.7 to 2.2 s, within 4 cm of its middle, turned anyhow; bins within 1 cm of
          where they belong.
Ends      success; failure when a part is lost, that is on the ground; 18 s (truncated). A part that nobody picks rides
          into the tray at the end of the belt, which is no loss, but no success either.
Reward    a part in its bin, the way to the next part or bin, less the cost of time, wrong bins, misses and losses.
Sources   robot: assets/robots/scara.urdf; cup: assets/tools/suction_cup.urdf.
"""

from __future__ import annotations

from math import hypot, pi

from physai_envs import terms
from physai_envs.control import EndEffectorTwist, Vacuum
from physai_envs.geometry import norm, subtract
from physai_envs.parts.bin import Bin
from physai_envs.parts.conveyor import Conveyor
from physai_envs.parts.suction import Cup, Suction, Top
from physai_envs.robots.scara import SCARA_SUCTION
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Body, Physics, World, quaternion_from_euler

CONTROL_HZ, EPISODE_S = 20, 18.0
BELT_X, BELT_TOP, BELT_HALF = 0.27, 0.10, (0.08, 1.10)  # m
BELT_END = 0.42  # m, along y, where parts fall off
SPREAD = 0.04  # m, of the parts to each side of the middle of the belt
FIRST, EASY_FIRST = (-0.45, -0.30), -0.05  # m, along y, of the first part at the start; at difficulty 0
PERIOD = (1.7, 2.2)  # s, between parts
BIN, BINS_X, BINS_Y, MOVED = Bin(half=0.07, height=0.07, wall=0.008), 0.46, (-0.18, 0.0, 0.18), 0.01  # m
TRAY, TRAY_AT = Bin(half=0.13, height=0.04, wall=0.008), (BELT_X, BELT_END + 0.09)  # m
SHAPES = ((0.020, 0.020, 0.015), (0.022, 0.022, 0.020), (0.026, 0.018, 0.010))  # m, half; the second is a cylinder
COLORS = ((0.86, 0.27, 0.22, 1.0), (0.20, 0.50, 0.85, 1.0), (0.25, 0.65, 0.35, 1.0))
BIN_COLORS = tuple((*(0.7 * v for v in color[:3]), 1.0) for color in COLORS)
CLASSES, EACH = len(SHAPES), 2
PARTS = CLASSES * EACH
START_LOW, START_HIGH = (0.22, -0.25, 0.16), (0.42, 0.25, 0.19)  # m, of the cup
SEEN, VIEW = 3, (-0.9, 0.33)  # parts that the camera reports, and from where to where along the belt it looks [m]
NOTHING = (0.6, 0.9, 0.0)  # m, what it reports where there is no part
SPEED, ACCELERATION = 1.0, 10.0  # m/s and m/s2, of each axis of the cup
DELAY = 0.05  # s, of the camera

# The expert
REACH = -0.36  # m, along y, the farthest upstream that it waits for a part
HOVER, CARRY, RELEASE = 0.03, 0.185, 0.12  # m, of the cup: above a part; above the ground with one, and over a bin
PRESS = 0.002  # m, by which it presses the bellows together
ONTO, OVER = 0.008, 0.03  # m, from the middle of a part to go down, and from that of a bin to let go
GAIN = 8.0  # 1/s, how fast it closes its errors


def build(s: Scene) -> None:
    world, m = s.world, s.memory
    world.floor()
    m.belt = Conveyor(world, "belt", BELT_HALF, (BELT_X, BELT_END - BELT_HALF[1], BELT_TOP))
    m.bins = [BIN.add(world, f"bin{kind}", color=BIN_COLORS[kind]) for kind in range(CLASSES)]
    TRAY.add(world, "tray", color=(0.6, 0.62, 0.65, 1.0))
    m.parts = [_add_part(world, number // EACH, number) for number in range(PARTS)]
    tops = {part: Top(SHAPES[i // EACH][2], min(SHAPES[i // EACH][:2])) for i, part in enumerate(m.parts)}
    m.suction = Suction(s.robot, Cup(), tops, 1.0 / CONTROL_HZ)


def _add_part(world: World, kind: int, number: int) -> Body:
    half, at = SHAPES[kind], (2.0 + 0.1 * number, 2.0, SHAPES[kind][2])
    if kind == 1:
        return world.cylinder(f"part{number}", half[0], 2 * half[2], at, mass=0.1, color=COLORS[kind])
    return world.box(f"part{number}", half, at, mass=0.1, color=COLORS[kind])


def reset(s: Scene) -> None:
    m, rng, d = s.memory, s.rng, s.difficulty
    m.bin_at = [
        (BINS_X + dx, y + dy)
        for y, (dx, dy) in zip(BINS_Y, rng.uniform(-MOVED, MOVED, (CLASSES, 2)).tolist(), strict=True)
    ]
    for body, place in zip(m.bins, m.bin_at, strict=True):
        body.place((*place, 0.0))
    s["tray"].place((*TRAY_AT, 0.0))
    y = float(rng.uniform(*FIRST))
    y = EASY_FIRST + d * (y - EASY_FIRST)
    for i in rng.permutation(PARTS):
        x, yaw = BELT_X + d * float(rng.uniform(-SPREAD, SPREAD)), float(rng.uniform(-pi, pi))
        part = m.parts[i]
        part.place((x, y, BELT_TOP + SHAPES[i // EACH][2]), quaternion_from_euler((0.0, 0.0, yaw)))
        y -= s.randomization["belt_speed"] * float(rng.uniform(*PERIOD))
    s.robot.place_tip(tuple(rng.uniform(START_LOW, START_HIGH).tolist()))
    m.suction.reset()
    m.suction.strength = s.randomization["vacuum_strength"]
    m.last, m.last_goal = census(s), goal(s)
    m.belt.start(s.randomization["belt_speed"])


def process(s: Scene) -> None:
    """Before every control step: remembers how it was, runs the belt, and the vacuum."""
    m = s.memory
    m.last, m.last_goal = census(s), goal(s)
    m.belt.run(s.randomization["belt_speed"])
    m.suction.update(s.robot.drive.vacuum)


def held(s: Scene) -> int | None:
    """Number of the part that hangs on the cup."""
    part = s.memory.suction.held
    return None if part is None else s.memory.parts.index(part)


@shared
def waiting(s: Scene) -> list[int]:
    """Numbers of the parts on the belt that the camera sees, the one that leaves first in front."""
    hanging, found = s.memory.suction.held, []
    for i, part in enumerate(s.memory.parts):
        x, y, z = part.position
        if part is not hanging and z > BELT_TOP and VIEW[0] < y < VIEW[1] and abs(x - BELT_X) < BELT_HALF[0]:
            found.append((-y, i))
    return [i for _, i in sorted(found)]


@shared
def census(s: Scene) -> tuple[int, int, int, int]:
    """Number of parts in their bin, in a wrong one, in the tray, and on the ground."""
    m = s.memory
    right = wrong = missed = lost = 0
    for i, part in enumerate(m.parts):
        position = part.position
        if position[2] > BELT_TOP or part is m.suction.held:
            continue
        where = next(
            (k for k, (x, y) in enumerate(m.bin_at) if BIN.holds((position[0] - x, position[1] - y, position[2]))), None
        )
        if where is not None:
            right, wrong = (right + 1, wrong) if where == i // EACH else (right, wrong + 1)
        elif TRAY.over((position[0] - TRAY_AT[0], position[1] - TRAY_AT[1])):
            missed += 1
        elif position[2] < SHAPES[i // EACH][2] + 0.01:  # not still falling
            lost += 1
    return right, wrong, missed, lost


def following(s: Scene) -> list[int]:
    """Numbers of the parts that the camera reports: what hangs on the cup, then those that leave the belt first."""
    i = held(s)
    return ([] if i is None else [i]) + waiting(s)[: SEEN - (i is not None)]


@shared
def tip_to_parts(s: Scene) -> list[float]:
    """Vectors from the cup to the upper side of the next parts, by the camera [m], (3, 3)."""
    m, tip = s.memory, s.robot.tip_position
    values: list[float] = []
    for i in following(s):
        x, y, z = subtract(m.parts[i].position, tip)
        values += (x + m.camera_x, y + m.camera_y, z + SHAPES[i // EACH][2])
    return values + list(NOTHING) * (SEEN - len(values) // 3)


def tip_to_first(s: Scene) -> list[float]:
    """The last centimetres to the first of them [m], (3,)."""
    return tip_to_parts(s)[:3]


def classes_of_parts(s: Scene) -> list[float]:
    """Class of each of these parts, one of three each; zero where there is none, (3, 3)."""
    kinds: list[int | None] = [i // EACH for i in following(s)]
    return [float(kind == k) for kind in kinds + [None] * (SEEN - len(kinds)) for k in range(CLASSES)]


def tip_to_bins(s: Scene) -> list[float]:
    """Horizontal vectors from the cup to the bin of each class [m], (3, 2)."""
    x, y, _ = s.robot.tip_position
    return [v for bx, by in s.memory.bin_at for v in (bx - x, by - y)]


def vacuum(s: Scene) -> float:
    """Share of the vacuum in the line, 0 to 1."""
    return float(s.memory.suction.level)


def belt_speed(s: Scene) -> float:
    """Speed of the belt by its encoder [m/s]."""
    return float(s.memory.belt.speed)


@shared
def goal(s: Scene) -> tuple[int, float]:
    """Where the cup has to go: a number for it, and the distance [m]."""
    tip, i = s.robot.tip_position, held(s)
    if i is not None:
        x, y = s.memory.bin_at[i // EACH]
        return i, hypot(x - tip[0], y - tip[1])
    for j in waiting(s):
        return PARTS + j, norm(subtract(s.memory.parts[j].position, tip))
    return -1, 0.0


def progress(s: Scene) -> float:
    """Way made to the next part or bin in this step, as a share of the farthest possible, -1 to 1."""
    (before, far), (now, near) = s.memory.last_goal, goal(s)
    return min(1.0, max(-1.0, (far - near) * CONTROL_HZ / SPEED)) if before == now else 0.0


def _new(s: Scene, kind: int) -> float:
    return min(1.0, max(-1.0, float(census(s)[kind] - s.memory.last[kind])))


def sorted_part(s: Scene) -> float:
    """1 when a part has come into its bin, -1 when it has left it."""
    return _new(s, 0)


def wrong_part(s: Scene) -> float:
    """1 when a part has come into a wrong bin."""
    return _new(s, 1)


def missed_part(s: Scene) -> float:
    """1 when a part has come into the tray."""
    return _new(s, 2)


def lost_part(s: Scene) -> float:
    """1 when a part has come to the ground; ends the episode."""
    return float(census(s)[3] > 0)


def time(s: Scene) -> float:
    """1 in every step: time costs."""
    return 1.0


def all_sorted(s: Scene) -> bool:
    return census(s)[0] == PARTS


def finished(s: Scene) -> float:
    """1 with all parts sorted; ends the episode."""
    return float(all_sorted(s))


def lost(s: Scene) -> bool:
    return census(s)[3] > 0


def ramp(x: float, low: float, high: float) -> float:
    """0 at `low`, 1 at `high`, a straight line between."""
    return min(max((x - low) / (high - low), 0.0), 1.0)


def expert(s: Scene) -> list[float]:
    """Takes the part that leaves first, on the fly, to its bin; remembers nothing."""
    m, (tx, ty, tz), i, queue = s.memory, s.robot.tip_position, held(s), waiting(s)
    valve, belt = 1.0, 0.0
    if i is not None:
        bx, by = m.bin_at[i // EACH]
        x, y = bx - tx, by - ty
        aside = hypot(x, y)
        z = RELEASE + (CARRY - RELEASE) * ramp(aside, 0.03, 0.08) - tz
        clear = ramp(tz - 2 * SHAPES[i // EACH][2], BELT_TOP + 0.01, BELT_TOP + 0.03)
        if aside > 0.08:
            x, y = clear * x, clear * y
        if aside < OVER and tz < RELEASE + 0.02:
            valve = -1.0
    elif queue:
        px, py, pz = m.parts[queue[0]].position
        belt = m.belt.speed
        x, y, top = px - tx, max(py, REACH) - ty, pz + SHAPES[queue[0] // EACH][2]
        belt *= ramp(py, REACH - 0.01, REACH)
        z = top + HOVER * ramp(hypot(x, y), ONTO, 2.0 * ONTO) - PRESS - tz
        valve = 1.0 - 2.0 * ramp(tz - top, 0.02, 0.03)
    else:
        x, y, z, valve = BELT_X - tx, -ty, CARRY - tz, -1.0
    command = (GAIN * x / SPEED, (GAIN * y + belt) / SPEED, GAIN * z / SPEED, valve)
    return [min(max(v, -1.0), 1.0) for v in command]


def set_mass(s: Scene, kilograms: float) -> None:
    for part in s.memory.parts:
        part.set_dynamics(mass=kilograms)


def set_friction(s: Scene, friction: float) -> None:
    for part in s.memory.parts:
        part.set_dynamics(lateralFriction=friction)


def by_reset(s: Scene, value: float) -> None:
    """Nothing to apply: `reset` reads it."""


TASK = Task(
    id="ConveyorSorting-v0",
    suite="assembly",
    summary="pick moving parts of three classes from a belt by suction and drop each into its bin",
    robot=SCARA_SUCTION,
    control_hz=CONTROL_HZ,
    physics=Physics(hz=240, solver_iterations=10, contact_threshold=0.02, contact_erp=0.4),
    episode_s=EPISODE_S,
    hold_s=0.2,
    actions=(EndEffectorTwist(linear=SPEED, acceleration=ACCELERATION), Vacuum()),
    observations=(
        Observation("tip_position", terms.tip_position, (3,), "m", -1.0, 1.0, noise_std=0.0002),
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -2.0, 2.0, noise_std=0.005),
        Observation(
            "tip_to_parts", tip_to_parts, (SEEN, 3), "m", -1.5, 1.5, noise_std=0.001, dropout=0.005, delay_s=DELAY
        ),
        Observation("tip_to_first", tip_to_first, (3,), "m", -0.1, 0.1, noise_std=0.001, delay_s=DELAY),
        Observation("classes_of_parts", classes_of_parts, (SEEN, CLASSES), "1", 0.0, 1.0, delay_s=DELAY),
        Observation("tip_to_bins", tip_to_bins, (CLASSES, 2), "m", -1.0, 1.0, noise_std=0.0005),
        Observation("vacuum", vacuum, (1,), "1", 0.0, 1.0, frame="tool", noise_std=0.02),
        Observation("belt_speed", belt_speed, (1,), "m/s", 0.0, 0.3, frame="belt", noise_std=0.002),
    ),
    rewards=(
        Reward("progress", progress, weight=0.05, low=-1.0),
        Reward("sorted", sorted_part, weight=2.0, low=-1.0),
        Reward("wrong", wrong_part, weight=-2.0, low=-1.0),
        Reward("missed", missed_part, weight=-1.0, low=-1.0),
        Reward("lost", lost_part, weight=-8.0),
        Reward("time", time, weight=-0.01),
        Reward("finished", finished, weight=1.0),
    ),
    randomization=(
        Randomize("belt_speed", 0.08, 0.12, "m/s", by_reset),
        Randomize("part_mass", 0.05, 0.2, "kg", set_mass),
        Randomize("part_friction", 0.4, 0.9, "1", set_friction),
        Randomize("vacuum_strength", 0.7, 1.0, "1", by_reset),
        Randomize("camera_x", -0.002, 0.002, "m", lambda s, value: setattr(s.memory, "camera_x", value)),
        Randomize("camera_y", -0.002, 0.002, "m", lambda s, value: setattr(s.memory, "camera_y", value)),
    ),
    metrics=(
        Metric(
            "sorted_share",
            lambda s: census(s)[0] / PARTS,
            "1",
            "Share of the parts that are in the bins of their classes.",
        ),
        Metric("wrong", lambda s: census(s)[1], "1", "Parts in a bin of another class."),
        Metric("missed", lambda s: census(s)[2], "1", "Parts that rode past, into the tray at the end."),
        Metric("lost", lambda s: census(s)[3], "1", "Parts on the ground."),
        Metric(
            "parts_per_minute", lambda s: 60.0 * census(s)[0] / s.time_s, "1/min", "Parts sorted in a minute: the takt."
        ),
    ),
    process=process,
    build=build,
    reset=reset,
    success=all_sorted,
    failure=lost,
    expert=expert,
    camera=Camera(eye=(1.3, 0.1, 0.9), target=(0.22, 0.02, 0.13), field_of_view_deg=48.0),
)
