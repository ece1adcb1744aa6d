"""EccentricDrive: a droid on four eccentric wheels keeps its deck level over rough ground, at the commanded speed.

Goal      after 10 s: RMS of roll and of pitch under 2 degrees each, and the mean error of the forward speed under 10 %
          of the command, all without the first second, in which the droid starts from rest.
Start     on the level, at rest, before a lane of domes, logs and slabs; command of 0.4 to 0.8 m/s; difficulty scales
          this speed and their height, to 7 to 9 cm. With arms that hold still the deck rolls by 3 degrees RMS.
Ends      10 s (success or truncated); failure when the deck tilts by 25 degrees or the droid leaves the lane.
Reward    costs of tilt, speed error and jerky commands; failure costs more than all of them together, success pays.
Sources   robot: `assets/robots/droid.urdf`; sensors: an industrial IMU, 0.1 degrees of noise and 0.2 of mounting error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from physai_envs import terms
from physai_envs.geometry import euler_of, rotate_back
from physai_envs.parts.terrain import Terrain
from physai_envs.robots.droid import DROID, ECCENTRICITY, MASS, PIVOT_X, RADIUS, TOTAL_MASS, WHEEL_Y, WHEELS
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Physics, Vector

CONTROL_HZ, EPISODE_S = 50, 10.0
START_S = 1.0  # excluded from tilt and speed error: the droid starts from rest
MAX_RMS = math.radians(2.0)  # of roll and of pitch, each
MAX_SPEED_ERROR = 0.1  # share of the command, mean
TIPPED = math.radians(25.0)
START_X = -4.0  # m, of the droid's middle
LANE = 0.6  # m, to either side of its middle; beyond twice that the droid has lost its way
RUN_UP = 0.9  # m, from the middle of the droid to the first mound
SLOWEST, FASTEST = 0.4, 0.8  # m/s
LANE_END = START_X + RUN_UP + FASTEST * EPISODE_S  # m
SLOPE = 0.2  # rad, tilt that costs as much as it can
GRAVITY = 9.81  # m/s2

# The expert
LEVELLING, DAMPING = 12.0, 0.5  # 1/s of the tilt, and share of its rate: how fast a corner rises
CENTRING = 1.0  # 1/s, of the mean of the arms
MIDDLE = 0.2  # rad, to which it centres them: 1 cm up, room for the belly
STEERING, YAW_DAMPING, SPEED_GAIN = 1.0, 0.3, 1.0  # rad/s of the wheels per rad, per rad/s; share of the error
SIDE_X, SIDE_Y = (1.0, 1.0, -1.0, -1.0), (1.0, -1.0, 1.0, -1.0)  # of the corners: ahead or behind, left or right


def build(s: Scene) -> None:
    s.world.floor(color=(0.70, 0.66, 0.58, 1.0))
    s.memory.terrain = Terrain(s.world, domes=24, logs=8, slabs=8)


def reset(s: Scene) -> None:
    m = s.memory
    m.command = SLOWEST + s.difficulty * (s.randomization["speed_command"] - SLOWEST)
    s.robot.body.place((START_X, 0.0, RADIUS))
    m.terrain.arrange(
        s.rng, (START_X + RUN_UP, -LANE), (LANE_END, LANE), s.difficulty * s.randomization["ground_height"]
    )
    m.squares, m.error, m.steps, m.energy, m.worst = [0.0, 0.0], 0.0, 0, 0.0, 0.0


def process(s: Scene) -> None:
    """Before every control step: adds up what success and the metrics are made of."""
    m, motion = s.memory, now(s)
    states = s.robot.body.joint_states
    m.energy += sum([abs(state[1] * state[3]) for state in states]) / CONTROL_HZ if s.time_s else 0.0
    if s.time_s < START_S:
        return
    m.steps += 1
    m.squares[0] += motion.roll**2
    m.squares[1] += motion.pitch**2
    m.error += abs(motion.speed - m.command)
    m.worst = max(m.worst, abs(motion.roll), abs(motion.pitch))


@dataclass(slots=True)
class Motion:
    """What several terms need of one moment: attitude [rad], rates about the deck's axes [rad/s], speed ahead [m/s]."""

    roll: float
    pitch: float
    yaw: float
    rates: Vector
    speed: float


