"""AMRNavigation: cross a hall of racks, pallets and moving carts.

Goal      middle of the robot within 0.3 m of the goal, without having touched anything.
Start     anywhere free in a hall of 14 x 10 m, at rest, facing anywhere; the goal 4 to 13 m away. Up to 2 racks, 6
          pallets and 3 carts, placed so that a way exists (`parts.hall`); difficulty scales number and distance.
Ends      success; any contact with anything but the floor; 40 s (truncated).
Carts     shuttle at 0.2 to 0.5 m/s and turn round before a robot, as carts with a safety scanner do: a robot that
          stands still is never hit. One that drives into a cart's side or cuts in closely before it is.
Reward    progress to the goal, less nearness to obstacles, turning and time; success 5, collision -5.
Sources   robot: `assets/robots/amr.urdf`; encoding of the scan and reward: our own trials; SPL: arXiv:1807.06757.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physai_envs.geometry import yaw_of
from physai_envs.parts.hall import Hall
from physai_envs.parts.lidar import Bumper, Lidar
from physai_envs.robots.amr import AMR, DRIVE, HALF_LENGTH, HALF_WIDTH, HEIGHT, MASS, RADIUS, SCAN_HEIGHT
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Physics, Vector

LAMP = (5.0, -3.5, 24.0)  # m
CONTROL_HZ, EPISODE_S = 10, 40.0
CONTACT_THRESHOLD = 1e-5  # m; at 1e-4 a wheel that turns slowly keeps old contact points, which err the yaw rate by 5 %
WITHIN = 0.3  # m, the accuracy that counts as reached
RAYS, REACH = 64, 5.0  # m
MAX_RACKS, MAX_PALLETS, MAX_CARTS = 2, 6, 3
FEWEST = 0.25  # share of the obstacles that stand there at difficulty 0
CLEAR = RADIUS + 0.3  # m, free around start and goal
NEAREST_GOAL, FARTHEST_GOAL = (2.0, 4.0), (4.0, 13.0)  # m, at difficulty 0 and 1
CART_KEEP, CART_SCAN = RADIUS + 0.05, 0.5  # m, what carts leave to a robot, and see ahead
NEAR = 0.5  # m, clearance below which obstacles are penalised
BUMPER_NEAR = 0.35  # m; robot and cart close 0.23 m a control step, and a corner between two rays is 0.05 m nearer
SCAN_NOISE = 0.01  # 1/m: 1 cm at 1 m, 9 cm at 3 m, with what a policy sees of the shaking of a real robot
RATE_NOISE = math.sqrt(2.0) * SCAN_NOISE * CONTROL_HZ  # 1/(m s), of the difference of two scans
SCAN_DROPOUT = 0.01  # share of rays without return, on dark or shiny goods


def build(s: Scene) -> None:
    m, body = s.memory, s.robot.body
    m.hall = Hall(s.world, racks=MAX_RACKS, pallets=MAX_PALLETS, carts=MAX_CARTS)
    m.lidar = Lidar(
        s.world, body, rays=RAYS, height=SCAN_HEIGHT - HEIGHT, reach=REACH,
        half_length=HALF_LENGTH, half_width=HALF_WIDTH,
    )  # fmt: skip
    s.add_sensor("bumper", Bumper(s.world, body, s["floor"], lambda: m.last.clearance, BUMPER_NEAR))
    s.world.marker("goal", WITHIN, (0.1, 0.75, 0.3, 1.0))


def reset(s: Scene) -> None:
    m, d = s.memory, s.difficulty
    share = FEWEST + (1.0 - FEWEST) * d
    counts = {"racks": MAX_RACKS, "pallets": MAX_PALLETS, "carts": MAX_CARTS}
    m.hall.arrange(s.rng, **{k: round(share * n) for k, n in counts.items()}, cart_speed=s.randomization["cart_speed"])
    x, y = m.hall.draw_free(s.rng, CLEAR)
    low, high = ((1.0 - d) * easy + d * hard for easy, hard in (NEAREST_GOAL, FARTHEST_GOAL))
    m.goal = m.hall.draw_free(s.rng, CLEAR, around=(x, y), low=low, high=high)
    yaw = float(s.rng.uniform(-math.pi, math.pi))
    s.robot.body.place((x, y, HEIGHT), (0.0, 0.0, math.sin(0.5 * yaw), math.cos(0.5 * yaw)))
    if "goal" in s.world.bodies:
        s["goal"].place((*m.goal, 0.0))
    m.last = m.first = now(s)
    m.travelled, m.least_clearance = 0.0, m.last.clearance


def process(s: Scene) -> None:
    """Before every control step: remembers what the last one came to, and drives the carts."""
    m, view = s.memory, now(s)
    m.travelled += math.dist(m.last.place, view.place)
    m.least_clearance = min(m.least_clearance, view.clearance)
    m.last = view
    m.hall.drive(view.place, CART_KEEP, CART_SCAN, 1.0 / CONTROL_HZ)


@dataclass(slots=True)
class View:
    """What several terms need of one moment: place (2,) [m], heading (cosine, sine), goal distance [m], scan."""

    place: Vector
    heading: Vector
    distance: float
    nearness: NDArray[np.float64]
    clearance: float


@shared
def now(s: Scene) -> View:
    """The present view."""
    m, (position, orientation) = s.memory, s.robot.body.pose
    yaw, place = yaw_of(orientation), position[:2]
    ranges = m.lidar.scan()
    return View(
        place, (math.cos(yaw), math.sin(yaw)), math.dist(place, m.goal), 1.0 / ranges, m.lidar.clearance(ranges)
    )


def scan(s: Scene) -> NDArray[np.float64]:
    """Nearness along each ray, negated so that no return reads 0, the upper limit: -1 / range [1/m], (64,)."""
    return -now(s).nearness


def scan_rate(s: Scene) -> NDArray[np.float64]:
    """How fast the nearness along each ray grows, what tells moving things from still ones [1/(m s)], (64,)."""
    return (now(s).nearness - s.memory.last.nearness) * CONTROL_HZ


def goal_direction(s: Scene) -> Vector:
    """Unit vector to the goal in the robot's frame, (2,)."""
    view, goal = now(s), s.memory.goal
    cos, sin = view.heading
    dx, dy = goal[0] - view.place[0], goal[1] - view.place[1]
    length = max(view.distance, 1e-6)
    return (cos * dx + sin * dy) / length, (cos * dy - sin * dx) / length


