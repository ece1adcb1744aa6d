"""The droid on eccentric wheels: its mechanics, and the task made of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.env import TEST_SEED_START, TaskEnv
from physai_envs.geometry import euler_of
from physai_envs.mobility import eccentric_drive as task
from physai_envs.robot import Robot
from physai_envs.robots.droid import DROID, ECCENTRICITY, PIVOT_X, RADIUS, WHEELS
from physai_envs.world import World

GAIN = 5.0  # 1/s, of the arms in these tests
SETTLING = 2.5  # s
Angles = tuple[float, float, float, float]


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnv]:
    made = registry.make("eccentric_drive").unwrapped
    assert isinstance(made, TaskEnv)
    yield made
    made.close()


@pytest.fixture
def droid() -> Iterator[Robot]:
    world = World(task.TASK.physics)
    world.floor()
    robot = Robot(world, DROID)
    world.reset()
    yield robot
    world.close()


def drive(droid: Robot, seconds: float, angles: Callable[[float], Angles], speed: float = 0.0) -> None:
    """Turns the arms to `angles` of time, while the wheels roll at `speed` [m/s] whatever their arms do."""
    controller = WHEELS.bind(droid, 0.02)
    controller.reset()
    for step in range(round(seconds * 50)):
        actual = droid.joint_positions[0::2]
        rates = [GAIN * (want - is_) for want, is_ in zip(angles(step * 0.02), actual, strict=True)]
        wheels = [
            speed / RADIUS - x * rate * (1.0 + ECCENTRICITY / RADIUS * math.sin(angle))
            for x, rate, angle in zip(task.SIDE_X, rates, actual, strict=True)
        ]
        controller.apply([*rates, *wheels])
        droid.world.advance(4)


# ---- mechanics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [-0.8, 0.0, 0.6, 1.2])
def test_arms_lift_the_deck_by_their_eccentricity(droid: Robot, angle: float) -> None:
    drive(droid, SETTLING, lambda t: (angle,) * 4)
    height = RADIUS + ECCENTRICITY * math.sin(angle)  # 0.2 m at 1.3 rad
    assert droid.body.position[2] == pytest.approx(height, abs=0.006)  # tyres give 4 mm under 50 kg


def test_front_up_and_rear_down_pitches_and_left_up_rolls(droid: Robot) -> None:
    drive(droid, SETTLING, lambda t: (0.4, 0.4, -0.4, -0.4))
    slope = 2.0 * ECCENTRICITY * math.sin(0.4) / (2.0 * (PIVOT_X + ECCENTRICITY * math.cos(0.4)))  # of 4 cm on 0.64 m
    assert euler_of(droid.body.orientation)[1] == pytest.approx(-slope, abs=0.008)  # nose up
    drive(droid, SETTLING, lambda t: (0.4, -0.4, 0.4, -0.4))
    slope = ECCENTRICITY * math.sin(0.4) / task.WHEEL_Y
    assert euler_of(droid.body.orientation)[0] == pytest.approx(slope, abs=0.008)


@pytest.mark.parametrize("speed", [0.3, 0.8, -0.4])
def test_wheels_roll_without_slip(droid: Robot, speed: float) -> None:
    drive(droid, 1.0, lambda t: (0.0,) * 4, speed)
    before = droid.body.position[0]
    drive(droid, 2.0, lambda t: (0.0,) * 4, speed)
    assert droid.body.position[0] - before == pytest.approx(2.0 * speed, rel=0.03)  # soft tyres: 2 % less radius


def test_moving_arms_do_not_change_the_speed_of_a_droid_that_makes_up_for_them(droid: Robot) -> None:
    drive(droid, 1.0, lambda t: (0.0,) * 4, 0.5)
    speeds = []
    for start in np.arange(0.0, 2.0, 0.1):
        drive(droid, 0.1, lambda t, s=start: (0.5 * math.sin(6.0 * (s + t)),) * 4, 0.5)  # type: ignore[misc]
        speeds.append(droid.body.velocity[0][0])
    assert np.abs(np.array(speeds) - 0.5).max() < 0.06
    assert max(abs(angle) for angle in droid.joint_positions[0::2]) > 0.2


def test_an_arm_stops_softly_at_its_limit(droid: Robot) -> None:
    controller = WHEELS.bind(droid, 0.02)
    controller.reset()
    for _ in range(100):
        controller.apply([WHEELS.arm_rate] * 4 + [0.0] * 4)
        droid.world.advance(4)
    angles = droid.joint_positions[0::2]
    assert max(angles) < WHEELS.arm_limit + 0.05 and min(angles) > WHEELS.arm_limit - 0.05


def test_weak_motors_do_not_carry_the_droid(droid: Robot) -> None:
    droid.motor_strength = 0.05  # 2 Nm, and as much from the wheels; 50 kg on four arms of 5 cm take 6 Nm each
    drive(droid, SETTLING, lambda t: (0.3,) * 4)
    assert droid.body.position[2] < RADIUS


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


def hold_arms(env: TaskEnv) -> list[float]:
    """The expert's speed and heading on arms that are held where they are at the start."""
    scene = env.scene
    expert, angles = task.expert(scene), task.arm_angles(scene)
    wheels = []
    for wheel, arm, angle, x in zip(expert[4:], expert[:4], angles, task.SIDE_X, strict=True):
        along = 1.0 + ECCENTRICITY / RADIUS * math.sin(angle)
        wheels.append(wheel + x * arm * WHEELS.arm_rate * along / WHEELS.wheel_speed)
    return [-GAIN * angle / WHEELS.arm_rate for angle in angles] + wheels


