"""QuadrupedWalk: a robot dog walks over uneven ground at the commanded velocity, and is pushed.

Goal      no fall for 10 s, and a mean error of the velocity under 0.15 m/s, without the first second.
Start     standing, at rest, amid domes of up to 3 to 6 cm and slabs half as high. Asked for are 0.3 to 0.6 m/s ahead
          or 0.22 to 0.36 m/s back, with up to 0.2 m/s aside and 0.4 rad/s of turning, and others after 5 s. Difficulty
          scales ground, velocity and pushes.
Pushes    two of 0.1 s in any direction, that change the speed of the whole robot by 0.2 to 0.5 m/s.
Ends      10 s (success or truncated); failure when the robot has fallen.
Reward    costs of velocity errors, tilt and jerky commands; a fall costs more than all of them together, success pays.
Sources   robot: `assets/robots/quadruped.urdf`; landing places: M. Raibert, "Legged Robots That Balance", 1986.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from physai_envs import terms
from physai_envs.geometry import euler_of, rotate_back
from physai_envs.parts.push import Pusher
from physai_envs.parts.terrain import Terrain
from physai_envs.robots.quadruped import MASS, QUADRUPED, TOTAL_MASS, TROT
from physai_envs.task import Camera, Metric, Observation, Randomize, Reward, Scene, Task, shared
from physai_envs.world import Physics, Vector

CONTROL_HZ, EPISODE_S = 50, 10.0
START_S = 1.0  # excluded from the velocity error: the robot starts from rest
MAX_ERROR = 0.15  # m/s, mean
CHANGE_S = 5.0  # when another velocity is asked for
SLOWEST, FASTEST = (0.3, -0.2, -0.4), (0.6, 0.2, 0.4)  # m/s, m/s, rad/s: ahead, aside, turning
BACKWARD = 0.25  # share of the commands that go backward
BACK = 0.22, 0.36  # m/s, how fast; stepping on the spot it drifts back by 0.08
PUSHES_S = ((2.0, 4.5), (6.0, 9.0))  # s, when somebody pushes
AREA, CLEAR = 4.5, 0.8  # m, half the edge of the uneven ground, and what is level around the start
TIPPED, FALLEN = 0.8, 0.3  # rad, and m of the base above the floor
TILT_SCALE = 0.3  # rad, tilt that costs as much as it can
GRAVITY = 9.81  # m/s2

# The expert
CAPTURE = 0.15  # s, how much farther a foot lands for each m/s of error
LEVELLING = 0.5  # share of the tilt that the legs make up for
STRIDE_GAIN = (0.2, 0.2, 0.5)  # share of the velocity error by which the feet push faster


def build(s: Scene) -> None:
    s.world.floor(color=(0.62, 0.66, 0.55, 1.0))
    s.memory.terrain = Terrain(s.world, domes=64, slabs=32)
    s.memory.pusher = Pusher(s.world, s.robot.body, CONTROL_HZ)
    s.add_sensor("pusher", s.memory.pusher)


def reset(s: Scene) -> None:
    m, d = s.memory, s.difficulty
    m.terrain.arrange(s.rng, (-AREA, -AREA), (AREA, AREA), d * s.randomization["ground_height"], clear=CLEAR)
    m.commands = [draw_command(s), draw_command(s)]
    m.command = m.commands[0]
    m.pusher.plan(s.rng, PUSHES_S, d * s.randomization["push"] * TOTAL_MASS)
    s.robot.drive.phase = float(s.rng.random())
    m.error, m.turn_error, m.squares, m.steps, m.energy, m.way = 0.0, 0.0, 0.0, 0, 0.0, 0.0


def draw_command(s: Scene) -> Vector:
    """Draws a velocity to ask for: ahead, aside [m/s], turning [rad/s]."""
    ahead, aside, turn = s.rng.uniform(SLOWEST, FASTEST).tolist()
    if s.rng.random() < BACKWARD:
        share = (ahead - SLOWEST[0]) / (FASTEST[0] - SLOWEST[0])
        ahead = -(BACK[0] + share * (BACK[1] - BACK[0]))
    return s.difficulty * ahead, s.difficulty * aside, s.difficulty * turn


def process(s: Scene) -> None:
    """Before every control step: adds up what success and the metrics are made of; asks for another velocity."""
    m, motion = s.memory, now(s)
    if s.time_s:
        m.energy += sum([abs(state[1] * state[3]) for state in s.robot.body.joint_states]) / CONTROL_HZ
        m.way += math.hypot(*motion.velocity) / CONTROL_HZ
    if s.time_s >= START_S:
        m.steps += 1
        m.error += motion.error
        m.turn_error += abs(motion.rates[2] - m.command[2])
        m.squares += motion.roll**2 + motion.pitch**2
    if s.time_s >= CHANGE_S - 0.5 / CONTROL_HZ:
        m.command = m.commands[1]


@dataclass(slots=True)
class Motion:
    """What several terms need of one moment.

    Attitude [rad], rates about the body's axes [rad/s], velocity ahead and aside, its distance from the command [m/s].
    """

    roll: float
    pitch: float
    rates: Vector
    velocity: Vector
    error: float


@shared
def now(s: Scene) -> Motion:
    """The present motion."""
    body, command = s.robot.body, s.memory.command
    (vx, vy, _), angular = body.velocity
    roll, pitch, yaw = euler_of(body.orientation)
    cos, sin = math.cos(yaw), math.sin(yaw)
    ahead, aside = cos * vx + sin * vy, cos * vy - sin * vx
    error = math.hypot(ahead - command[0], aside - command[1])
    return Motion(roll, pitch, rotate_back(body.orientation, angular), (ahead, aside), error)


def tilt(s: Scene) -> Vector:
    """Roll and pitch of the body [rad], (2,)."""
    return now(s).roll, now(s).pitch


def rates(s: Scene) -> Vector:
    """Turning rate of the body about its own axes [rad/s], (3,)."""
    return now(s).rates


def command(s: Scene) -> Vector:
    """Velocity that is asked for: ahead, aside [m/s], turning [rad/s], (3,)."""
    return s.memory.command


def phase(s: Scene) -> Vector:
    """Sine and cosine of the phase of the gait, (2,)."""
    angle = 2.0 * math.pi * s.robot.drive.phase
    return math.sin(angle), math.cos(angle)


def straying(s: Scene) -> float:
    """Error of the velocity over 0.5 m/s, at most 1."""
    return min(1.0, 2.0 * now(s).error)


def misturning(s: Scene) -> float:
    """Error of the turning rate over 1 rad/s, at most 1."""
    return min(1.0, abs(now(s).rates[2] - s.memory.command[2]))


def tilting(s: Scene) -> float:
    """Square of the tilt, as a share of that of 0.3 rad, at most 1."""
    motion = now(s)
    return min(1.0, (motion.roll**2 + motion.pitch**2) / TILT_SCALE**2)


def jerk(s: Scene) -> float:
    """Mean squared change of the command, as a share of the largest."""
    return 0.25 * terms.action_change(s)


def fallen(s: Scene) -> bool:
    motion = now(s)
    return max(abs(motion.roll), abs(motion.pitch)) > TIPPED or s.robot.body.position[2] < FALLEN


def fall(s: Scene) -> float:
    """1 when the robot has fallen; ends the episode."""
    return float(fallen(s))


def velocity_error(s: Scene) -> float:
    """Mean distance of the velocity from the command since the start [m/s]."""
    return s.memory.error / max(s.memory.steps, 1)


def walked(s: Scene) -> bool:
    """Whether the robot is still walking at the end, and did as asked on the way."""
    return s.time_s > EPISODE_S - 0.5 / CONTROL_HZ and not fallen(s) and velocity_error(s) < MAX_ERROR


def arrival(s: Scene) -> float:
    """1 at the end of 10 s of walking as asked."""
    return float(walked(s))


def cost_of_transport(s: Scene) -> float:
    """Mechanical work of all motors over weight and way."""
    mass = TOTAL_MASS + s.randomization["payload"]
    return s.memory.energy / (mass * GRAVITY * max(s.memory.way, 0.1))


def expert(s: Scene) -> list[float]:
    """Pushes a little faster when it is slow, lands ahead of a fall, and stretches the legs on which it leans."""
    motion, asked, law = now(s), s.memory.command, TROT
    ahead, aside, turn = (*motion.velocity, motion.rates[2])
    errors = asked[0] - ahead, asked[1] - aside, asked[2] - turn
    stride = [v + gain * e for v, gain, e in zip(asked, STRIDE_GAIN, errors, strict=True)]
    action = [v / limit for v, limit in zip(stride, law.speed, strict=True)]
    action += [-CAPTURE * errors[0] / law.reach, -CAPTURE * errors[1] / law.reach]
    for x, y in map(law.rest, law.legs):
        action.append(-LEVELLING * (x * motion.pitch - y * motion.roll) / law.stretch)
    return [min(max(v, -1.0), 1.0) for v in action]


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
    id="QuadrupedWalk-v0",
    suite="mobility",
    summary="walk over uneven ground on four legs at the commanded velocity, and stand pushes",
    robot=QUADRUPED,
    control_hz=CONTROL_HZ,
    physics=Physics(hz=200, solver_iterations=10, contact_threshold=0.002),
    episode_s=EPISODE_S,
    action_delay_s=1.0 / CONTROL_HZ,
    actions=(TROT,),
    observations=(
        Observation("tilt", tilt, (2,), "rad", -1.0, 1.0, frame="base", noise_std=0.003, bias_std=0.005),
        Observation("rates", rates, (3,), "rad/s", -10.0, 10.0, frame="base", noise_std=0.02, bias_std=0.005),
        Observation("joint_positions", terms.joint_positions, (12,), "rad", -3.0, 3.0, frame="joint", noise_std=0.002),
        Observation(
            "joint_velocities", terms.joint_velocities, (12,), "rad/s", -30.0, 30.0, frame="joint", noise_std=0.05
        ),
        Observation("command", command, (3,), "m/s, rad/s", -1.0, 1.0, frame="base"),
        Observation("phase", phase, (2,), "1", -1.0, 1.0),
        Observation("previous_action", terms.previous_action, (9,), "1", -1.0, 1.0),
    ),
    rewards=(
        Reward("straying", straying, weight=-0.04),
        Reward("misturning", misturning, weight=-0.01),
        Reward("tilting", tilting, weight=-0.02),
        Reward("jerk", jerk, weight=-0.02),
        Reward("fall", fall, weight=-20.0),
        Reward("arrival", arrival, weight=5.0),
    ),
    randomization=(
        Randomize("ground_height", 0.03, 0.06, "m", in_reset),
        Randomize("push", 0.2, 0.5, "m/s", in_reset),
        Randomize("payload", 0.0, 8.0, "kg", set_payload),
        Randomize("motor_strength", 0.7, 1.0, "1", set_motor_strength),
        Randomize("friction", 0.5, 1.0, "1", set_friction),
    ),
    metrics=(
        Metric("velocity_error", velocity_error, "m/s"),
        Metric(
            "turning_error",
            lambda s: s.memory.turn_error / max(s.memory.steps, 1),
            "rad/s",
            "Mean error of the yaw rate.",
        ),
        Metric(
            "tilt_rms",
            lambda s: math.degrees(math.sqrt(s.memory.squares / max(s.memory.steps, 1))),
            "deg",
            "Roll and pitch, root mean square.",
        ),
        Metric("cost_of_transport", cost_of_transport, "1"),
        Metric("fell", fall, "1"),
    ),
    process=process,
    build=build,
    reset=reset,
    success=walked,
    failure=fallen,
    expert=expert,
    camera=Camera(eye=(1.5, -2.1, 0.75), target=(0.1, 0.0, -0.15), follows=True),
)
