"""WeldSeam: guide a welding torch along a winding seam on a curved hull plate, by a laser sensor that looks ahead.

Goal      the whole seam of 30 cm welded: distance to the seam and stand-off error each below 1 mm RMS, torch within 5
          degrees of the normal everywhere, travel speed within 10 % RMS of the one that the welding procedure asks for.
Start     on the run-on tab, 4 cm before the seam: up to 6 mm beside it, 4 mm too high or low, tilted as the plate is.
Ends      success, or failure at the seam's end; failure when the torch touches or loses the work; 34 s (truncated).
Physics   the arm's alone. The plate is a formula without a collision shape: 1 cm too low, before anything but the wire
          would touch it, the episode ends. Arc and melt are left out, and heat, which would warp the plate.
Reward    exactness of place, stand-off, angle and speed less the cost of time; the end, good or bad.
Sources   groove: ISO 9692-1; travel speed: 0.7 to 1.2 m/min, as in mechanised MAG welding of thin plate; stand-off: 15
          mm from contact tip to work, usual for 1.2 mm wire; `tolerance`: arXiv:1801.00690.
"""

from __future__ import annotations

from math import radians, tau

import numpy as np
from numpy.typing import NDArray

from physai_envs import terms
from physai_envs.control import EndEffectorTwist
from physai_envs.parts.laser import AHEAD, Course, SeamTracker
from physai_envs.parts.seam import Deviation, PlateLooks, Seam, WeldLog, deviation, lean
from physai_envs.robots.panda import PANDA_TORCH
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Physics

ENDS = (-0.15, 0.15)  # m, y of the seam's ends
RUN_ON = 0.04  # m, tab before the seam on which the torch gets into place
PLATE = (-0.2125, 0.2)  # m, y of the ends of what is shown
MIDDLE, SPREAD = (0.5, 0.17), (0.02, 0.015)  # m, x and z of the seam's middle
WINDING = ((0.006, 0.22), (0.0015, 0.09), (0.0003, 0.03))  # m, amplitude and wave length; the last is rough edges
UPS_AND_DOWNS = ((0.0025, 0.16),)  # m, the same in height: plates sag between their frames
SLOPE, BEND = 0.07, 0.8  # and 1/m: the hull's own
START_ASIDE, START_HEIGHT = 0.006, 0.004  # m
LATERAL_LIMIT, STANDOFF_LIMIT, ANGLE_LIMIT, SPEED_LIMIT = 0.001, 0.001, radians(5.0), 0.1
TOUCHING, LOST = 0.01, 0.02  # m: wire end so far under the surface, contact tip 5 mm above; so far from the seam
FALLEN = radians(35.0)
SPEED, TURN = 0.03, 0.4  # m/s of each axis, and rad/s
PREVIEW = np.array((0.0, 0.008, 0.016))  # m ahead of the torch: where the tracker tells the course of the seam
GAIN, TURN_GAIN = 3.0, 3.0  # 1/s, how fast the expert closes its errors
END_BONUS, END_COST = 20.0, 30.0


def build(s: Scene) -> None:
    s.world.floor()
    s.memory.looks = PlateLooks(s.world, PLATE, ENDS)
    s.add_sensor("tracker", SeamTracker(s.robot))
    s.add_sensor("log", WeldLog(lambda: weld(s), lambda: s.robot.tip_position[1], ENDS))


def reset(s: Scene) -> None:
    m, d = s.memory, s.difficulty

    def waves(shape: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float, float], ...]:
        return tuple(
            (d * a * s.rng.uniform(0.5, 1.0), tau / length * s.rng.uniform(0.8, 1.2), s.rng.uniform(0.0, tau))
            for a, length in shape
        )

    x, z = (s.rng.uniform(-1.0, 1.0, 2) * SPREAD + MIDDLE).tolist()
    slope_x, slope_y, bend_x, bend_y = (d * s.rng.uniform(-1.0, 1.0, 4) * (SLOPE, SLOPE, BEND, BEND)).tolist()
    across, along = waves(WINDING), waves(UPS_AND_DOWNS)
    m.seam = seam = Seam(x, z, across, along, slope_x, slope_y, bend_x, bend_y, m.gap, m.mismatch)
    y = ENDS[0] - RUN_ON
    aside, up = (d * s.rng.uniform(-1.0, 1.0, 2) * (START_ASIDE, START_HEIGHT)).tolist()
    s.robot.place_tip((seam.centre(y) + aside, y, seam.height(seam.centre(y), y) + up))
    tracker, log = s.sensors["tracker"], s.sensors["log"]
    tracker.lateral_offset, tracker.height_offset = m.laser_lateral, m.laser_height
    tracker.follow(seam, np.random.default_rng(s.rng.integers(2**63)))
    log.target_speed = m.process_speed
    m.looks.show(seam)