def test_expert_succeeds_and_fixed_arms_do_not(env: TaskEnv) -> None:
    for seed in range(TEST_SEED_START, TEST_SEED_START + 6):
        levelled, held = play(env, seed, TaskEnv.expert_action), play(env, seed, hold_arms)
        assert levelled["is_success"], levelled["metrics"]
        assert not held["is_success"]
        assert held["metrics"]["speed_error"] < task.MAX_SPEED_ERROR  # it is the deck that is not level
        for name in ("roll_rms", "pitch_rms"):
            assert levelled["metrics"][name] < 0.7 * held["metrics"][name]
        assert levelled["return"] > held["return"] + 5.0


def test_doing_nothing_and_random_actions_fail(env: TaskEnv) -> None:
    rng = np.random.default_rng(0)
    for seed in range(5):
        assert not play(env, seed, lambda e: np.zeros(8))["is_success"]
        assert not play(env, seed, lambda e: rng.uniform(-1.0, 1.0, 8))["is_success"]


def test_figures_are_those_of_the_motion_after_the_start(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    rolls, errors = [], []
    for step in range(200):
        if step >= round(task.START_S * task.CONTROL_HZ):
            motion = task.now(env.scene)
            rolls.append(motion.roll)
            errors.append(abs(motion.speed - env.scene.memory.command) / env.scene.memory.command)
        env.step(env.expert_action())
    assert task.rms(env.scene, 0) == pytest.approx(math.sqrt(np.mean(np.square(rolls))))
    assert task.speed_error(env.scene) == pytest.approx(np.mean(errors))


def test_success_needs_the_end_and_every_figure(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    scene, good = env.scene, {"squares": [0.0, 0.0], "error": 0.0, "steps": 450}
    scene.memory.__dict__.update(good)
    assert not task.level(scene)
    scene.time_s = task.EPISODE_S
    assert task.level(scene)
    too_far = 450 * math.radians(2.1) ** 2  # 2.1 degrees RMS
    for worse in ({"squares": [too_far, 0.0]}, {"squares": [0.0, too_far]}, {"error": 450 * 0.11}):
        scene.memory.__dict__.update({**good, "command": 1.0, **worse})
        assert not task.level(scene)


@pytest.mark.parametrize("how", ["tipped", "astray"])
def test_tipping_or_leaving_the_lane_ends_the_episode(env: TaskEnv, how: str) -> None:
    env.reset(seed=3)
    tilt, y = (0.5, 0.0) if how == "tipped" else (0.0, 1.5)
    env.scene.robot.body.place((task.START_X, y, 0.4), (math.sin(tilt / 2), 0.0, 0.0, math.cos(tilt / 2)))
    _, reward, terminated, _, info = env.step(np.zeros(8))
    assert terminated and not info["is_success"] and reward < -50.0


def test_no_lasting_state_pays_and_failing_early_costs_most() -> None:
    weights = {term.name: term.weight for term in task.TASK.rewards}
    lasting = [weights[name] for name in ("tilting", "straying", "jerk")]
    assert max(lasting) < 0.0 < weights["arrival"]
    discount = 0.98  # configs/eccentric_drive.yaml
    assert weights["loss"] < sum(lasting) / (1.0 - discount)


def test_difficulty_scales_ground_and_speed(env: TaskEnv) -> None:
    env.reset(seed=5, options={"difficulty": 0.0})
    assert env.scene.memory.command == task.SLOWEST
    assert env.scene.memory.terrain.height(task.START_X + 3.0, 0.0) == 0.0
    env.reset(seed=5)
    tops = [mound.height(*mound.at[:2]) for mound in env.scene.memory.terrain.mounds]
    assert 0.04 < max(tops) <= env.scene.randomization["ground_height"] + 1e-9
