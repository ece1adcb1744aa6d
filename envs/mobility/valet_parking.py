"""ValetParking: drive into a car park and reverse into the marked bay between parked cars.

Goal      at rest for 0.5 s within 0.2 m and 5 degrees of the bay, nose towards the aisle, nothing touched.
Start     at rest at the entrance, up to 0.6 m and 9 degrees beside the aisle's middle; any of 12 bays, its neighbours
          taken and parked as people park. Difficulty scales the way to the bay and the untidiness.
Ends      success; any contact with cars, walls or hedges; 45 s (truncated).
Physics   At these speeds tyres roll without slip, so the motion is that of a kinematic bicycle model (`parts.bicycle`),
          outside of Bullet, whose point contacts are no tyres; before each physics step the body is carried to where
          the model is. Collisions and rays are Bullet's.
Reward    costs for distance, direction, nearness to obstacles, jerks and time; success 10, contact -10.
Sources   bays and aisle: EAR 2005 (`parts.parking`); car: `assets/robots/car.urdf`; rewards and expert: our own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from physai_envs import terms
from physai_envs.geometry import wrap_angle
from physai_envs.parts.lidar import Lidar
from physai_envs.parts.parking import BAYS, CAR_HALF, ParkingLot
from physai_envs.parts.proximity import Proximity
from physai_envs.robots.car import CAR, CAR_DATA, HALF_LENGTH, HALF_WIDTH, MIDDLE, PARKING_DRIVE, set_motion
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Body, Physics, Vector

CONTROL_HZ, EPISODE_S = 10, 45.0
WITHIN, STRAIGHT, RESTING, REST_S = 0.2, math.radians(5.0), 0.05, 0.5  # m, rad, m/s, s
START_X, START_Y, START_TURN = (-13.0, -11.5), 0.6, 0.16  # m, m, rad
EASY_BEFORE = 2.0  # m, before the bay, where the car starts at difficulty 0
RAYS, RAY_REACH, RAY_HEIGHT = 24, 6.0, 0.5  # m
RAY_NOISE, RAY_DROPOUT = 0.01, 0.01  # 1/m: 1 cm at 1 m
REACH, NEAR, TIGHT = 2.0, 0.5, 0.3  # m, what the proximity counts, looks at closely, and is penalised
MOVING = 0.05  # m/s, speed from which on a direction of travel counts
REAR_AXLE = MIDDLE + CAR_DATA.rear  # m, from the rear axle to the middle of the car

# The expert. It thinks in the frame of the bay: x out of the bay, y the way the car came along the aisle.
LINE, RADIUS = 6.0, 4.6  # m, of the rear axle: where it drives along the aisle, and the arc from there into the bay
PAST = 0.5  # m, behind the beginning of the arc, where it stops
GOOD, POOR = (0.08, 0.05), (0.35, 0.20)  # m and rad, beside the arc: begins to reverse, gives up and pulls out again
POOR_AT_END = (0.18, 0.08)  # m and rad, the same in the bay
FORWARD, REVERSE = 2.2, 1.1  # m/s
SLOWING, PACE = 0.3, 2.0  # m/s2 and 1/s
STOP, TOO_FAR, CREEP = 0.06, -0.12, 0.15  # m before and behind the end where it would stand, and m/s out again
AISLE_REACH, ARC_REACH = 2.2, 1.2  # m, way in which it closes an offset
DAMPING = 1.0
LEAD = 0.25  # m, by which it steers early


def build(s: Scene) -> None:
    m, body = s.memory, s.robot.body
    m.lot = ParkingLot(s.world)
    m.lidar = Lidar(
        s.world, body, rays=RAYS, height=RAY_HEIGHT, reach=RAY_REACH, half_length=HALF_LENGTH, half_width=HALF_WIDTH
    )
    size = math.hypot(*CAR_HALF[:2])
    m.near = Proximity(s.world, body, m.lot.obstacles, size=size, reach=REACH, near=NEAR)
    s.add_sensor("near", m.near)


def reset(s: Scene) -> None:
    m, d, draw = s.memory, s.difficulty, s.rng.uniform
    m.bay = BAYS[int(s.rng.integers(len(BAYS)))]
    m.lot.arrange(s.rng, m.bay, d)
    x = (1.0 - d) * (m.bay.x - EASY_BEFORE) + d * draw(*START_X)
    yaw = d * draw(-START_TURN, START_TURN)
    s.robot.drive.motion.place(x - MIDDLE * math.cos(yaw), d * draw(-START_Y, START_Y) - MIDDLE * math.sin(yaw), yaw)
    m.rest, m.gear, m.gears = 0, 0, 0


def process(s: Scene) -> None:
    """Before every control step: looks at how near everything is, and remembers what the last one came to."""
    m, speed = s.memory, s.robot.drive.motion.speed
    m.near.look(around(s))
    m.rest = m.rest + 1 if in_place(s) else 0
    if abs(speed) > MOVING:
        gear = 1 if speed > 0.0 else -1
        m.gears += gear == -m.gear
        m.gear = gear


@dataclass(frozen=True, slots=True)
class View:
    """The bay in the frame of the car's middle: where its middle is [m], and its direction as cosine and sine."""

    ahead: float
    left: float
    cos: float
    sin: float
    distance: float
    turned: float