def process(s: Scene) -> None:
    y = s.robot.tip_position[1]
    s.memory.looks.weld(s.memory.seam, y, y + AHEAD)


@shared
def weld(s: Scene) -> Deviation:
    """How the torch stands to the seam, in truth."""
    return deviation(s.memory.seam, s.robot)


@shared
def course(s: Scene) -> Course:
    """Where the tracker believes the seam to be, under the torch and ahead of it."""
    return s.sensors["tracker"].course(s.robot.tip_position[1] + PREVIEW)


def seam_offset(s: Scene) -> NDArray[np.float64]:
    """Distance of the tracked seam from the tip across, and how that goes on 8 and 16 mm ahead [m], (3,)."""
    return course(s).x - s.robot.tip_position[0]


def seam_height(s: Scene) -> NDArray[np.float64]:
    """Height of the tracked seam over the tip, and how that goes on 8 and 16 mm ahead [m], (3,)."""
    return course(s).z - s.robot.tip_position[2]


def seam_heading(s: Scene) -> NDArray[np.float64]:
    """Slope dx/dy of the tracked seam, under the torch, 8 and 16 mm ahead, (3,)."""
    return course(s).dx


def torch_lean(s: Scene) -> NDArray[np.float64]:
    """Slopes along x and y of the tracked surface against the torch's normal plane, here, 8 and 16 mm ahead, (6,)."""
    ax, ay, az = s.robot.tool_axis
    c = course(s)
    return np.concatenate((c.bank + ax / az, c.dz - c.bank * c.dx + ay / az))


def tracking(s: Scene) -> float:
    """Share of good profiles among the sensor's last ones."""
    return s.sensors["tracker"].fresh


def process_speed(s: Scene) -> float:
    """Travel speed that the welding procedure asks for [m/s]."""
    return s.memory.process_speed


def way_left(s: Scene) -> float:
    """Distance along y to the seam's end, which the program knows [m]."""
    return ENDS[1] - s.robot.tip_position[1]


def on_seam(s: Scene) -> float:
    """1 with the wire on the seam, 0.1 at 3 mm from it."""
    return terms.tolerance(weld(s).lateral, 0.0, 0.0, 0.003)


def at_height(s: Scene) -> float:
    """1 at the right stand-off, 0.1 at 3 mm from it."""
    return terms.tolerance(weld(s).standoff, 0.0, 0.0, 0.003)


def upright(s: Scene) -> float:
    """1 with the torch along the normal, 0.1 at 10 degrees from it."""
    return terms.tolerance(weld(s).angle, 0.0, 0.0, 2 * ANGLE_LIMIT)


def at_speed(s: Scene) -> float:
    """1 at the speed of the procedure, 0.1 at half or one and a half of it."""
    return terms.tolerance(weld(s).speed / process_speed(s), 1.0, 1.0, 0.5)


def time(s: Scene) -> float:
    """1 each step; its weight is the sum of the weights above, so that being done is worth more than any waiting."""
    return 1.0


def finished(s: Scene) -> float:
    """1 when the seam is welded within its limits."""
    return float(welded(s))


def scrapped(s: Scene) -> float:
    """1 when the seam is spoilt."""
    return float(spoilt(s))


def at_end(s: Scene) -> bool:
    return way_left(s) <= 0.0


@shared
def within_limits(s: Scene) -> bool:
    log = s.sensors["log"]
    return bool(
        log.lateral_rms < LATERAL_LIMIT
        and log.standoff_rms < STANDOFF_LIMIT
        and log.angle_max < ANGLE_LIMIT
        and log.speed_rms < SPEED_LIMIT
    )


def welded(s: Scene) -> bool:
    return at_end(s) and within_limits(s)


def spoilt(s: Scene) -> bool:
    now = weld(s)
    off = now.standoff < -TOUCHING or max(abs(now.lateral), now.standoff) > LOST or now.angle > FALLEN
    return off or (at_end(s) and not within_limits(s))