def distance(s: Scene) -> float:
    """Distance of the middle of the robot from the goal [m]."""
    return now(s).distance


def speeds(s: Scene) -> Vector:
    """Forward speed [m/s] and yaw rate [rad/s], (2,)."""
    (vx, vy, _), (_, _, yaw_rate) = s.robot.body.velocity
    cos, sin = now(s).heading
    return cos * vx + sin * vy, yaw_rate


def time_left(s: Scene) -> float:
    """Time until the episode is cut off [s]."""
    return EPISODE_S - s.time_s


def previous_command(s: Scene) -> list[float]:
    """What the policy did last, in [-1, 1]: the drive follows it with limited acceleration."""
    return s.action


def progress(s: Scene) -> float:
    """Way made towards the goal in this step, as a share of the farthest possible, -1 to 1."""
    made = (s.memory.last.distance - now(s).distance) * CONTROL_HZ / DRIVE.speed
    return min(1.0, max(-1.0, made))


def nearness(s: Scene) -> float:
    """0 with 0.5 m free all around, 1 at contact."""
    return min(1.0, max(0.0, 1.0 - now(s).clearance / NEAR))


def turning(s: Scene) -> float:
    """Square of the yaw rate, as a share of the largest."""
    return min(1.0, (s.robot.body.velocity[1][2] / DRIVE.yaw_rate) ** 2)


def always(s: Scene) -> float:
    """1 in every step: time costs."""
    return 1.0


