"""ConveyorSorting: parts end where they are counted, the camera tells what it should, and the expert sorts them all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.assembly import conveyor_sorting as task
from physai_envs.env import TEST_SEED_START, TaskEnv
from physai_envs.geometry import subtract

IDLE = np.array((0.0, 0.0, 0.0, -1.0))


@pytest.fixture(scope="module")
def env() -> Iterator[TaskEnv]:
    made = registry.make("conveyor_sorting").unwrapped
    assert isinstance(made, TaskEnv)
    yield made
    made.close()


def play(env: TaskEnv, seed: int, noise: float = 0.0) -> dict[str, object]:
    env.reset(seed=seed)
    rng, over, info = np.random.default_rng(seed), False, {}
    while not over:
        action = np.clip(env.expert_action() + noise * rng.standard_normal(4), -1.0, 1.0)
        _, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    return info


def test_expert_sorts_all_parts(env: TaskEnv) -> None:
    for i in range(8):
        info = play(env, TEST_SEED_START + i)
        assert info["is_success"]
        assert info["metrics"] == {
            "sorted_share": 1.0, "wrong": 0.0, "missed": 0.0, "lost": 0.0,
            "parts_per_minute": pytest.approx(60.0 * task.PARTS / env.scene.time_s),
        }  # fmt: skip


def test_expert_recovers_from_disturbed_actions(env: TaskEnv) -> None:
    shares = [play(env, TEST_SEED_START + i, noise=0.05)["metrics"]["sorted_share"] for i in range(6)]
    assert np.mean(shares) > 0.9


@pytest.mark.parametrize("kind", ["nothing", "random"])
def test_without_skill_nothing_is_sorted(env: TaskEnv, kind: str) -> None:
    for i in range(2):
        env.reset(seed=TEST_SEED_START + i)
        rng, over = np.random.default_rng(i), False
        while not over:
            _, _, terminated, truncated, info = env.step(IDLE if kind == "nothing" else rng.uniform(-1.0, 1.0, 4))
            over = terminated or truncated
        assert not info["is_success"]
        assert info["metrics"]["sorted_share"] == 0.0


def test_parts_that_nobody_picks_ride_into_the_tray(env: TaskEnv) -> None:
    env.reset(seed=1)
    env.scene.robot.place_tip((0.27, 0.0, 0.19))
    terms = []
    for _ in range(env.task.max_steps):
        _, _, terminated, _, info = env.step(IDLE)
        terms.append(info["reward_terms"]["missed"])
    assert not terminated
    assert info["metrics"]["missed"] == sum(terms) >= 4.0
    assert info["metrics"]["lost"] == 0.0


def put(env: TaskEnv, part: int, x: float, y: float, z: float) -> tuple[int, int, int, int]:
    """Drops a part, and tells how the census has become."""
    env.scene.memory.parts[part].place((x, y, z))
    for _ in range(14):
        env.step(IDLE)
    return task.census(env.scene)


def test_every_part_is_counted_where_it_lies(env: TaskEnv) -> None:
    env.reset(seed=2)
    bins = env.scene.memory.bin_at
    assert task.census(env.scene) == (0, 0, 0, 0)
    for kind in range(task.CLASSES):
        assert put(env, kind * task.EACH, *bins[kind], 0.12) == (kind + 1, 0, 0, 0)
    assert put(env, 1, *bins[1], 0.16) == (3, 1, 0, 0)
    assert put(env, 3, *task.TRAY_AT, 0.1) == (3, 1, 1, 0)
    assert not task.lost(env.scene)
    env.scene.memory.parts[5].place((0.7, 0.5, 0.05))
    for _ in range(14):
        _, reward, terminated, _, info = env.step(IDLE)
        if terminated:
            break
    assert terminated and not info["is_success"] and info["metrics"]["lost"] == 1.0 and reward < -7.0


def test_flat_parts_do_not_fall_through_the_floor_of_a_bin(env: TaskEnv) -> None:
    for seed in range(6):
        env.reset(seed=seed)
        for part in (4, 5):
            x, y = env.scene.memory.bin_at[2]
            put(env, part, x + 0.02 * (part - 4), y, 0.14 + 0.01 * seed)
        assert task.census(env.scene)[0] == 2


def test_camera_reports_the_next_parts(env: TaskEnv) -> None:
    for seed in range(6):
        env.reset(seed=seed)
        scene, m = env.scene, env.scene.memory
        for _ in range(40):
            env.step(IDLE)
        order = sorted(range(task.PARTS), key=lambda i: -m.parts[i].position[1])
        order = [i for i in order if task.VIEW[0] < m.parts[i].position[1] < task.VIEW[1]]
        assert task.waiting(scene) == order
        seen, kinds = task.tip_to_parts(scene), task.classes_of_parts(scene)
        assert seen[:3] == task.tip_to_first(scene)
        for slot, i in enumerate(order[: task.SEEN]):
            true = np.array(subtract(m.parts[i].position, scene.robot.tip_position))
            true += (m.camera_x, m.camera_y, task.SHAPES[i // task.EACH][2])
            assert seen[3 * slot : 3 * slot + 3] == pytest.approx(true)
            assert kinds[3 * slot : 3 * slot + 3] == [float(k == i // task.EACH) for k in range(3)]


def test_a_held_part_is_not_waiting_and_its_class_is_known(env: TaskEnv) -> None:
    env.reset(seed=TEST_SEED_START)
    while task.held(env.scene) is None:
        env.step(env.expert_action())
    part = task.held(env.scene)
    assert part not in task.waiting(env.scene)
    assert task.following(env.scene)[0] == part
    assert task.classes_of_parts(env.scene)[part // task.EACH] == 1.0
    assert np.linalg.norm(task.tip_to_first(env.scene)) < 0.012
    assert task.vacuum(env.scene) > 0.5
    number, distance = task.goal(env.scene)
    assert number == part
    x, y = task.tip_to_bins(env.scene)[2 * (part // task.EACH) :][:2]
    assert np.hypot(x, y) == pytest.approx(distance)
    env.step(IDLE)
    assert task.held(env.scene) is None


def test_weak_vacuum_is_drawn_and_applied(env: TaskEnv) -> None:
    _, info = env.reset(seed=3)
    assert env.scene.memory.suction.strength == info["randomization"]["vacuum_strength"] < 1.0
    assert env.scene.memory.belt.speed == info["randomization"]["belt_speed"]


def test_success_is_the_best_that_can_happen() -> None:
    """A part pays 2 in its bin and never for anything that lasts but the way; time always costs."""
    weights = {term.name: term.weight for term in task.TASK.rewards}
    assert weights["time"] < 0.0 and weights["finished"] > 0.0
    assert weights["lost"] <= -weights["sorted"] * (task.PARTS - 2)
