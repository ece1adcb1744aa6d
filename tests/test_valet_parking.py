"""The car park, what the car keeps away from, and the task of parking in it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.env import TEST_SEED_START, TaskEnv
from physai_envs.geometry import yaw_of
from physai_envs.mobility import valet_parking as task
from physai_envs.parts.parking import AISLE, BAY_LENGTH, BAY_WIDTH, BAYS, CAR_HALF, CAR_HEIGHT, Bay
from physai_envs.robots.car import CAR_DATA, HALF_LENGTH, HALF_WIDTH, MIDDLE, PARKING_DRIVE


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnv]:
    made = registry.make("valet_parking").unwrapped
    assert isinstance(made, TaskEnv)
    yield made
    made.close()


def put(env: TaskEnv, x: float, y: float, yaw: float, speed: float = 0.0) -> None:
    """Places the middle of the car."""
    env.scene.robot.drive.motion.place(x - MIDDLE * math.cos(yaw), y - MIDDLE * math.sin(yaw), yaw, speed)
    env._controllers[0][0].reset()


def corners(x: float, y: float, yaw: float) -> np.ndarray:
    c, s = math.cos(yaw), math.sin(yaw)
    half = [(a * HALF_LENGTH, b * HALF_WIDTH) for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
    return np.array([(x + c * u - s * v, y + s * u + c * v) for u, v in half])


# ---- car park -------------------------------------------------------------------------------------------------------


def test_cars_stand_in_their_bays_and_beside_the_free_one(env: TaskEnv) -> None:
    taken = []
    for seed in range(30):
        env.reset(seed=seed)
        lot, bay = env.scene.memory.lot, env.scene.memory.bay
        places = [car.position for car in lot.cars if car.position[2] > 0.0]
        taken.append(len(places))
        for x, y, z in places:
            assert z == pytest.approx(CAR_HEIGHT)
            own = min(BAYS, key=lambda b: math.hypot(b.x - x, b.y - y))
            assert abs(own.x - x) <= 0.15 and abs(own.y - y) <= 0.2
            assert own != bay
        for neighbour in BAYS:
            if neighbour.side == bay.side and abs(neighbour.x - bay.x) == BAY_WIDTH:
                assert any(math.hypot(neighbour.x - x, neighbour.y - y) < 0.3 for x, y, _ in places)
    assert len(set(taken)) > 2 and max(taken) <= len(BAYS) - 1


def test_bays_face_the_aisle() -> None:
    assert len({(bay.x, bay.y) for bay in BAYS}) == 12
    for bay in BAYS:
        mouth = (bay.x + 0.5 * BAY_LENGTH * math.cos(bay.yaw), bay.y + 0.5 * BAY_LENGTH * math.sin(bay.yaw))
        assert mouth == pytest.approx((bay.x, bay.side * 0.5 * AISLE))


def test_distance_from_a_parked_car_is_that_of_their_outlines(env: TaskEnv) -> None:
    env.reset(seed=1)
    s, car = env.scene, env.scene.memory.lot.cars[0]
    for other in s.memory.lot.cars:
        other.place((0.0, 0.0, -20.0))
    car.place((0.0, 2.0, CAR_HEIGHT))
    s.memory.near.reset()
    for gap in (1.0, 0.2, 0.01):
        put(env, 0.3, 2.0 - 2 * HALF_WIDTH - gap, 0.0)
        assert task.clearance(s) == pytest.approx(gap, abs=1e-3)
    for yaw in (0.3, 0.8, 1.3):
        put(env, 0.0, -0.9, yaw)
        top = corners(0.0, -0.9, yaw)[:, 1].max()
        assert task.clearance(s) == pytest.approx(2.0 - CAR_HALF[1] - top, abs=2e-3)
    put(env, 0.0, 1.0, 0.0)
    assert task.clearance(s) < 0.0 and task.touched(s)


@pytest.mark.parametrize("what", ["car", "back1", "left-1", "end"])
def test_driving_into_anything_ends_the_episode(env: TaskEnv, what: str) -> None:
    env.reset(seed=2)
    s = env.scene
    starts = {"back1": (0.0, 4.0, math.pi / 2), "left-1": (-12.0, -0.5, -math.pi / 2), "end": (13.5, 0.0, 0.0)}
    if what == "car":
        car = next(car for car in s.memory.lot.cars if car.position[2] > 0.0)
        x, y, _ = car.position
        place = (x, y - math.copysign(5.5, y), math.copysign(math.pi / 2, y))
    else:
        for car in s.memory.lot.cars:
            car.place((0.0, 0.0, -20.0))
        place = starts[what]
    s.memory.near.reset()
    put(env, *place)
    for _ in range(60):
        _, reward, terminated, _, info = env.step(env.policy_spec.to_action([0.0, 1.0]))
        if terminated:
            break
    assert terminated and not info["is_success"] and info["metrics"]["min_clearance"] <= 0.0
    assert info["reward_terms"]["contact"] == 1.0 and reward < -9.0
    assert env.scene.robot.drive.motion.speed > 0.5


def test_contact_is_seen_between_control_steps(env: TaskEnv) -> None:
    """Looking at near obstacles in each physics step finds the same as looking at all of them."""
    env.reset(seed=3)
    s = env.scene
    car = next(car for car in s.memory.lot.cars if car.position[2] > 0.0)
    x, y, _ = car.position
    put(env, x, y - math.copysign(2 * HALF_LENGTH + 0.42, y), math.copysign(math.pi / 2, y), speed=2.5)
    for _ in range(3):
        terminated = env.step(env.policy_spec.to_action([0.0, 0.0]))[2]
    assert terminated and s.memory.near.touched


# ---- task -----------------------------------------------------------------------------------------------------------


def play(env: TaskEnv, seed: int, act: object = None) -> dict:  # type: ignore[type-arg]
    env.reset(seed=seed)
    while True:
        action = env.expert_action() if act is None else act()  # type: ignore[operator]
        _, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return dict(info, truncated=truncated)


def test_expert_parks_everywhere(env: TaskEnv) -> None:
    bays: set[Bay] = set()
    for i in range(24):
        info = play(env, TEST_SEED_START + i)
        bays.add(env.scene.memory.bay)
        assert info["is_success"]
        assert info["metrics"]["final_position_error"] < 0.12
        assert info["metrics"]["min_clearance"] > 0.1
        assert info["metrics"]["gear_changes"] == 1
    assert len(bays) > 8


def test_neither_nothing_nor_noise_parks(env: TaskEnv) -> None:
    rng = np.random.default_rng(0)
    for i in range(6):
        assert not play(env, TEST_SEED_START + i, lambda: (0.0, 0.0))["is_success"]
        assert not play(env, TEST_SEED_START + i, lambda: rng.uniform(-1.0, 1.0, 2))["is_success"]


@pytest.mark.parametrize(
    ("along", "aside", "turned", "speed", "good"),
    [
        (0.0, 0.0, 0.0, 0.0, True),
        (0.15, 0.1, 0.08, 0.0, True),
        (0.22, 0.0, 0.0, 0.0, False),
        (0.0, 0.0, 0.09, 0.0, False),  # 5 degrees are 0.087 rad
        (0.0, 0.0, 0.0, 0.4, False),
        (0.0, 0.0, math.pi, 0.0, False),
    ],
)
def test_parked_is_within_the_bay_and_at_rest(
    env: TaskEnv, along: float, aside: float, turned: float, speed: float, good: bool
) -> None:
    env.reset(seed=5)
    bay = env.scene.memory.bay
    env.scene.robot.drive.motion.slope = 0.0
    put(env, bay.x + aside, bay.y + along, bay.yaw + turned, speed)
    steps = 0
    for _ in range(7):
        steps += 1
        _, _, terminated, _, info = env.step((0.0, 0.0))
        if terminated:
            break
    assert info["is_success"] is good
    assert steps == (5 if good else 7)  # at rest for 0.5 s


def test_rays_see_parked_cars(env: TaskEnv) -> None:
    env.reset(seed=6)
    s = env.scene
    for other in s.memory.lot.cars:
        other.place((0.0, 0.0, -20.0))
    s.memory.lot.cars[0].place((0.0, 2.0, CAR_HEIGHT))
    s.world.advance(1)  # the engine sorts bodies for rays when it steps
    put(env, 0.0, -1.0, 0.0)
    s.world.advance(1)
    ranges = -1.0 / task.scan(s)
    assert ranges[task.RAYS // 4] == pytest.approx(3.0 - CAR_HALF[1], abs=0.01)  # to the left
    assert ranges[0] == task.RAY_REACH


def test_body_follows_the_model(env: TaskEnv) -> None:
    env.reset(seed=7)
    for _ in range(30):
        env.step(env.expert_action())
    car, body = env.scene.robot.drive.motion, env.scene.robot.body
    assert body.position[0] == pytest.approx(car.x + MIDDLE * math.cos(car.yaw), abs=1e-6)
    assert yaw_of(body.orientation) == pytest.approx(car.yaw, abs=1e-6)


def test_turning_circle_is_that_of_the_maker() -> None:
    """10.8 m between kerbs: radius 5.4 m of the outer front wheel; track 1.53 m."""
    rear = CAR_DATA.wheelbase / math.tan(PARKING_DRIVE.steering)
    assert 2.0 * math.hypot(rear + 0.5 * 1.53, CAR_DATA.wheelbase) == pytest.approx(10.8, abs=0.1)


def test_gears_are_counted(env: TaskEnv) -> None:
    env.reset(seed=8)
    for push in (1.0, -1.0, 1.0):
        for _ in range(15):
            env.step((0.0, push))
    assert env.scene.memory.gears == 2