def collided(s: Scene) -> bool:
    """Whether the robot has touched anything but the floor."""
    return s.sensors["bumper"].touched


def collision(s: Scene) -> float:
    """1 when the robot touched something; ends the episode."""
    return float(collided(s))


def arrived(s: Scene) -> bool:
    return distance(s) < WITHIN and not collided(s)


def arrival(s: Scene) -> float:
    """1 at the goal; ends the episode."""
    return float(arrived(s))


def path_length(s: Scene) -> float:
    """Way driven [m]."""
    return s.memory.travelled + math.dist(s.memory.last.place, now(s).place)


def spl(s: Scene) -> float:
    """Success weighted by path length: straight distance over way driven; 0 without success."""
    straight = s.memory.first.distance - WITHIN
    return float(arrived(s)) * straight / max(path_length(s), straight)


def least_clearance(s: Scene) -> float:
    """Least free distance around the robot over the episode, along the rays [m]."""
    return min(s.memory.least_clearance, now(s).clearance)


def set_payload(s: Scene, kilograms: float) -> None:
    s.robot.body.set_dynamics(mass=MASS + kilograms)


def set_motor_strength(s: Scene, share: float) -> None:
    s.robot.motor_strength = share


def set_floor_friction(s: Scene, friction: float) -> None:
    s["floor"].set_dynamics(lateralFriction=friction)


def set_cart_speed(s: Scene, speed: float) -> None:
    """Nothing to apply: `reset` gives it to the carts."""


TASK = Task(
    id="AMRNavigation-v0",
    suite="mobility",
    summary="cross a hall of racks, pallets and moving carts to a goal by lidar, touching nothing",
    robot=AMR,
    control_hz=CONTROL_HZ,
    physics=Physics(hz=120, solver_iterations=10, contact_threshold=CONTACT_THRESHOLD),
    episode_s=EPISODE_S,
    actions=(DRIVE,),
    observations=(
        Observation("scan", scan, (RAYS,), "1/m", -4.0, 0.0, frame="base", noise_std=SCAN_NOISE, dropout=SCAN_DROPOUT),
        Observation("scan_rate", scan_rate, (RAYS,), "1/(m s)", -10.0, 10.0, frame="base", noise_std=RATE_NOISE),
        Observation("goal_direction", goal_direction, (2,), "1", -1.0, 1.0, frame="base", noise_std=0.01),
        Observation("goal_distance", distance, (1,), "m", 0.0, 20.0, frame="base", noise_std=0.02),
        Observation("speeds", speeds, (2,), "m/s, rad/s", (-2.0, -4.0), (2.0, 4.0), frame="base", noise_std=0.01),
        Observation("time_left", time_left, (1,), "s", 0.0, EPISODE_S),
        Observation("previous_command", previous_command, (2,), "1", -1.0, 1.0),
    ),
    rewards=(
        Reward("progress", progress, weight=0.24, low=-1.0),
        Reward("nearness", nearness, weight=-0.1),
        Reward("turning", turning, weight=-0.02),
        Reward("time", always, weight=-0.01),
        Reward("collision", collision, weight=-5.0),
        Reward("arrival", arrival, weight=5.0),
    ),
    randomization=(
        Randomize("payload", 0.0, 200.0, "kg", set_payload),
        Randomize("motor_strength", 0.6, 1.0, "1", set_motor_strength),
        Randomize("floor_friction", 0.5, 0.9, "1", set_floor_friction),
        Randomize("cart_speed", 0.2, 0.5, "m/s", set_cart_speed),
    ),
    metrics=(
        Metric("path_length", path_length, "m"),
        Metric("spl", spl, "1"),
        Metric("least_clearance", least_clearance, "m"),
        Metric("collided", collision, "1"),
    ),
    process=process,
    build=build,
    reset=reset,
    success=arrived,
    failure=collided,
    camera=Camera(eye=(0.0, -8.0, 13.5), target=(0.0, -0.5, 0.0), field_of_view_deg=47.0, light=LAMP),
)