@shared
def now(s: Scene) -> View:
    """The bay as seen from the car."""
    bay, car = s.memory.bay, s.robot.drive.motion
    cos, sin = math.cos(car.yaw), math.sin(car.yaw)
    dx, dy = bay.x - car.x - MIDDLE * cos, bay.y - car.y - MIDDLE * sin
    turned = wrap_angle(bay.yaw - car.yaw)
    return View(
        cos * dx + sin * dy, cos * dy - sin * dx, math.cos(turned), math.sin(turned), math.hypot(dx, dy), turned
    )


def bay_position(s: Scene) -> Vector:
    """Middle of the bay in the frame of the car's middle [m], (2,)."""
    view = now(s)
    return view.ahead, view.left


def bay_direction(s: Scene) -> Vector:
    """Unit vector out of the bay in the frame of the car, (2,)."""
    view = now(s)
    return view.cos, view.sin


def scan(s: Scene) -> NDArray[np.float64]:
    """Nearness along each ray, negated so that no return reads 0, the upper limit: -1 / range [1/m], (24,)."""
    return -1.0 / s.memory.lidar.scan()


def drive_state(s: Scene) -> Vector:
    """Speed [m/s], steering angle [rad] and acceleration [m/s2] that the drives tell, (3,)."""
    car = s.robot.drive.motion
    return car.speed, car.steering, car.acceleration


@shared
def around(s: Scene) -> list[tuple[float, Body]]:
    """Distance [m] of each obstacle about within reach."""
    return s.memory.near.distances()


def clearance(s: Scene) -> float:
    """Free distance around the car, at most 2 m [m]."""
    return min([gap for gap, _ in around(s)], default=REACH)


def distance(s: Scene) -> float:
    """Distance of the car's middle from that of the bay, 1 at 30 m."""
    return min(1.0, now(s).distance / 30.0)


def askew(s: Scene) -> float:
    """Angle between car and bay, 1 when it stands the wrong way round; counts within 8 m of the bay."""
    view = now(s)
    return abs(view.turned) / math.pi * min(1.0, max(0.0, 1.0 - view.distance / 8.0))


def tight(s: Scene) -> float:
    """0 with 0.3 m free all around, 1 at contact."""
    return min(1.0, max(0.0, 1.0 - clearance(s) / TIGHT))


def always(s: Scene) -> float:
    """1 in every step: time costs."""
    return 1.0


@shared
def in_place(s: Scene) -> bool:
    """Whether the car stands in the bay as it should."""
    view = now(s)
    return view.distance < WITHIN and abs(view.turned) < STRAIGHT and abs(s.robot.drive.motion.speed) < RESTING


def parked(s: Scene) -> bool:
    return in_place(s) and s.memory.rest >= REST_S * CONTROL_HZ and not touched(s)


def touched(s: Scene) -> bool:
    """Whether the car has touched anything but the ground."""
    return s.memory.near.touched or clearance(s) <= 0.0


def success(s: Scene) -> float:
    """1 when parked; ends the episode."""
    return float(parked(s))


def contact(s: Scene) -> float:
    """1 when the car has touched something; ends the episode."""
    return float(touched(s))


def heading_error(s: Scene) -> float:
    """Angle between car and bay [rad]."""
    return abs(now(s).turned)


def least_clearance(s: Scene) -> float:
    """Least free distance around the car in the episode, at most 2 m; negative where shapes overlapped [m]."""
    return min(s.memory.near.least, clearance(s))


def toward(value: float, low: float, high: float) -> float:
    """`value` within [low, high]."""
    return min(max(value, low), high)


@dataclass(frozen=True, slots=True)
class Track:
    """Where the rear axle is beside a line to follow: offset to the left, turned to the left, curvature of the line."""

    aside: float
    turned: float
    bend: float


def arc_track(x: float, y: float, heading: float) -> tuple[Track, float]:
    """The way of the rear axle into the bay, and how far it is from its end [m]: aisle, arc, straight to the middle."""
    centre_x, centre_y, end = LINE - RADIUS, RADIUS, -REAR_AXLE
    straight, arc = centre_x - end, 0.5 * math.pi * RADIUS
    if x < centre_x:
        track, left = Track(y, heading, 0.0), x - end
    elif y > centre_y:
        track, left = Track(LINE - x, heading - 0.5 * math.pi, 0.0), straight + arc + y - centre_y
    else:
        angle = math.atan2(x - centre_x, centre_y - y)
        track = Track(RADIUS - math.hypot(x - centre_x, y - centre_y), heading - angle, 1.0 / RADIUS)
        left = straight + RADIUS * angle
    ahead = left - LEAD  # what lies under the axle a little later
    return Track(track.aside, track.turned, 1.0 / RADIUS if straight < ahead < straight + arc else 0.0), left


