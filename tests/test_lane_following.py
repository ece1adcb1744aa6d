"""The road, the camera that looks at it, and the task of following it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.env import TEST_SEED_START, TaskEnv
from physai_envs.mobility import lane_following as task
from physai_envs.parts import road as layout
from physai_envs.parts.lane_camera import LaneCamera
from physai_envs.parts.road import Road
from physai_envs.robots.car import HALF_WIDTH, ROAD_DRIVE


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnv]:
    made = registry.make("lane_following").unwrapped
    assert isinstance(made, TaskEnv)
    yield made
    made.close()


def roads(count: int = 100) -> Iterator[Road]:
    for seed in range(count):
        yield Road(np.random.default_rng(seed), task.LENGTH, task.TIGHTEST[1])


# ---- road -----------------------------------------------------------------------------------------------------------


def test_curves_are_as_sharp_as_allowed() -> None:
    sharpest, turns = 0.0, 0
    for road in roads():
        bends = np.array(road.curvature)
        sharpest = max(sharpest, np.abs(bends).max())
        turns += bool(np.ptp(bends) > 0.01)
    assert 1 / 25 < sharpest <= 1 / task.TIGHTEST[1] + 1e-9
    assert turns > 95


def test_limits_leave_room_for_comfort() -> None:
    for road in roads():
        speed, bends = np.array(road.limits), np.array(road.curvature)
        assert (speed**2 * np.abs(bends)).max() <= layout.COMFORT + 1e-9
        change = np.diff(speed**2) / (2.0 * layout.STEP)
        assert change.min() >= -layout.BRAKE - 1e-9 and change.max() <= layout.GAIN + 1e-9
        assert speed.min() > 7.0 and speed.max() <= layout.LIMIT


def test_limits_keep_jerks_small_up_to_the_finish() -> None:
    """A car that still brakes is faster on a clothoid than its curve allows, by a third: that to the power of three."""
    for road in roads():
        s = np.arange(len(road.limits)) * layout.STEP
        jerks = np.abs(np.diff(road.curvature)) / layout.STEP * np.array(road.limits)[:-1] ** 3
        assert jerks[s[1:] <= task.LENGTH].max() < 2.4 * layout.JERK


def test_road_does_not_meet_itself() -> None:
    for road in roads():
        points = np.array([road.point(s)[:2] for s in np.arange(0.0, task.LENGTH, 5.0)])
        apart = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
        far = np.abs(np.subtract.outer(np.arange(len(points)), np.arange(len(points)))) > 12  # 60 m of road
        assert apart[far].min() > 3 * layout.LANE


@pytest.mark.parametrize("offset", [-1.5, 0.0, 0.4, 1.5])
def test_foot_of_a_point_is_found_from_two_metres_beside(offset: float) -> None:
    for road in roads(20):
        for s in np.arange(5.0, task.LENGTH, 7.0):
            x, y, heading = road.point(s)
            found = road.locate(x - offset * math.sin(heading), y + offset * math.cos(heading), s - 2.0)
            assert found == pytest.approx((s, offset, heading), abs=0.02)


def test_line_turns_as_its_curvature_says() -> None:
    for road in roads(20):
        for s in np.arange(5.0, task.LENGTH, 11.0):
            (x0, y0, h0), (x1, y1, h1) = road.point(s - 1.0), road.point(s + 1.0)
            assert h1 - h0 == pytest.approx(2.0 * road.value(road.curvature, s), abs=0.003)
            assert math.atan2(y1 - y0, x1 - x0) == pytest.approx(0.5 * (h0 + h1), abs=0.003)


# ---- camera ---------------------------------------------------------------------------------------------------------


def test_camera_is_late_by_its_delay() -> None:
    camera = LaneCamera(0.05, delay=2, loss=0.0, mean_gap=4.0)
    camera.reset(np.random.default_rng(0), (0.0,))
    seen = []
    for i in range(1, 6):
        camera.expose((float(i),))  # at the beginning of the step, whose end is 50 ms later
        seen.append(camera.reading[0])
    assert seen == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert camera.age == pytest.approx(0.1)


def test_camera_keeps_the_last_reading_in_gaps_and_tells_its_age() -> None:
    camera = LaneCamera(0.05, delay=1, loss=0.05, mean_gap=4.0)
    camera.reset(np.random.default_rng(1), (0.0,))
    old, gaps = 0, 0
    for i in range(20_000):
        before, lost = camera.reading, camera.age > 0.051
        camera.expose((float(i),))
        if camera.age > 0.051:
            assert camera.reading == before
            old, gaps = old + 1, gaps + (not lost)
        assert camera.reading[0] == pytest.approx(i + 1 - camera.age / 0.05) or i < 40
    assert old / gaps == pytest.approx(4.0, rel=0.1)
    assert gaps / (20_000 - old) == pytest.approx(0.05, rel=0.1)


# ---- task -----------------------------------------------------------------------------------------------------------


def play(env: TaskEnv, seed: int, act: object = None) -> dict:  # type: ignore[type-arg]
    env.reset(seed=seed)
    while True:
        action = env.expert_action() if act is None else act()  # type: ignore[operator]
        _, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return dict(info, truncated=truncated)


def test_expert_follows_every_road(env: TaskEnv) -> None:
    for i in range(20):
        info = play(env, TEST_SEED_START + i)
        assert info["is_success"]
        assert info["metrics"]["lateral_rms"] < 0.1
        assert info["metrics"]["max_lateral_acceleration"] < 3.0
        assert info["metrics"]["mean_speed"] > 8.0


def test_neither_nothing_nor_noise_gets_anywhere(env: TaskEnv) -> None:
    rng = np.random.default_rng(0)
    still = env.policy_spec.to_action([0.0, 0.0])
    for i in range(15):
        assert not play(env, TEST_SEED_START + i, lambda: still)["is_success"]
        assert not play(env, TEST_SEED_START + i, lambda: rng.uniform(-1.0, 1.0, 2))["is_success"]


def test_car_that_stops_is_cut_off(env: TaskEnv) -> None:
    brake = env.policy_spec.to_action([0.0, -4.0])
    info = play(env, TEST_SEED_START, lambda: brake)
    assert info["truncated"] and not info["is_success"]
    assert env.scene.robot.drive.motion.speed == 0.0


def test_leaving_the_lane_ends_the_episode(env: TaskEnv) -> None:
    """A wheel is on the line when the middle is 1.75 - 0.89 = 0.86 m beside it."""
    for side in (-1.0, 1.0):
        for offset, ends in ((0.84, False), (0.88, True)):
            env.reset(seed=3, options={"difficulty": 0.0})
            car = env.scene.robot.drive.motion
            car.place(car.x, car.y + side * offset, car.yaw, car.speed)
            car.steering_offset, car.wind, car.bank = 0.0, (0.0, 0.0), 0.0
            env.scene.world.touch()
            assert task.left_lane(env.scene) is ends
            _, reward, terminated, _, info = env.step(env.policy_spec.to_action([0.0, 0.0]))
            assert terminated is ends and not info["is_success"]
            assert (reward < -9.0) is ends
    assert pytest.approx(0.86) == 0.5 * layout.LANE - HALF_WIDTH


def test_inexact_finish_is_a_failure(env: TaskEnv) -> None:
    for root_mean_square, good in ((0.19, True), (0.21, False)):
        env.reset(seed=4)
        s = env.scene
        x, y, heading = s.memory.road.point(task.LENGTH + 0.1)
        s.robot.drive.motion.place(x, y, heading, 10.0)
        s.memory.near, s.memory.frames = task.LENGTH, 10_000
        s.memory.sum_of_squares = 10_000 * root_mean_square**2
        s.world.touch()
        assert task.finished(s) is good
        assert task.failed(s) is not good


def test_body_follows_the_model_in_every_physics_step(env: TaskEnv) -> None:
    env.reset(seed=5)
    for _ in range(20):
        env.step(env.expert_action())
        car, body = env.scene.robot.drive.motion, env.scene.robot.body
        middle = (car.x + task.MIDDLE * math.cos(car.yaw), car.y + task.MIDDLE * math.sin(car.yaw))
        assert body.position[:2] == pytest.approx(middle, abs=1e-6)


def test_steering_turns_no_faster_than_its_motor(env: TaskEnv) -> None:
    env.reset(seed=6)
    angles = []
    for i in range(6):
        env.step((1.0 if i < 3 else -1.0, 0.0))
        angles.append(env.scene.robot.drive.motion.steering)
    changes = [abs(b - a) for a, b in pairwise(angles)]
    assert max(changes) == pytest.approx(ROAD_DRIVE.rates[0] / task.CONTROL_HZ)
    assert angles[0] == 0.0  # an action is 50 ms old when it reaches the motor


def test_observation_hides_what_no_sensor_tells(env: TaskEnv) -> None:
    """Friction, wind and bank change nothing in the first observation: they have to be felt."""
    first = env.reset(seed=7)[0]
    assert len(first) == 15
    s = env.scene
    s.robot.drive.motion.friction, s.robot.drive.motion.wind, s.robot.drive.motion.bank = 0.1, (5.0, 5.0), 0.1
    s.world.touch()
    values = np.concatenate([np.atleast_1d(term.function(s)) for term in env.task.observations])
    env.reset(seed=7)
    again = np.concatenate([np.atleast_1d(term.function(s)) for term in env.task.observations])
    np.testing.assert_array_equal(values, again)


def test_there_is_road_behind_the_car_from_the_start() -> None:
    """Somebody who watches sees no hole: every tile lies along the road, also those before its beginning."""
    env = registry.make("lane_following", visual=True).unwrapped
    env.reset(seed=TEST_SEED_START)
    road = env.scene.memory.road
    places = [env.scene[f"tile{i}"].position[:2] for i in range(layout.TILES)]
    for number in range(-layout.BEHIND, layout.TILES - layout.BEHIND):
        assert min(math.dist(road.point(number * layout.TILE)[:2], place) for place in places) < 1e-6
    env.close()
