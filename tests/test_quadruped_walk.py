"""The quadruped: its legs, its trot, whoever pushes it, and the task made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.env import TEST_SEED_START, TaskEnv
from physai_envs.geometry import distance, rotate_back, subtract, yaw_of
from physai_envs.mobility import quadruped_walk as task
from physai_envs.parts.push import LASTING_S, Pusher
from physai_envs.robot import Robot
from physai_envs.robots.quadruped import FOOT, LEGS, LOWER, QUADRUPED, TOTAL_MASS, TROT
from physai_envs.world import Physics, World

ACTIONS = len(TROT.spec().elements)


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnv]:
    made = registry.make("quadruped_walk").unwrapped
    assert isinstance(made, TaskEnv)
    yield made
    made.close()


@pytest.fixture
def dog() -> Iterator[Robot]:
    world = World(task.TASK.physics)
    world.floor()
    robot = Robot(world, QUADRUPED)
    world.reset()
    yield robot
    world.close()


def foot_in_base(dog: Robot, leg: str) -> tuple[float, ...]:
    """Where the engine has the middle of a foot, base frame [m]."""
    link = dog.body.link_state(dog.body.joints[f"{leg}_kn"])
    base = dog.body.pose
    knee = rotate_back(base[1], subtract(link[4], base[0]))
    down = rotate_back(base[1], _turned(link[5], (0.0, 0.0, -LOWER)))
    return tuple(a + b for a, b in zip(knee, down, strict=True))


def _turned(orientation: Any, vector: tuple[float, float, float]) -> Any:
    x, y, z, w = orientation
    return rotate_back((-x, -y, -z, w), vector)


def trot(dog: Robot, seconds: float, command: tuple[float, ...], each: Callable[[], None] = lambda: None) -> None:
    controller = TROT.bind(dog, 0.02)
    controller.reset()
    for _ in range(round(seconds * 50)):
        controller.apply([*command, *[0.0] * (ACTIONS - len(command))])
        dog.world.advance(4)
        each()


# ---- legs and gait --------------------------------------------------------------------------------------------------


def test_mass_is_that_of_the_data_sheet(dog: Robot) -> None:
    links = range(-1, len(dog.body.joints))
    assert sum(dog.body.dynamics_info(link)[0] for link in links) == pytest.approx(TOTAL_MASS)


@pytest.mark.parametrize("index", range(4), ids=LEGS)
def test_inverse_kinematics_brings_the_foot_there(dog: Robot, index: int) -> None:
    leg, rng = TROT.legs[index], np.random.default_rng(index)
    for _ in range(20):
        x, y = TROT.rest(leg)
        wanted = (x + rng.uniform(-0.2, 0.2), y + rng.uniform(-0.15, 0.15), -rng.uniform(0.3, 0.52))
        joints = list(TROT.stand())
        joints[3 * index : 3 * index + 3] = leg.joints(*wanted)
        dog.body.set_joints(joints)
        assert distance(foot_in_base(dog, LEGS[index]), wanted) < 1e-5


def test_a_point_out_of_reach_stretches_the_leg_towards_it() -> None:
    leg = TROT.legs[0]
    roll, pitch, knee = leg.joints(leg.hip[0], leg.hip[1] + leg.offset, -2.0)
    assert (roll, pitch, knee) == pytest.approx((0.0, 0.0, 0.0))


def test_standing_pose_stands(dog: Robot) -> None:
    dog.body.drive_position(dog.joints, list(TROT.stand()), [0.0] * 12, list(TROT.torque) * 4, TROT.gain)
    dog.world.advance(400)
    assert dog.body.position[2] == pytest.approx(TROT.height + FOOT, abs=0.03)
    assert math.hypot(*dog.body.velocity[0]) < 0.02


@pytest.mark.parametrize("command", [(0.5, 0.0, 0.0), (-0.3, 0.0, 0.0), (0.0, 0.2, 0.0), (0.2, 0.0, 0.4)])
def test_open_loop_trot_goes_about_where_it_is_told_on_level_ground(dog: Robot, command: tuple[float, ...]) -> None:
    trot(dog, 2.0, command)
    start, yaw = dog.body.position, yaw_of(dog.body.orientation)
    trot(dog, 2.0, command)
    dx, dy, _ = subtract(dog.body.position, start)
    turned = yaw_of(dog.body.orientation) - yaw
    middle = yaw + 0.5 * turned
    ahead, aside = (
        (math.cos(middle) * dx + math.sin(middle) * dy) / 2,
        (math.cos(middle) * dy - math.sin(middle) * dx) / 2,
    )
    assert (ahead, aside) == pytest.approx(command[:2], abs=0.18)  # m/s; feet slip, joints give: hence the feedback
    assert turned / 2 == pytest.approx(command[2], abs=0.12)


def test_diagonal_legs_step_together_and_feet_clear_the_ground(dog: Robot) -> None:
    heights: list[list[float]] = []

    def look() -> None:
        z = dog.body.position[2]
        heights.append([z + foot_in_base(dog, leg)[2] - FOOT for leg in LEGS])

    trot(dog, 4.0, (0.4, 0.0, 0.0), look)
    seen = np.array(heights[100:])
    assert (seen.max(axis=0) > 0.05).all() and (seen.max(axis=0) < TROT.clearance + 0.03).all()
    high = seen > 0.03
    assert (high[:, 0] == high[:, 3]).mean() > 0.85 and (high[:, 1] == high[:, 2]).mean() > 0.85
    assert (high[:, 0] & high[:, 1]).mean() < 0.05
    assert seen.min() > -0.015  # rubber gives, and the body is not quite level


# ---- pushes ---------------------------------------------------------------------------------------------------------


def test_a_push_gives_its_impulse_at_its_time() -> None:
    world = World(Physics(hz=200, gravity=0.0))
    ball = world.sphere("ball", 0.1, (0.0, 0.0, 1.0), mass=10.0)
    pusher = Pusher(world, ball, 50)
    for seed in range(5):
        world.reset()
        pusher.plan(np.random.default_rng(seed), [(0.2, 0.4), (0.6, 0.8)], impulse=8.0)
        pusher.reset()
        speeds = []
        for _ in range(50):
            hooks = [pusher.after_physics_step] if pusher.start() else []
            world.advance(4, after=hooks)
            speeds.append(ball.velocity[0])
        first = np.linalg.norm(speeds[round(0.55 * 50)])
        assert first == pytest.approx(0.8, rel=1e-6)  # 8 Ns / 10 kg
        assert np.linalg.norm(np.subtract(speeds[-1], speeds[27])) == pytest.approx(0.8, rel=1e-6)
        changing = np.linalg.norm(np.diff(speeds, axis=0), axis=1) > 1e-9
        assert changing.sum() == 2 * round(LASTING_S * 50)
        assert speeds[9] == (0.0, 0.0, 0.0) and speeds[-1][2] == 0.0
    world.close()


# ---- task -----------------------------------------------------------------------------------------------------------


def play(env: TaskEnv, seed: int, act: Callable[[TaskEnv], Any]) -> dict[str, Any]:
    """Plays an episode to its end; returns the last info, with the sum of rewards."""
    env.reset(seed=seed)
    total, done, info = 0.0, False, {}
    while not done:
        _, reward, terminated, truncated, info = env.step(act(env))
        total += reward
        done = terminated or truncated
    return {**info, "return": total}


def test_expert_succeeds(env: TaskEnv) -> None:
    for seed in range(TEST_SEED_START, TEST_SEED_START + 6):
        info = play(env, seed, TaskEnv.expert_action)
        assert info["is_success"], info["metrics"]
        assert info["metrics"]["velocity_error"] < 0.95 * task.MAX_ERROR


def test_doing_nothing_and_random_actions_fail(env: TaskEnv) -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        assert not play(env, seed, lambda e: np.zeros(ACTIONS))["is_success"]
        assert not play(env, seed, lambda e: rng.uniform(-1.0, 1.0, ACTIONS))["is_success"]


def test_another_velocity_is_asked_for_on_the_way(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    asked = []
    for _ in range(300):
        asked.append(env.scene.memory.command)
        env.step(env.expert_action())
    changes = [i for i in range(1, 300) if asked[i] != asked[i - 1]]
    assert changes == [round(task.CHANGE_S * task.CONTROL_HZ) + 1]
    assert set(asked) == set(env.scene.memory.commands)


def test_pushes_shake_the_robot(env: TaskEnv) -> None:
    def worst_error(push: float) -> float:
        env.reset(seed=TEST_SEED_START + 1, options={"difficulty": 0.0})
        env.scene.memory.pusher.plan(np.random.default_rng(0), [(2.0, 2.1)], push * TOTAL_MASS)
        errors = []
        for _ in range(125):
            env.step(env.expert_action())
            errors.append(task.now(env.scene).error)
        return max(errors[98:])

    assert worst_error(0.5) > 1.5 * worst_error(0.0)


def test_figures_are_those_of_the_motion_after_the_start(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    errors = []
    for step in range(150):
        if step >= round(task.START_S * task.CONTROL_HZ):
            errors.append(task.now(env.scene).error)
        env.step(env.expert_action())
    assert task.velocity_error(env.scene) == pytest.approx(np.mean(errors))


def test_success_needs_the_end_and_the_velocity(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    memory = env.scene.memory
    memory.error, memory.steps = 450 * 0.14, 450
    assert not task.walked(env.scene)
    env.scene.time_s = task.EPISODE_S
    assert task.walked(env.scene)
    memory.error = 450 * 0.16
    assert not task.walked(env.scene)


def test_lying_on_its_side_ends_the_episode(env: TaskEnv) -> None:
    env.reset(seed=3)
    env.scene.robot.body.place((0.0, 0.0, 0.6), (math.sin(0.6), 0.0, 0.0, math.cos(0.6)))
    _, reward, terminated, _, info = env.step(np.zeros(ACTIONS))
    assert terminated and not info["is_success"] and info["metrics"]["fell"] == 1.0 and reward < -15.0


def test_no_lasting_state_pays_and_falling_costs_most() -> None:
    weights = {term.name: term.weight for term in task.TASK.rewards}
    lasting = [weights[name] for name in ("straying", "misturning", "tilting", "jerk")]
    assert max(lasting) < 0.0 < weights["arrival"]
    discount = 0.98  # configs/quadruped_walk.yaml
    assert weights["fall"] < sum(lasting) / (1.0 - discount)


def test_the_start_is_level_and_the_rest_is_not(env: TaskEnv) -> None:
    for seed in range(5):
        env.reset(seed=seed)
        mounds = env.scene.memory.terrain.mounds
        assert min(math.hypot(*mound.at[:2]) for mound in mounds) >= task.CLEAR - 1e-9
        rough = [env.scene.memory.terrain.height(*point) > 0.005 for point in env.scene.rng.uniform(-3, 3, (200, 2))]
        assert 0.08 < np.mean(rough) < 0.7
        env.reset(seed=seed, options={"difficulty": 0.0})
        assert env.scene.memory.terrain.height(1.0, 1.0) == 0.0