def expert(s: Scene) -> list[float]:
    """Travels along the true seam at the speed of the procedure, and closes its errors; remembers nothing."""
    now, seam, speed = weld(s), s.memory.seam, process_speed(s)
    y = s.robot.tip_position[1]
    vx, vy, vz = (speed * t - GAIN * now.standoff * n for t, n in zip(seam.tangent(y), seam.normal_at(y), strict=True))
    roll, pitch = (TURN_GAIN * v for v in lean(s.robot.tool_axis, seam.normal_at(y + speed / TURN_GAIN)))
    command = ((vx - GAIN * now.lateral) / SPEED, vy / SPEED, vz / SPEED, roll / TURN, pitch / TURN)
    return [min(max(v, -1.0), 1.0) for v in command]


TASK = Task(
    id="WeldSeam-v0",
    suite="assembly",
    summary="weld a winding seam on a curved hull plate by a laser that looks ahead, within 1 mm RMS",
    robot=PANDA_TORCH,
    control_hz=20,
    physics=Physics(hz=120, solver_iterations=10, contact_threshold=0.02),
    episode_s=34.0,
    actions=(EndEffectorTwist(linear=SPEED, tilt=TURN),),
    observations=(
        Observation("seam_offset", seam_offset, (3,), "m", -0.05, 0.05, noise_std=0.00005),
        Observation("seam_height", seam_height, (3,), "m", -0.05, 0.05, noise_std=0.00005),
        Observation("seam_heading", seam_heading, (3,), "1", -1.0, 1.0),
        Observation("torch_lean", torch_lean, (6,), "1", -1.0, 1.0, noise_std=0.001),
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -0.1, 0.1, noise_std=0.0003),
        Observation("tracking", tracking, (1,), "1", 0.0, 1.0, frame="sensor"),
        Observation("process_speed", process_speed, (1,), "m/s", 0.0, 0.05, frame="program"),
        Observation("way_left", way_left, (1,), "m", -0.1, 0.5, frame="program"),
    ),
    rewards=(
        Reward("on_seam", on_seam, weight=0.4),
        Reward("at_height", at_height, weight=0.3),
        Reward("upright", upright, weight=0.2),
        Reward("at_speed", at_speed, weight=0.3),
        Reward("time", time, weight=-1.2),
        Reward("finished", finished, weight=END_BONUS),
        Reward("scrapped", scrapped, weight=-END_COST),
    ),
    randomization=(
        Randomize("process_speed", 0.012, 0.02, "m/s", lambda s, value: setattr(s.memory, "process_speed", value)),
        Randomize("laser_lateral", -0.0003, 0.0003, "m", lambda s, value: setattr(s.memory, "laser_lateral", value)),
        Randomize("laser_height", -0.0003, 0.0003, "m", lambda s, value: setattr(s.memory, "laser_height", value)),
        Randomize("root_gap", 0.0, 0.002, "m", lambda s, value: setattr(s.memory, "gap", value)),
        Randomize("mismatch", -0.001, 0.001, "m", lambda s, value: setattr(s.memory, "mismatch", value)),
    ),
    metrics=(
        Metric(
            "lateral_rms",
            lambda s: s.sensors["log"].lateral_rms,
            "m",
            "Distance to the seam, root mean square over its length.",
        ),
        Metric("lateral_max", lambda s: s.sensors["log"].lateral_max, "m", "The largest distance to the seam."),
        Metric(
            "standoff_rms", lambda s: s.sensors["log"].standoff_rms, "m", "Error of the stand-off, root mean square."
        ),
        Metric("angle_max", lambda s: s.sensors["log"].angle_max, "rad", "Largest angle between torch and normal."),
        Metric(
            "speed_rms",
            lambda s: s.sensors["log"].speed_rms,
            "1",
            "Error of the travel speed as a share of it, root mean square.",
        ),
        Metric(
            "welded_length",
            lambda s: min(max(s.robot.tip_position[1], ENDS[0]), ENDS[1]) - ENDS[0],
            "m",
            "Length of the seam that is welded.",
        ),
    ),
    build=build,
    reset=reset,
    process=process,
    success=welded,
    failure=spoilt,
    expert=expert,
    camera=Camera(eye=(1.0, 0.3, 0.48), target=(0.46, 0.0, 0.24)),
)