def expert(s: Scene) -> list[float]:
    """Drives along the aisle past the bay, and back on an arc; where that goes wrong it pulls out on the arc again.

    It remembers nothing: which way it goes depends on how well it is on the arc, and on which way it is rolling.
    """
    bay, car = s.memory.bay, s.robot.drive.motion
    back = CAR_DATA.rear
    at_x, at_y = car.x - back * math.cos(car.yaw) - bay.x, car.y - back * math.sin(car.yaw) - bay.y
    x, y = -bay.side * at_y, at_x
    heading = math.atan2(math.cos(car.yaw), -bay.side * math.sin(car.yaw))
    arc, left = arc_track(x, y, heading)
    poor = POOR_AT_END if left < 0.5 else POOR
    off = GOOD if car.speed > 0.1 else poor
    reverse = abs(arc.aside) < off[0] and abs(arc.turned) < off[1]
    if reverse:
        bend = arc.bend - arc.aside / ARC_REACH**2 + 2.0 * DAMPING * arc.turned / ARC_REACH
        pace = -toward(math.sqrt(2.0 * SLOWING * max(left - STOP, 0.0)), 0.0, REVERSE)
        pace = CREEP if left < TOO_FAR else pace
    else:
        track, reach = arc, ARC_REACH
        aisle = Track(LINE - x, heading - 0.5 * math.pi, 0.0)
        if abs(aisle.turned) < abs(arc.turned) + 0.05:
            track, reach = aisle, AISLE_REACH
        bend = track.bend - track.aside / reach**2 - 2.0 * DAMPING * math.sin(track.turned) / reach
        pace = toward(math.sqrt(2.0 * SLOWING * max(RADIUS + PAST - y, 0.05)), 0.2, FORWARD)
    steering = bay.side * math.atan(CAR_DATA.wheelbase * bend) - car.steering_offset
    steering = toward(steering, -PARKING_DRIVE.steering, PARKING_DRIVE.steering)
    pace *= toward(1.3 - 3.0 * abs(steering - car.steering), 0.0, 1.0)
    push = PACE * (pace - car.speed)
    return [steering / PARKING_DRIVE.steering, push / PARKING_DRIVE.acceleration[1]]


TASK = Task(
    id="ValetParking-v0",
    suite="mobility",
    summary="drive into a car park and reverse into the marked bay between parked cars",
    robot=CAR,
    control_hz=CONTROL_HZ,
    physics=Physics(hz=50, solver_iterations=10),
    episode_s=EPISODE_S,
    actions=(PARKING_DRIVE,),
    observations=(
        Observation(
            "bay_position",
            bay_position,
            (2,),
            "m",
            -30.0,
            30.0,
            frame="base",
            noise_std=0.02,
            bias_std=0.03,
            delay_s=0.1,
        ),
        Observation(
            "bay_direction",
            bay_direction,
            (2,),
            "1",
            -1.5,
            1.5,
            frame="base",
            noise_std=0.01,
            bias_std=0.005,
            delay_s=0.1,
        ),
        Observation("scan", scan, (RAYS,), "1/m", -2.0, 0.0, frame="base", noise_std=RAY_NOISE, dropout=RAY_DROPOUT),
        Observation(
            "drive_state",
            drive_state,
            (3,),
            "m/s, rad, m/s2",
            (-2.0, -0.7, -3.0),
            (3.0, 0.7, 3.0),
            frame="base",
            noise_std=0.005,
        ),
    ),
    rewards=(
        Reward("distance", distance, weight=-0.02),
        Reward("askew", askew, weight=-0.02),
        Reward("tight", tight, weight=-0.05),
        Reward("jerks", terms.action_change, weight=-0.0125, high=4.0),
        Reward("time", always, weight=-0.005),
        Reward("contact", contact, weight=-10.0),
        Reward("success", success, weight=10.0),
    ),
    randomization=(
        Randomize("wheelbase", 2.60, 2.76, "m", set_motion("wheelbase")),
        Randomize("steering_offset", -0.02, 0.02, "rad", set_motion("steering_offset")),
        Randomize("rolling", 0.08, 0.20, "m/s2", set_motion("rolling")),
        Randomize("slope", -0.15, 0.15, "m/s2", set_motion("slope")),
    ),
    metrics=(
        Metric(
            "final_position_error", lambda s: now(s).distance, "m", "Distance from the middle of the bay at the end."
        ),
        Metric("final_heading_error", heading_error, "rad"),
        Metric("min_clearance", least_clearance, "m"),
        Metric("gear_changes", lambda s: s.memory.gears, "1", "How often it changed between forward and reverse."),
    ),
    process=process,
    build=build,
    reset=reset,
    success=parked,
    failure=touched,
    expert=expert,
    camera=Camera(eye=(0.5, -19.0, 22.0), target=(0.5, -1.0, 0.0), field_of_view_deg=46.0, light=(12.0, -16.0, 40.0)),
)
