"""The logistics robot, its scanner, the hall with its carts, and the task made of them."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.env import TEST_SEED_START, TaskEnv
from physai_envs.geometry import wrap_angle, yaw_of
from physai_envs.mobility import amr_navigation as task
from physai_envs.parts.hall import CART, GAP, HALF_X, HALF_Y, PALLET, RACK, Hall
from physai_envs.robot import Robot
from physai_envs.robots.amr import AMR, DRIVE, HALF_LENGTH, HEIGHT, MASS, RADIUS
from physai_envs.world import World


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnv]:
    made = registry.make("amr_navigation").unwrapped
    assert isinstance(made, TaskEnv)
    yield made
    made.close()


def action(env: TaskEnv, speed: float, yaw_rate: float) -> np.ndarray:
    return env.policy_spec.to_action([speed, yaw_rate])


def put(env: TaskEnv, x: float, y: float, yaw: float) -> None:
    env.scene.robot.body.place((x, y, HEIGHT), (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)))


# ---- robot ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", [0.0, 200.0])
@pytest.mark.parametrize(
    ("speed", "yaw_rate"), [(1.2, 0.0), (0.3, 0.0), (0.0, 1.0), (0.0, 0.2), (0.8, 0.5), (-0.3, 0.0)]
)
def test_drive_does_what_it_is_told(payload: float, speed: float, yaw_rate: float) -> None:
    world = World(task.TASK.physics)
    world.floor()
    robot = Robot(world, AMR)
    world.reset()
    robot.body.set_dynamics(mass=MASS + payload)
    drive = DRIVE.bind(robot, 0.1)
    drive.reset()
    for share in np.linspace(0.05, 1.0, 20):  # the command's own rate limit, roughly
        drive.apply((share * speed, share * yaw_rate))
        world.advance(12)
    world.advance(60)
    way = turned = 0.0
    for _ in range(24):  # 2 s in pieces short enough to be straight
        (x, y, _), yaw = robot.body.position, yaw_of(robot.body.orientation)
        world.advance(10)
        step = robot.body.position
        turned += wrap_angle(yaw_of(robot.body.orientation) - yaw)
        way += (step[0] - x) * math.cos(yaw + yaw_rate / 24) + (step[1] - y) * math.sin(yaw + yaw_rate / 24)
    world.close()
    assert way == pytest.approx(2.0 * speed, rel=0.005, abs=0.002)
    assert turned == pytest.approx(2.0 * yaw_rate, rel=0.01, abs=0.001)


def test_payload_and_weak_motors_slow_the_start(env: TaskEnv) -> None:
    def speed_after(payload: float, strength: float) -> float:
        env.reset(seed=1, options={"difficulty": 0.0})
        put(env, -5.0, 0.0, 0.0)
        task.set_payload(env.scene, payload)
        task.set_motor_strength(env.scene, strength)
        env._controllers[0][0].reset()
        for _ in range(6):
            env.step(action(env, DRIVE.speed, 0.0))
        return task.speeds(env.scene)[0]

    light, heavy, weak = speed_after(0.0, 1.0), speed_after(200.0, 1.0), speed_after(200.0, 0.6)
    assert light > heavy > weak > 0.3


# ---- scanner --------------------------------------------------------------------------------------------------------


def test_scan_equals_rays_cast_one_by_one_from_the_middle(env: TaskEnv) -> None:
    for seed in range(5):
        env.reset(seed=TEST_SEED_START + seed)
        (x, y, _), yaw = env.scene.robot.body.position, yaw_of(env.scene.robot.body.orientation)
        put(env, x, y, yaw)  # level
        ranges = env.scene.memory.lidar.scan()
        env.scene.robot.body.place((0.0, 0.0, 50.0))  # out of the way of rays from its own middle
        for i, found in enumerate(ranges):
            angle = yaw + i * 2 * math.pi / task.RAYS
            end = (x + task.REACH * math.cos(angle), y + task.REACH * math.sin(angle), task.SCAN_HEIGHT)
            hit = env.scene.world.rays([(x, y, task.SCAN_HEIGHT)], [end])[0]
            assert found == pytest.approx(hit[2] * task.REACH, abs=0.002)  # the engine is that exact


def test_scanner_sees_everything_that_can_be_hit(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    hall = env.scene.memory.hall
    bodies = [hall.racks[0], hall.pallets[0], hall.carts[0].body]
    for body, half in zip(bodies, (RACK, PALLET, CART), strict=True):
        for other in env.scene.world.bodies.values():
            if other.name.startswith(("rack", "pallet", "cart")):
                other.place((0.0, 0.0, -20.0))
        for yaw in (0.0, 0.5 * math.pi):  # its long and its short side
            body.place((0.0, 0.0, half[2]), (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)))
            for away in (0.5, 1.0, 2.0):  # m, from the front of the robot
                face = half[1] if yaw else half[0]
                place = -face - away - HALF_LENGTH
                put(env, place, 0.0, 0.0)
                ranges = env.scene.memory.lidar.scan()
                assert ranges[0] == pytest.approx(away + HALF_LENGTH, abs=1e-3)
                assert env.scene.memory.lidar.clearance(ranges) <= away + 1e-3


def test_noise_and_dropout_are_those_declared(env: TaskEnv) -> None:
    readings = np.array([env.reset(seed=5)[0]] + [env.step(action(env, 0.0, 0.0))[0] for _ in range(300)])
    part = env.policy_spec.observation_slices["scan"]
    truth = task.scan(env.scene)
    near = truth < -0.4
    seen = readings[50:, part][:, near] - truth[near]
    lost = readings[50:, part][:, near] == 0.0
    still = np.abs(np.median(seen, axis=0)) < 0.005  # rays on things that do not move
    assert still.sum() >= 3
    assert lost.mean() == pytest.approx(task.SCAN_DROPOUT, abs=0.006)
    assert seen[:, still][~lost[:, still]].std() == pytest.approx(task.SCAN_NOISE, rel=0.15)


# ---- hall -----------------------------------------------------------------------------------------------------------


def reachable(hall: Hall, start: tuple[float, ...], goal: tuple[float, ...], cell: float = 0.1) -> bool:
    """Flood fill of the places where the whole turning circle of the robot is free."""
    xs, ys = np.arange(-HALF_X, HALF_X, cell), np.arange(-HALF_Y, HALF_Y, cell)
    x, y = np.meshgrid(xs, ys, indexing="ij")
    free = (np.abs(x) < HALF_X - RADIUS) & (np.abs(y) < HALF_Y - RADIUS)
    for o in hall.obstacles:
        dx, dy = np.maximum(np.abs(x - o.x) - o.half_x, 0.0), np.maximum(np.abs(y - o.y) - o.half_y, 0.0)
        free &= np.hypot(dx, dy) > RADIUS
    ends = [tuple(round((v + h) / cell) for v, h in zip(p, (HALF_X, HALF_Y), strict=True)) for p in (start, goal)]
    queue, seen = deque([ends[0]]), {ends[0]}
    while queue:
        i, j = queue.popleft()
        for n in ((i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            if n not in seen and free[n]:
                seen.add(n)
                queue.append(n)
    return ends[1] in seen


def test_every_layout_has_a_way_and_free_ends(env: TaskEnv) -> None:
    counts = []
    assert GAP > 2 * RADIUS + 0.2
    for seed in range(25):
        env.reset(seed=TEST_SEED_START + seed)
        memory, place = env.scene.memory, env.scene.robot.body.position[:2]
        hall = memory.hall
        counts.append((len(hall.obstacles), len(hall.lanes)))
        for i, o in enumerate(hall.obstacles):
            assert abs(o.x) + o.half_x <= HALF_X - GAP + 1e-9 and abs(o.y) + o.half_y <= HALF_Y - GAP + 1e-9
            assert all(o.gap(p.x, p.y, p.half_x, p.half_y) >= GAP for p in hall.obstacles[:i])
            assert all(o.gap(lane.x, lane.y, lane.half_x, lane.half_y) >= -1e-9 for lane in hall.lanes)
        assert hall.free(*place, task.CLEAR - 1e-6) and hall.free(*memory.goal, task.CLEAR - 1e-6)
        assert 4.0 <= memory.first.distance <= 13.0
        assert reachable(hall, place, memory.goal)
    assert np.mean(counts, axis=0) == pytest.approx([7.0, 3.0], abs=1.0)


def test_difficulty_scales_obstacles_and_distance(env: TaskEnv) -> None:
    def typical(difficulty: float) -> tuple[float, float]:
        found = []
        for seed in range(20):
            env.reset(seed=seed, options={"difficulty": difficulty})
            hall = env.scene.memory.hall
            found.append((len(hall.obstacles) + len(hall.lanes), env.scene.memory.first.distance))
        return tuple(np.mean(found, axis=0))

    easy, hard = typical(0.0), typical(1.0)
    assert easy[0] < 4.0 < hard[0] and easy[1] < 4.1 < hard[1]


def test_carts_shuttle_within_their_lanes(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START + 3)
    put(env, -6.0, -4.0, 0.0)
    carts = [c for c in env.scene.memory.hall.carts if c.active]
    assert len(carts) == 3
    speed = env.scene.randomization["cart_speed"]
    ways: list[list[float]] = [[] for _ in carts]
    for _ in range(350):
        task.process(env.scene)
        env.scene.world.advance(env.task.substeps)
        for cart, way in zip(carts, ways, strict=True):
            position = cart.body.position
            way.append(position[0 if cart.along_x else 1])
            assert position[1 if cart.along_x else 0] == pytest.approx(cart.across, abs=1e-9)
            assert way[-1] == pytest.approx(cart.along, abs=1e-9)
            assert cart.low - 1e-6 <= way[-1] <= cart.high + 1e-6
    for way in ways:
        rate = np.diff(way) * task.CONTROL_HZ
        assert np.abs(rate).max() == pytest.approx(speed, rel=1e-3)
        assert rate.max() > 0.0 > rate.min(), "a cart that never turned round"


def test_carts_turn_before_a_robot_that_stands(env: TaskEnv) -> None:
    turned = 0
    for seed in range(12):
        env.reset(seed=TEST_SEED_START + seed)
        cart = next((c for c in env.scene.memory.hall.carts if c.active and c.high - c.low > 4.0), None)
        if cart is None:
            continue
        s = cart.low if cart.along - cart.low > cart.high - cart.along else cart.high
        aside = cart.across + (-0.7, 0.0, 0.3, 0.7)[seed % 4]  # in the middle of the lane and half beside it
        put(env, *((s, aside) if cart.along_x else (aside, s)), yaw=0.7 * seed)
        if env.scene.world.touching(env.scene.robot.body):
            continue
        directions = set()
        for _ in range(env.task.max_steps):
            _, _, terminated, truncated, _ = env.step(action(env, 0.0, 0.0))
            directions.add(cart.direction)
            assert not task.collided(env.scene), f"seed {seed}: hit while standing"
            if terminated or truncated:
                break
        turned += len(directions) == 2
    assert turned >= 5


# ---- task -----------------------------------------------------------------------------------------------------------


def test_touching_anything_ends_the_episode(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    names = [n for n in env.scene.world.bodies if n not in ("robot", "floor", "goal")]
    assert {n.rstrip("-0123456789") for n in names} == {"wall_x", "wall_y", "rack", "pallet", "cart"}
    for name in names:
        env.reset(seed=TEST_SEED_START, options={"difficulty": 0.0})
        env.scene.memory.goal = (100.0, 0.0)
        for other in names:
            if not other.startswith("wall"):
                env.scene[other].place((0.0, 0.0, -20.0))
        env.scene.memory.hall.carts[0].active = False
        if name.startswith("wall"):
            side, axis = int(name[6:]), name[5]
            start = (side * (HALF_X - 1.0), 0.0, 0.0) if axis == "x" else (0.0, side * (HALF_Y - 1.0), 0.5 * math.pi)
            put(env, start[0], start[1], start[2] + (math.pi if side < 0 else 0.0))
        else:
            env.scene[name].place((1.6, 0.2, 0.4))
            put(env, 0.0, 0.0, 0.0)
        ended = False
        for _ in range(40):
            _, reward, ended, _, info = env.step(action(env, 0.8, 0.0))
            if ended:
                break
        assert ended and info["metrics"]["collided"] == 1.0 and not info["is_success"], name
        assert info["reward_terms"]["collision"] == 1.0 and reward < -4.0


def test_arriving_while_touching_is_no_success(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    env.scene.memory.goal = env.scene.robot.body.position[:2]
    env.scene.world.touch()
    assert task.arrived(env.scene)
    env.scene.sensors["bumper"].touched = True
    assert not task.arrived(env.scene) and task.collided(env.scene)


def play(env: TaskEnv, seed: int, steps: int = 150) -> str:
    """Digest of everything an episode of noisy forward driving shows."""
    rng = np.random.default_rng(seed)
    digest = hashlib.sha256()
    observation, info = env.reset(seed=seed)
    digest.update(observation.tobytes() + repr(sorted(info["randomization"].items())).encode())
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(rng.uniform((-0.4, -1.0), (0.8, 1.0)))
        digest.update(observation.tobytes() + repr((reward, terminated, info)).encode())
        if terminated or truncated:
            break
    return digest.hexdigest()


def test_bumper_misses_nothing_by_looking_only_when_near(env: TaskEnv) -> None:
    bumper: Any = env.scene.sensors["bumper"]
    usual = [play(env, seed) for seed in range(15)]
    bumper._near = math.inf
    always = [play(env, seed) for seed in range(15)]
    bumper._near = task.BUMPER_NEAR
    assert usual == always


def test_episode_is_the_same_after_any_history_and_in_another_process(env: TaskEnv) -> None:
    seeds = [TEST_SEED_START + 7, 12, 99]
    expected = [play(env, seed) for seed in seeds]
    rng = np.random.default_rng(1)
    for seed, digest in zip(seeds, expected, strict=True):
        for _ in range(3):
            env.reset(seed=int(rng.integers(10**6)), options={"difficulty": float(rng.random())})
            for _ in range(int(rng.integers(1, 60))):
                env.step(rng.uniform(-1.0, 1.0, 2))
        assert play(env, seed) == digest
    code = (
        "from test_amr_navigation import play; from physai_envs import registry\n"
        f"env = registry.make('amr_navigation', visual=True).unwrapped; print(*[play(env, s) for s in {seeds}])"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=__file__.rsplit("/", 1)[0], capture_output=True, text=True, check=True
    )
    assert other.stdout.split() == expected


def test_terms_stay_within_their_declared_bounds(env: TaskEnv) -> None:
    bounds = {term.name: (term.low, term.high) for term in env.task.rewards}
    rng = np.random.default_rng(0)
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        for _ in range(100):
            assert env.observation_space.contains(observation)
            observation, _, terminated, _, info = env.step(rng.uniform((-0.4, -1.0), (1.0, 1.0)))
            for name, value in info["reward_terms"].items():
                assert bounds[name][0] <= value <= bounds[name][1], name
            if terminated:
                break


def test_arriving_is_success_and_gives_the_metrics(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START + 1, options={"difficulty": 0.0})
    x, y = env.scene.robot.body.position[:2]
    yaw = yaw_of(env.scene.robot.body.orientation)
    for away in (1.0, -1.0):  # ahead or behind, where it is free
        env.scene.memory.goal = (x + away * math.cos(yaw), y + away * math.sin(yaw))
        if env.scene.memory.hall.free(*env.scene.memory.goal, 0.6):
            break
    env.scene.world.touch()
    env.scene.memory.first = task.now(env.scene)
    for _ in range(60):
        _, _, terminated, _, info = env.step(action(env, 0.3 * away, 0.0))
        if terminated:
            break
    assert info["is_success"] and info["reward_terms"]["arrival"] == 1.0
    assert info["metrics"]["path_length"] == pytest.approx(0.7, abs=0.05)
    assert info["metrics"]["spl"] == pytest.approx(1.0, abs=0.07)
    assert info["metrics"]["least_clearance"] > 0.0 and info["metrics"]["collided"] == 0.0
