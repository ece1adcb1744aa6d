"""VacuumCoverage: cover the floor of a furnished room.

Goal      90 % of the floor that the disc can reach, before the time is up.
Start     anywhere in a room of 3.0 x 2.6 to 4.6 x 3.8 m with up to six pieces of furniture, facing anywhere.
          Reachable is what the disc covers from where its middle can get, found by flood fill (`parts.coverage`).
Sees      a scanner all around, two bumper halves, and a map of its own of what it has covered, from floor tracking
          and gyro, which drift: what it believes covered is not quite what is.
Ends      success; 6 min (truncated); the expert needs 1.5 min on average. Touching furniture is allowed and counted.
Reward    newly covered floor, less the cost of time, bumps and turning; success.
Sources   robot: `assets/robots/vacuum.urdf`; multi-scale maps: A. Jonnarth et al., arXiv:2306.16978.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from physai_envs.parts.bumper import Bumper
from physai_envs.parts.coverage import CELL, CoverageMap, FloorPlan
from physai_envs.parts.dust import Dust
from physai_envs.parts.lidar import Lidar
from physai_envs.parts.odometry import Odometry
from physai_envs.parts.room import HALF_X, HALF_Y, Room
from physai_envs.parts.sweep import Sweeper
from physai_envs.robots.vacuum import DRIVE, HEIGHT, RADIUS, SCAN_HEIGHT, VACUUM
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task
from physai_envs.world import Physics, Vector

CONTROL_HZ, EPISODE_S = 5, 360.0
DONE = 0.9  # of the reachable floor
RAYS, REACH = 36, 4.0  # m
EDGES = (RADIUS, 0.24, 0.31, 0.4, 0.5, 0.7, 1.0, 1.5, 2.2, 3.2)  # m, rings of the map that the policy gets
SECTORS = 24
SMALL = (1.1, 0.9)  # m, half of the room at difficulty 0
PIECES = (3, 6)  # of furniture, at difficulty 1
WHOLE = 0.9  # share of the free floor that has to hang together; what is cut off is not asked for
ROOMS_TRIED = 20
BUMPER_NEAR = 0.12  # m; it drives 8 cm a control step
PHYSICS = Physics(hz=60, solver_iterations=10, contact_threshold=1e-5)
ROOM = (HALF_X, HALF_Y)
MOST_CELLS = 2.0 * RADIUS * DRIVE.speed / CONTROL_HZ / CELL**2  # that it can cover in a control step


# The expert
TURN_GAIN = 3.0  # 1/s, how fast it turns to where it wants to go
MOST_TURN = 0.9  # rad, from which on it turns on the spot


def build(s: Scene) -> None:
    m, body = s.memory, s.robot.body
    m.room = Room(s.world)
    m.plan = FloorPlan(RADIUS)
    lidar = Lidar(s.world, body, rays=RAYS, height=SCAN_HEIGHT - HEIGHT, reach=REACH, half_length=RADIUS)
    seen = CoverageMap(RADIUS, lidar.angles, EDGES, SECTORS)
    steps = PHYSICS.hz // CONTROL_HZ
    m.odometry = Odometry(body, lidar, m.plan, seen, steps, steps // 2, 1.0 / PHYSICS.hz)
    m.sweeper, m.dust = Sweeper(m.plan), Dust(s.world)
    s.add_sensor("bumper", Bumper(s.world, body, s["floor"], lambda: m.odometry.clearance, BUMPER_NEAR))
    s.add_sensor("odometry", m.odometry)


def reset(s: Scene) -> None:
    m, d = s.memory, s.difficulty
    region = None
    for _ in range(ROOMS_TRIED):
        half_x, half_y = (small + d * (s.rng.uniform(*full) - small) for small, full in zip(SMALL, ROOM, strict=True))
        m.room.arrange(s.rng, half_x, half_y, round(1.0 + d * (int(s.rng.integers(*PIECES, endpoint=True)) - 1.0)))
        regions = m.plan.survey(half_x, half_y, m.room.obstacles)
        sizes = np.bincount(regions.ravel())[1:]
        region = regions == 1 + int(np.argmax(sizes))
        if sizes.max() > WHOLE * sizes.sum():
            break
    m.plan.open(region)
    i, j = s.rng.choice(np.argwhere(region)).tolist()
    yaw = float(s.rng.uniform(-math.pi, math.pi))
    s.robot.body.place((m.plan.x[i], m.plan.y[j], HEIGHT), (0.0, 0.0, math.sin(0.5 * yaw), math.cos(0.5 * yaw)))
    m.odometry.begin(s.randomization["way_scale"], math.radians(s.randomization["gyro_drift"]) / 60.0)
    m.dust.scatter(m.plan)


def process(s: Scene) -> None:
    """Before every control step: takes away the dust, where somebody looks."""
    s.memory.dust.sweep(s.memory.plan)


def scan(s: Scene) -> NDArray[np.float64]:
    """Nearness along each ray, negated so that no return reads 0: -1 / (range from the shell + 0.1 m) [1/m], (36,)."""
    return -1.0 / (s.memory.odometry.ranges - (RADIUS - 0.1))


def bare_floor(s: Scene) -> NDArray[np.float64]:
    """Share of bare floor around the robot by its own map, from near to far and counterclockwise, (216,)."""
    return s.memory.odometry.picture()


def bumper(s: Scene) -> Vector:
    """Whether the left and the right half of the bumper were touched in the last control step, (2,)."""
    touch = s.sensors["bumper"]
    return float(touch.left), float(touch.right)


def speeds(s: Scene) -> Vector:
    """Forward speed [m/s] and yaw rate [rad/s], (2,)."""
    (vx, vy, _), (_, _, yaw_rate) = s.robot.body.velocity
    yaw = s.memory.odometry.yaw
    return math.cos(yaw) * vx + math.sin(yaw) * vy, yaw_rate


def previous_action(s: Scene) -> list[float]:
    """What the policy did last, in [-1, 1]: so that it does not sway between two ways."""
    return s.action


def coverage(s: Scene) -> float:
    """Share of the reachable floor that is covered."""
    return s.memory.plan.coverage


def newly(s: Scene) -> float:
    """Floor covered in this step, as a share of the most that can be."""
    return min(1.0, s.memory.odometry.newly / MOST_CELLS)


def bump(s: Scene) -> float:
    """1 in a step in which the bumper was touched."""
    return float(s.sensors["bumper"].touched)


def turning(s: Scene) -> float:
    """Square of the yaw rate, as a share of the largest."""
    return min(1.0, (s.robot.body.velocity[1][2] / DRIVE.yaw_rate) ** 2)


def always(s: Scene) -> float:
    """1 in every step: time costs."""
    return 1.0


def covered(s: Scene) -> bool:
    return coverage(s) >= DONE


def done(s: Scene) -> float:
    """1 when the floor is covered; ends the episode."""
    return float(covered(s))


def never(s: Scene) -> bool:
    """Nothing that the robot can do here is a failure."""
    return False


def overlap(s: Scene) -> float:
    """Area swept over area covered, less 1: 0 when no place is passed twice."""
    m = s.memory
    swept = 2.0 * RADIUS * m.odometry.distance + math.pi * RADIUS**2
    return swept / (m.plan.area - m.plan.left) / CELL**2 - 1.0


def expert(s: Scene) -> list[float]:
    """Turns to where the sweeper wants to go, and drives as fast as that allows."""
    o = s.memory.odometry
    turn = s.memory.sweeper.turn(*o.place, o.yaw, s.action[1])
    speed = max(0.0, 1.0 - abs(turn) / MOST_TURN)
    low, high = -DRIVE.reverse, DRIVE.speed
    return [2.0 * (speed * high - low) / (high - low) - 1.0, turn * TURN_GAIN / DRIVE.yaw_rate]


def set_floor_friction(s: Scene, friction: float) -> None:
    s["floor"].set_dynamics(lateralFriction=friction)


def set_motor_strength(s: Scene, share: float) -> None:
    s.robot.motor_strength = share


def drawn(s: Scene, value: float) -> None:
    """Nothing to apply: `reset` gives it to the odometry."""


TASK = Task(
    id="VacuumCoverage-v0",
    suite="home",
    summary="cover the floor of a furnished room by scanner, bumper and a map of its own",
    robot=VACUUM,
    control_hz=CONTROL_HZ,
    physics=PHYSICS,
    episode_s=EPISODE_S,
    actions=(DRIVE,),
    observations=(
        Observation("bare_floor", bare_floor, (SECTORS * (len(EDGES) - 1),), "1", 0.0, 1.0, frame="base"),
        Observation("scan", scan, (RAYS,), "1/m", -10.0, 0.0, frame="base", noise_std=0.02, dropout=0.01),
        Observation("bumper", bumper, (2,), "1", 0.0, 1.0, frame="base"),
        Observation("speeds", speeds, (2,), "m/s, rad/s", (-1.0, -4.0), (1.0, 4.0), frame="base", noise_std=0.01),
        Observation("previous_action", previous_action, (2,), "1", -1.0, 1.0, frame="policy"),
    ),
    rewards=(
        Reward("newly", newly, weight=0.2),
        Reward("bump", bump, weight=-0.1),
        Reward("turning", turning, weight=-0.01),
        Reward("time", always, weight=-0.05),
        Reward("done", done, weight=15.0),
    ),
    randomization=(
        Randomize("way_scale", 0.99, 1.01, "1", drawn),
        Randomize("gyro_drift", -0.5, 0.5, "deg/min", drawn),
        Randomize("floor_friction", 0.5, 0.9, "1", set_floor_friction),
        Randomize("motor_strength", 0.7, 1.0, "1", set_motor_strength),
    ),
    metrics=(
        Metric("coverage", coverage, "1"),
        Metric("overlap", overlap, "1"),
        Metric("distance", lambda s: s.memory.odometry.distance, "m", "Way that the robot went."),
        Metric("bumps", lambda s: s.sensors["bumper"].bumps, "1", "Touches of the bumper."),
        Metric("time", lambda s: s.time_s, "s", "From the start to the end."),
    ),
    process=process,
    build=build,
    reset=reset,
    success=covered,
    failure=never,
    solved_at=0.9,
    expert=expert,
    camera=Camera(eye=(0.0, -3.6, 4.6), target=(0.0, -0.25, 0.0), field_of_view_deg=50.0, light=(2.0, -1.5, 9.0)),
)