@shared
def now(s: Scene) -> Motion:
    """The present motion."""
    body = s.robot.body
    linear, angular = body.velocity
    roll, pitch, yaw = euler_of(body.orientation)
    return Motion(
        roll, pitch, yaw, rotate_back(body.orientation, angular), math.cos(yaw) * linear[0] + math.sin(yaw) * linear[1]
    )


def tilt(s: Scene) -> Vector:
    """Roll and pitch of the deck [rad], (2,)."""
    return now(s).roll, now(s).pitch


def rates(s: Scene) -> Vector:
    """Turning rate of the deck about its own axes [rad/s], (3,)."""
    return now(s).rates


def heading(s: Scene) -> float:
    """Direction of the droid against that of the lane [rad]."""
    return now(s).yaw


def arm_angles(s: Scene) -> list[float]:
    """Angles of the arms [rad], (4,)."""
    return s.robot.joint_positions[0::2]


def arm_rates(s: Scene) -> list[float]:
    """Turning rates of the arms [rad/s], (4,)."""
    return s.robot.joint_velocities[0::2]


def wheel_speeds(s: Scene) -> list[float]:
    """Speeds of the wheels against their arms [rad/s], (4,)."""
    return s.robot.joint_velocities[1::2]


def command(s: Scene) -> float:
    """Forward speed that is asked for [m/s]."""
    return s.memory.command


def tilting(s: Scene) -> float:
    """Square of the tilt, as a share of that of 0.2 rad, at most 1."""
    motion = now(s)
    return min(1.0, (motion.roll**2 + motion.pitch**2) / SLOPE**2)


def straying(s: Scene) -> float:
    """Error of the forward speed as a share of the command, at most 1."""
    return min(1.0, abs(now(s).speed - s.memory.command) / s.memory.command)


def jerk(s: Scene) -> float:
    """Mean squared change of the command, as a share of the largest."""
    return 0.25 * terms.action_change(s)


def lost(s: Scene) -> bool:
    """Whether the deck has tipped over or the droid has left the lane."""
    motion = now(s)
    return max(abs(motion.roll), abs(motion.pitch)) > TIPPED or abs(s.robot.body.position[1]) > 2.0 * LANE


def loss(s: Scene) -> float:
    """1 when the droid tipped or left the lane; ends the episode."""
    return float(lost(s))


def rms(s: Scene, axis: int) -> float:
    """RMS of roll (0) or pitch (1) since the start-up [rad]."""
    return math.sqrt(s.memory.squares[axis] / max(s.memory.steps, 1))


def speed_error(s: Scene) -> float:
    """Mean error of the forward speed since the start-up, as a share of the command."""
    return s.memory.error / max(s.memory.steps, 1) / s.memory.command


def level(s: Scene) -> bool:
    """Whether the whole way was level and at speed; told at its end."""
    done = s.time_s > EPISODE_S - 0.5 / CONTROL_HZ and not lost(s)
    return done and max(rms(s, 0), rms(s, 1)) < MAX_RMS and speed_error(s) < MAX_SPEED_ERROR


def arrival(s: Scene) -> float:
    """1 at the end of a way that was level and at speed."""
    return float(level(s))


def cost_of_transport(s: Scene) -> float:
    """Mechanical work of all motors over weight and way."""
    mass = TOTAL_MASS + s.randomization["payload"]
    return s.memory.energy / (mass * GRAVITY * max(s.robot.body.position[0] - START_X, 0.1))


