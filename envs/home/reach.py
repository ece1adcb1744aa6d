"""Reach: bring the tip of the arm to a point.

Goal      tip within 1 cm of the goal, held for 0.2 s.
Start     arm at home, fingers closed for good; the goal anywhere in a box of 0.3 x 0.5 x 0.4 m in front of it, seen by
          a camera with noise of 1 mm and a constant error of up to 2 mm along each axis; commands up to 0.05 s late.
Ends      success; 5 s (truncated).
Reward    nearness on two scales less the cost of time, and a small cost of jerky actions.
Sources   box: inside the reach of 0.855 m (Franka Emika, Panda datasheet); `tolerance`: arXiv:1801.00690.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from physai_envs import terms
from physai_envs.control import EndEffectorTwist
from physai_envs.engine import Physics, Vector
from physai_envs.geometry import distance, subtract
from physai_envs.parts.table import add_table
from physai_envs.robots.panda import PANDA_HAND
from physai_envs.task import Camera, Goal, Metric, Observation, Randomize, Reward, Scene, Task, shared

WITHIN = 0.01  # m, the accuracy that counts as reached
GOAL_LOW = np.array([0.35, -0.25, 0.15])  # m
GOAL_HIGH = np.array([0.65, 0.25, 0.55])  # m
NEAR_MARGIN, CLOSE_MARGIN = 0.4, 0.05  # m: one term to find the way, one to be exact
SPEED = 0.6  # m/s, of each axis
MOST_DELAY = 0.05  # s, of a command on its way to the drives, over a network too
CAMERA = 0.002  # m, constant error along each axis: that of a good calibration between hand and camera


def build(s: Scene) -> None:
    add_table(s.world)
    s.world.marker("goal", WITHIN, (0.1, 0.75, 0.3, 1.0))


def reset(s: Scene) -> None:
    centre = np.asarray(s.robot.tip_position)
    goal = s.rng.uniform(GOAL_LOW, GOAL_HIGH)
    goal = centre + s.difficulty * (goal - centre)
    s.memory.goal = tuple(goal.tolist())
    if "goal" in s.world.bodies:
        s["goal"].place(s.memory.goal)


def goal(s: Scene) -> Vector:
    """Where the tip should be, world frame [m], (3,)."""
    return s.memory.goal


def tip_to_goal(s: Scene) -> Vector:
    """Vector from the tip to the goal, world frame [m], (3,)."""
    return subtract(s.memory.goal, s.robot.tip_position)


def seen_goal(s: Scene) -> Vector:
    """Vector from the tip to the goal, as a camera reports it that stands beside where the robot believes [m], (3,)."""
    (x, y, z), m = tip_to_goal(s), s.memory
    return x + m.camera_x, y + m.camera_y, z + m.camera_z


@shared
def error(s: Scene) -> float:
    """Distance of the tip from the goal [m]."""
    return distance(s.memory.goal, s.robot.tip_position)


def near(s: Scene) -> float:
    """1 at the goal, 0.1 at 0.4 m."""
    return terms.tolerance(error(s), 0.0, 0.0, NEAR_MARGIN)


def close(s: Scene) -> float:
    """1 at the goal, 0.1 at 5 cm."""
    return terms.tolerance(error(s), 0.0, 0.0, CLOSE_MARGIN)


def time(s: Scene) -> float:
    """1 each step; its weight is the sum of the two above, so that being done is worth more than hovering near."""
    return 1.0


def reached(s: Scene) -> bool:
    return error(s) < WITHIN


def never(s: Scene) -> bool:
    return False


def sparse_reward(achieved: NDArray[np.float32], desired: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 within 1 cm, else -1; (n, 3), (n, 3) -> (n,)."""
    return -(np.linalg.norm(achieved - desired, axis=-1) >= WITHIN).astype(np.float32)


def expert(s: Scene) -> list[float]:
    """Goes straight to the goal, slower when it is close."""
    return [min(1.0, max(-1.0, 6.0 * v / SPEED)) for v in tip_to_goal(s)]


TASK = Task(
    id="Reach-v0",
    suite="home",
    summary="bring the tip of the arm to a point within 1 cm",
    robot=PANDA_HAND,
    control_hz=20,
    physics=Physics(hz=120, solver_iterations=10, contact_threshold=0.02),  # nothing is touched or held
    episode_s=5.0,
    hold_s=0.2,
    actions=(EndEffectorTwist(linear=SPEED),),
    observations=(
        Observation("joint_positions", terms.joint_positions, (7,), "rad", -3.8, 3.8, frame="joint"),
        Observation(
            "joint_velocities", terms.joint_velocities, (7,), "rad/s", -3.0, 3.0, frame="joint", noise_std=0.01
        ),
        Observation("tip_position", terms.tip_position, (3,), "m", -1.2, 1.2, noise_std=0.0005),
        Observation("tip_velocity", terms.tip_velocity, (3,), "m/s", -3.0, 3.0, noise_std=0.005),
        Observation("tip_to_goal", seen_goal, (3,), "m", -1.5, 1.5, noise_std=0.001, goal=True),
    ),
    rewards=(
        Reward("near", near, weight=0.5),
        Reward("close", close, weight=0.5),
        Reward("time", time, weight=-1.0),
        Reward("action_change", terms.action_change, weight=-0.05, high=4.0),
    ),
    randomization=(
        Randomize("camera_x", -CAMERA, CAMERA, "m", lambda s, value: setattr(s.memory, "camera_x", value)),
        Randomize("camera_y", -CAMERA, CAMERA, "m", lambda s, value: setattr(s.memory, "camera_y", value)),
        Randomize("camera_z", -CAMERA, CAMERA, "m", lambda s, value: setattr(s.memory, "camera_z", value)),
        Randomize("command_delay", 0.0, MOST_DELAY, "s", terms.set_command_delay),
    ),
    metrics=(Metric("final_error", error, "m"),),
    goal=Goal(terms.tip_position, goal, (3,), "m", -1.5, 1.5, sparse_reward),
    build=build,
    reset=reset,
    success=reached,
    failure=never,
    expert=expert,
    solved_at=0.99,
    camera=Camera(eye=(1.85, 0.6, 0.95), target=(0.3, 0.0, 0.37), field_of_view_deg=34.0),
)
