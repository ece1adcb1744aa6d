"""LaneFollowing: drive along a winding country road in the middle of the lane, as fast as it allows.

Goal      300 m driven inside the lane with a root mean square of the lateral offset under 0.2 m.
Start     near the middle of the lane, at 60 to 100 % of the speed limit there; a new road every time: straights,
          clothoids, and curves of 20 to 250 m radius. Difficulty scales the sharpness of curves and the start.
Ends      success; failure when a corner of the car leaves the lane, or when the finish is reached too inexactly;
          60 s (truncated).
Physics   The motion is that of a dynamic bicycle model with tyre slip (`parts.bicycle`), outside of Bullet, which has
          no tyres; before each physics step the body is carried to where the model is. The road is level but for its
          bank.
Reward    progress, less offset, speeding, jerks and time; finish 10, leaving the lane -10.
Sources   lane 3.5 m: German guideline RAL, 2012; noise, delay (0.1 s) and gaps of the camera: our choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from physai_envs import terms
from physai_envs.geometry import wrap_angle
from physai_envs.parts.lane_camera import LaneCamera
from physai_envs.parts.road import LANE, LIMIT, Road, RoadTiles
from physai_envs.robots.car import CAR, CAR_DATA, HALF_LENGTH, HALF_WIDTH, MIDDLE, ROAD_DRIVE, set_motion
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Physics, Vector

CONTROL_HZ, EPISODE_S = 20, 60.0
LENGTH = 300.0  # m
TIGHTEST = (80.0, 20.0)  # m, smallest radius at difficulty 0 and 1
START_OFFSET, START_TURN, START_SPEED = 0.3, 0.03, 0.6  # m, rad, share of the limit
EXACT = 0.2  # m, root mean square of the offset that counts as following the lane
PREVIEW = (4.0, 10.0, 18.0, 30.0, 50.0)  # m, where the camera reads the curvature
LOOK_AHEAD = 1.0  # s, how early the map tells the speed limit
LATENCY, LOSS, MEAN_GAP = 2, 0.02, 4.0  # frames, a frame, frames: 7 % of the readings are old ones
OFF = 0.5  # m, offset that is penalised fully
FASTER = 0.2  # share above the limit that is penalised fully

# The expert
REACH, LEAST_REACH, DAMPING = 0.4, 4.0, 0.9  # s and m: way in which it closes an offset, and how calmly
LEAD = 0.12  # s, by which it steers early: half of the latency of an action, and the lag of the tyres
PACE, PACE_LEAD = 1.2, 0.3  # 1/s and s


def build(s: Scene) -> None:
    s.memory.tiles = RoadTiles(s.world)
    s.memory.camera = LaneCamera(1.0 / CONTROL_HZ, delay=LATENCY, loss=LOSS, mean_gap=MEAN_GAP)


def reset(s: Scene) -> None:
    m, d, car, draw = s.memory, s.difficulty, s.robot.drive.motion, s.rng.uniform
    m.road = Road(s.rng, LENGTH, (1.0 - d) * TIGHTEST[0] + d * TIGHTEST[1])
    x, y, heading = m.road.point(0.0)
    aside = d * draw(-START_OFFSET, START_OFFSET)
    speed = m.road.limits[0] * draw(START_SPEED, 1.0)
    yaw = heading + d * draw(-START_TURN, START_TURN)
    car.place(x - aside * math.sin(heading), y + aside * math.cos(heading), yaw, speed)
    m.near, m.sum_of_squares, m.frames, m.most = 0.0, 0.0, 0, 0.0
    m.last = now(s)
    m.camera.reset(s.rng, frame(s))
    m.tiles.reset()
    m.tiles.show(m.road, 0.0)


def process(s: Scene) -> None:
    """Before every control step: takes a picture of the lane, and remembers what the last step came to."""
    m, view = s.memory, now(s)
    m.camera.expose(frame(s))
    m.sum_of_squares += view.offset**2
    m.frames += 1
    m.most = max(m.most, abs(s.robot.drive.motion.lateral_acceleration))
    m.near, m.last = view.s, view
    m.tiles.show(m.road, view.s)


@dataclass(frozen=True, slots=True)
class View:
    """Where the car is on the road.

    Way `s` and `offset` to the left [m], `turned` to the left of the lane [rad], `bend` of the lane there [1/m].
    """

    s: float
    offset: float
    turned: float
    bend: float


@shared
def now(s: Scene) -> View:
    """The present place of the centre of gravity."""
    m, car = s.memory, s.robot.drive.motion
    way, offset, heading = m.road.locate(car.x, car.y, m.near)
    return View(way, offset, wrap_angle(car.yaw - heading), m.road.value(m.road.curvature, way))


def frame(s: Scene) -> Vector:
    """What the camera would read without any error: offset [m], angle [rad], and curvatures ahead [1/m], (7,)."""
    view, road = now(s), s.memory.road
    return (view.offset, view.turned, *[road.value(road.curvature, view.s + ahead) for ahead in PREVIEW])


def lane_offset(s: Scene) -> float:
    """Offset of the centre of gravity from the middle of the lane, positive to the left, as the camera reads it [m]."""
    return s.memory.camera.reading[0]


def lane_angle(s: Scene) -> float:
    """Direction of the car, as seen from that of the lane, as the camera reads it [rad]."""
    return s.memory.camera.reading[1]


def curvature(s: Scene) -> Vector:
    """Curvature of the lane at the preview distances, as the camera reads it [1/m], (5,)."""
    return s.memory.camera.reading[2:]


def reading_age(s: Scene) -> float:
    """Age of what the camera says [s]."""
    return s.memory.camera.age


def odometry(s: Scene) -> Vector:
    """Speed [m/s], yaw rate [rad/s] and lateral acceleration [m/s2], by wheel speeds and inertial sensors, (3,)."""
    car = s.robot.drive.motion
    return car.speed, car.yaw_rate, car.lateral_acceleration


def drive_state(s: Scene) -> Vector:
    """Steering angle [rad] and acceleration [m/s2] that the drives hold, (2,)."""
    return s.robot.drive.motion.steering, s.robot.drive.motion.acceleration


@shared
def limits(s: Scene) -> Vector:
    """Speed limit here and where the car will be in a second [m/s], (2,)."""
    road, way = s.memory.road, now(s).s
    return road.value(road.limits, way), road.value(road.limits, way + LOOK_AHEAD * s.robot.drive.motion.speed)


def progress(s: Scene) -> float:
    """Way made in this step, as a share of the farthest at the highest limit, -1 to 1."""
    made = (now(s).s - s.memory.last.s) * CONTROL_HZ / LIMIT
    return min(1.0, max(-1.0, made))


def off_centre(s: Scene) -> float:
    """Square of the offset, 1 at half a metre and beyond."""
    return min(1.0, (now(s).offset / OFF) ** 2)


def speeding(s: Scene) -> float:
    """How far the car is above the limit, 1 at 20 %."""
    return min(1.0, max(0.0, (s.robot.drive.motion.speed / limits(s)[0] - 1.0) / FASTER))


def always(s: Scene) -> float:
    """1 in every step: time costs."""
    return 1.0


@shared
def left_lane(s: Scene) -> bool:
    """Whether a corner of the car is beyond a line of the lane."""
    view = now(s)
    for along in (MIDDLE + HALF_LENGTH, MIDDLE - HALF_LENGTH):
        middle = view.offset + along * math.sin(view.turned) - 0.5 * view.bend * along**2
        if abs(middle) + HALF_WIDTH * math.cos(view.turned) > 0.5 * LANE:
            return True
    return False


def lateral_rms(s: Scene) -> float:
    """Root mean square of the offset so far [m]."""
    m = s.memory
    return math.sqrt((m.sum_of_squares + now(s).offset ** 2) / (m.frames + 1))


def finished(s: Scene) -> bool:
    return now(s).s >= LENGTH and not left_lane(s) and lateral_rms(s) < EXACT


def failed(s: Scene) -> bool:
    return left_lane(s) or (now(s).s >= LENGTH and lateral_rms(s) >= EXACT)


def finish(s: Scene) -> float:
    """1 at the end of the road; ends the episode."""
    return float(finished(s))


def failure(s: Scene) -> float:
    """1 outside of the lane, or at the end of the road after following it too inexactly; ends the episode."""
    return float(failed(s))


def mean_speed(s: Scene) -> float:
    """Mean speed along the road [m/s]."""
    return now(s).s / s.time_s


def most_acceleration(s: Scene) -> float:
    """Largest lateral acceleration of the episode [m/s2]."""
    return max(s.memory.most, abs(s.robot.drive.motion.lateral_acceleration))


def expert(s: Scene) -> list[float]:
    """Steers by the curvature ahead and the true offset and course, and keeps the limit; remembers nothing.

    It knows how far the steering is out of true; a policy can tell from steering angle, yaw rate and speed.
    """
    car, view, road = s.robot.drive.motion, now(s), s.memory.road
    speed = max(car.speed, 1.0)
    course = view.turned + math.atan2(car.lateral_speed, speed)
    reach = max(LEAST_REACH, REACH * speed)
    bend = road.value(road.curvature, view.s + LEAD * speed)
    bend -= view.offset / reach**2 + 2.0 * DAMPING * math.sin(course) / reach
    steering = (CAR_DATA.wheelbase + CAR_DATA.understeer(car.mass) * speed**2) * bend - car.steering_offset
    wanted = road.value(road.limits, view.s + PACE_LEAD * speed)
    later = road.value(road.limits, view.s + (PACE_LEAD + 0.2) * speed)
    push = PACE * (wanted - speed) + (later - wanted) / 0.2
    low, high = ROAD_DRIVE.acceleration
    return [steering / ROAD_DRIVE.steering, 2.0 * (push - low) / (high - low) - 1.0]


def set_payload(s: Scene, kilograms: float) -> None:
    s.robot.drive.motion.mass = CAR_DATA.mass + kilograms


def set_wind(s: Scene, speed: float) -> None:
    """Blows across the x axis of the world, along which the road leads on the whole."""
    s.robot.drive.motion.wind = (0.0, speed)


TASK = Task(
    id="LaneFollowing-v0",
    suite="mobility",
    summary="drive along an unseen winding road in the middle of the lane by a lane camera, as fast as it allows",
    robot=CAR,
    control_hz=CONTROL_HZ,
    physics=Physics(hz=100, solver_iterations=10),
    episode_s=EPISODE_S,
    action_delay_s=0.05,
    actions=(ROAD_DRIVE,),
    observations=(
        Observation("lane_offset", lane_offset, (1,), "m", -3.0, 3.0, frame="base", noise_std=0.03, bias_std=0.04),
        Observation("lane_angle", lane_angle, (1,), "rad", -1.0, 1.0, frame="base", noise_std=0.005, bias_std=0.003),
        Observation("curvature", curvature, (len(PREVIEW),), "1/m", -0.1, 0.1, frame="base", noise_std=0.0007),
        Observation("reading_age", reading_age, (1,), "s", 0.0, 2.0),
        Observation(
            "odometry",
            odometry,
            (3,),
            "m/s, rad/s, m/s2",
            (-1.0, -2.0, -10.0),
            (35.0, 2.0, 10.0),
            frame="base",
            noise_std=0.01,
        ),
        Observation("drive_state", drive_state, (2,), "rad, m/s2", (-0.3, -5.0), (0.3, 5.0), frame="base"),
        Observation("limits", limits, (2,), "m/s", 0.0, 30.0),
    ),
    rewards=(
        Reward("progress", progress, weight=0.04, low=-1.0),
        Reward("off_centre", off_centre, weight=-0.05),
        Reward("speeding", speeding, weight=-0.1),
        Reward("jerks", terms.action_change, weight=-0.0125, high=4.0),
        Reward("time", always, weight=-0.01),
        Reward("failure", failure, weight=-10.0),
        Reward("finish", finish, weight=10.0),
    ),
    randomization=(
        Randomize("payload", 0.0, 400.0, "kg", set_payload),
        Randomize("friction", 0.5, 1.0, "1", set_motion("friction")),
        Randomize("wind", -10.0, 10.0, "m/s", set_wind),
        Randomize("bank", -0.03, 0.03, "rad", set_motion("bank")),
        Randomize("steering_offset", -0.01, 0.01, "rad", set_motion("steering_offset")),
    ),
    metrics=(
        Metric("lateral_rms", lateral_rms, "m"),
        Metric("max_lateral_acceleration", most_acceleration, "m/s2"),
        Metric("mean_speed", mean_speed, "m/s"),
    ),
    process=process,
    build=build,
    reset=reset,
    success=finished,
    failure=failed,
    expert=expert,
    solved_at=0.98,
    camera=Camera(eye=(-11.0, 0.0, 5.5), target=(9.0, 0.0, 0.0), follows=True, light=(30.0, -40.0, 80.0)),
)
