"""OpenDrawer: the drawer runs as theory says, the grip holds by friction and by nothing else, and the expert works."""

import numpy as np
import pytest

from physai_envs import handles, registry
from physai_envs.env import TEST_SEED_START
from physai_envs.home import open_drawer as task
from physai_envs.parts.drawer import BARS, STANDOFF, TRAVEL, Drawer
from physai_envs.world import Physics, World

OPEN, CLOSE = 1.0, -1.0
HZ = 240


@pytest.fixture(scope="module")
def drawer():
    world = World(Physics(hz=HZ))
    yield Drawer(world)
    world.close()


@pytest.fixture(scope="module")
def env():
    env = registry.make("open_drawer").unwrapped
    yield env
    env.close()


# ---- drawer ---------------------------------------------------------------------------------------------------------


def put(drawer, mass, friction, yaw=2.9, bar=1):
    drawer.body.world.reset()
    drawer.place((0.6, 0.1, 0.6), yaw, bar)
    drawer.set_mass(mass)
    drawer.set_friction(friction, 0.5)


def pull(drawer, force, seconds):
    for _ in range(round(seconds * HZ)):
        drawer.body.apply_torques([drawer.body.joints["slide"]], [force])
        drawer.body.world.advance(1)


@pytest.mark.parametrize(("mass", "friction"), [(2.0, 3.0), (4.0, 8.0), (6.0, 12.0)])
def test_friction_holds_slows_and_stops_the_drawer(drawer, mass, friction):
    put(drawer, mass, friction)
    pull(drawer, 0.95 * friction, 0.5)
    assert abs(drawer.opening) < 1e-6
    pull(drawer, friction + mass, 0.4)  # 1 m/s2
    assert drawer.speed == pytest.approx(0.4, rel=0.01)
    assert drawer.opening == pytest.approx(0.5 * 0.4**2, rel=0.02)
    before, speed = drawer.opening, drawer.speed
    drawer.body.world.advance(HZ // 2)
    assert drawer.speed == pytest.approx(0.0, abs=1e-6)
    assert drawer.opening - before == pytest.approx(0.5 * mass * speed**2 / friction, rel=0.03)


def test_stop_ends_the_travel(drawer):
    put(drawer, 4.0, 5.0)
    pull(drawer, 30.0, 1.0)
    assert drawer.opening == pytest.approx(TRAVEL, abs=0.002)


@pytest.mark.parametrize("bar", range(len(BARS)))
def test_handle_is_where_the_drawer_says_and_as_thick(drawer, bar):
    put(drawer, 4.0, 5.0, bar=bar)
    for _ in range(2):
        x, y, z = drawer.handle
        front = drawer.body.link_state(0)[4]
        np.testing.assert_allclose(np.subtract((x, y, z), front)[:2], STANDOFF * np.array(drawer.out), atol=1e-6)
        for across, hits in ((0.5 * BARS[bar] - 0.0005, True), (0.5 * BARS[bar] + 0.0005, False)):
            hit = drawer.body.world.rays(
                [(x + 0.02 * drawer.out[0], y + 0.02 * drawer.out[1], z + across)], [(x, y, z + across)]
            )
            assert (hit[0][0] == drawer.body.id) is hits
        pull(drawer, 20.0, 0.2)
    assert drawer.opening > 0.03
    assert z == pytest.approx(0.6)


# ---- task -----------------------------------------------------------------------------------------------------------


def play(env, seed, act, options=None):
    env.reset(seed=seed, options=options)
    over, info = False, {}
    while not over:
        _, _, terminated, truncated, info = env.step(np.clip(act(), -1.0, 1.0))
        over = terminated or truncated
    return info


def test_expert_opens_every_drawer_without_pressing_hard(env):
    played = [play(env, TEST_SEED_START + i, env.expert_action) for i in range(30)]
    assert all(info["is_success"] for info in played)
    assert max(info["metrics"]["peak_force"] for info in played) < 3.0 * task.GRIP
    assert max(info["metrics"]["slip"] for info in played) < 0.005
    assert min(info["metrics"]["opening"] for info in played) >= 0.9 * TRAVEL


@pytest.mark.parametrize("delay_s", [0.0, 0.02, task.MOST_DELAY])
def test_expert_bears_commands_that_come_late(env, delay_s):
    options = {"randomization": {"command_delay": delay_s}}
    wins = [play(env, TEST_SEED_START + i, env.expert_action, options)["is_success"] for i in range(8)]
    assert sum(wins) == 8


def test_expert_recovers_from_disturbed_actions(env):
    rng = np.random.default_rng(0)
    wins = [
        play(env, TEST_SEED_START + i, lambda: env.expert_action() + 0.2 * rng.standard_normal(4)) for i in range(12)
    ]
    assert sum(info["is_success"] for info in wins) >= 10


def test_nothing_and_noise_do_not_open_it(env):
    rng = np.random.default_rng(0)
    for i in range(4):
        assert play(env, TEST_SEED_START + i, lambda: np.zeros(4))["metrics"]["opening"] == pytest.approx(0.0, abs=1e-6)
        assert not play(env, TEST_SEED_START + i, lambda: rng.uniform(-1.0, 1.0, 4))["is_success"]


def gripping(env, seed):
    """Plays the expert until it holds the handle."""
    env.reset(seed=seed, options={"randomization": {"command_delay": 0.0}})
    while not task.holding(env.scene):
        env.step(env.expert_action())


def test_handle_without_friction_slips_out(env):
    gripping(env, TEST_SEED_START)
    env.scene.memory.drawer.set_friction(env.scene.randomization["rail_friction"], 0.01)
    for _ in range(20):
        env.step((-0.5, 0.0, 0.0, CLOSE))
    assert task.opening(env.scene) < 0.02


def test_handle_slips_out_when_it_is_pulled_too_fast(env):
    """6 kg brought to 0.3 m/s in one step of 50 ms take 36 N; two fingers of 30 N with friction 0.4 give 24 N."""
    gripping(env, TEST_SEED_START)
    env.scene.memory.drawer.set_mass(6.0)
    env.scene.memory.drawer.set_friction(12.0, 0.4)
    for _ in range(20):
        env.step((-1.0, 0.0, 0.0, CLOSE))
    assert task.opening(env.scene) < 0.1


def test_ramming_the_front_ends_the_episode(env):
    env.reset(seed=TEST_SEED_START, options={"difficulty": 0.0})
    terminated = False
    for _ in range(40):
        _, _, terminated, _, info = env.step((1.0, 0.0, 0.0, OPEN))
        if terminated:
            break
    assert terminated
    assert not info["is_success"]
    assert info["reward_terms"]["stopped"] == 1.0
    assert info["metrics"]["peak_force"] > handles.FORCE_LIMIT


def test_no_state_that_lasts_pays_more_than_nothing():
    weights = {term.name: term.weight for term in task.TASK.rewards}
    assert sum(weights[name] for name in ("near", "gripped", "opened", "time")) <= 0.0


def test_starts_are_where_the_task_says(env):
    seen = set()
    for seed in range(30):
        env.reset(seed=seed)
        handle, tip = env.scene.memory.drawer.handle, env.scene.robot.tip_position
        assert (np.array(handle) >= task.HANDLE_LOW).all() and (np.array(handle) <= task.HANDLE_HIGH).all()
        assert (np.array(tip) >= np.array(task.START_LOW) - 1e-4).all()
        assert (np.array(tip) <= np.array(task.START_HIGH) + 1e-4).all()
        np.testing.assert_allclose(env.scene.robot.tool_axis, (1.0, 0.0, 0.0), atol=1e-3)
        assert task.opening(env.scene) == 0.0
        seen.add(env.scene.memory.drawer.body.name)
    assert len(seen) == len(BARS)
    env.reset(seed=1, options={"difficulty": 0.0})
    assert task.from_front(env.scene) == pytest.approx((task.EASY_AWAY, 0.0, 0.0), abs=1e-4)