def expert(s: Scene) -> list[float]:
    """Raises the corners that hang low, and turns each wheel so that it rolls under its moving arm."""
    motion, asked = now(s), s.memory.command
    roll_rate, pitch_rate, yaw_rate = motion.rates
    nod, sway = LEVELLING * motion.pitch + DAMPING * pitch_rate, LEVELLING * motion.roll + DAMPING * roll_rate
    angles = arm_angles(s)
    centre = CENTRING * (MIDDLE - sum(angles) / 4.0)
    rolling = (asked + SPEED_GAIN * (asked - motion.speed)) / RADIUS if s.time_s > START_S else asked / RADIUS
    turn = STEERING * motion.yaw + YAW_DAMPING * yaw_rate
    arms, wheels = [], []
    for angle, x, y in zip(angles, SIDE_X, SIDE_Y, strict=True):
        lift = x * (PIVOT_X + ECCENTRICITY) * nod - y * WHEEL_Y * sway  # m/s, of the corner
        rate = lift / (ECCENTRICITY * max(math.cos(angle), 0.4)) + centre
        rate = min(max(rate, -WHEELS.arm_rate), WHEELS.arm_rate)
        arms.append(rate / WHEELS.arm_rate)
        along = 1.0 + ECCENTRICITY / RADIUS * math.sin(angle)  # the arm turns the wheel, and carries it to and fro
        wheels.append((rolling + y * turn - x * rate * along) / WHEELS.wheel_speed)
    return arms + wheels


def set_payload(s: Scene, kilograms: float) -> None:
    s.robot.body.set_dynamics(mass=MASS + kilograms)


def set_motor_strength(s: Scene, share: float) -> None:
    s.robot.motor_strength = share


def set_friction(s: Scene, friction: float) -> None:
    for mound in s.memory.terrain.mounds:
        mound.body.set_dynamics(lateralFriction=friction)
    s["floor"].set_dynamics(lateralFriction=friction)


def in_reset(s: Scene, value: float) -> None:
    """Nothing to apply: `reset` takes it."""


TASK = Task(
    id="EccentricDrive-v0",
    suite="mobility",
    summary="keep the deck of a droid on four eccentric wheels level over rough ground, at the commanded speed",
    robot=DROID,
    control_hz=CONTROL_HZ,
    physics=Physics(hz=200, solver_iterations=10, contact_threshold=0.001),
    episode_s=EPISODE_S,
    action_delay_s=1.0 / CONTROL_HZ,
    actions=(WHEELS,),
    observations=(
        Observation("tilt", tilt, (2,), "rad", -0.6, 0.6, frame="base", noise_std=0.002, bias_std=0.003),
        Observation("rates", rates, (3,), "rad/s", -6.0, 6.0, frame="base", noise_std=0.01, bias_std=0.005),
        Observation("heading", heading, (1,), "rad", -1.0, 1.0, noise_std=0.005, bias_std=0.01),
        Observation("arm_angles", arm_angles, (4,), "rad", -1.8, 1.8, frame="joint", noise_std=0.002),
        Observation("arm_rates", arm_rates, (4,), "rad/s", -15.0, 15.0, frame="joint", noise_std=0.02),
        Observation("wheel_speeds", wheel_speeds, (4,), "rad/s", -30.0, 30.0, frame="joint", noise_std=0.02),
        Observation("command", command, (1,), "m/s", 0.0, 1.0),
        Observation("previous_action", terms.previous_action, (8,), "1", -1.0, 1.0),
    ),
    rewards=(
        Reward("tilting", tilting, weight=-0.1),
        Reward("straying", straying, weight=-0.02),
        Reward("jerk", jerk, weight=-0.02),
        Reward("loss", loss, weight=-80.0),
        Reward("arrival", arrival, weight=5.0),
    ),
    randomization=(
        Randomize("speed_command", SLOWEST, FASTEST, "m/s", in_reset),
        Randomize("ground_height", 0.07, 0.09, "m", in_reset),
        Randomize("payload", 0.0, 20.0, "kg", set_payload),
        Randomize("motor_strength", 0.6, 1.0, "1", set_motor_strength),
        Randomize("friction", 0.5, 1.0, "1", set_friction),
    ),
    metrics=(
        Metric("roll_rms", lambda s: math.degrees(rms(s, 0)), "deg", "Roll, root mean square."),
        Metric("pitch_rms", lambda s: math.degrees(rms(s, 1)), "deg", "Pitch, root mean square."),
        Metric("largest_tilt", lambda s: math.degrees(s.memory.worst), "deg", "Largest tilt of the deck."),
        Metric("speed_error", speed_error, "1"),
        Metric("cost_of_transport", cost_of_transport, "1"),
    ),
    process=process,
    build=build,
    reset=reset,
    success=level,
    failure=lost,
    expert=expert,
    camera=Camera(eye=(0.9, -2.1, 0.95), target=(0.15, 0.0, -0.05), follows=True),
)
