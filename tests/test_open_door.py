"""OpenDoor: hinge, lever and bolt do as theory says, the bolt holds until the lever is turned, the expert works."""

from dataclasses import replace
from math import cos, pi, radians

import numpy as np
import pytest

from physai_envs import handles, registry
from physai_envs.env import TEST_SEED_START, TaskEnv
from physai_envs.home import open_door as task
from physai_envs.parts import door as part
from physai_envs.parts.door import HINGE, LEVER, Door
from physai_envs.world import Physics, World

OPEN, CLOSE = 1.0, -1.0
HZ = 240
LEAF_INERTIA, LEAF_MASS, LEAF_MIDDLE = 0.101, 6.0, 0.225  # kgm2, kg, m (assets/furniture/door.urdf)
LEVER_INERTIA, LEVER_WEIGHT = 0.038, 0.3 * 9.81 * 0.045  # kgm2 about the hinge; Nm about the spindle
PULL = 200.0  # N, at the bar: more than an arm of 3 kg payload pulls with, and more than the force limit lets it


@pytest.fixture(scope="module")
def door():
    world = World(Physics(hz=HZ))
    yield Door(world)
    world.close()


@pytest.fixture(scope="module")
def env():
    env = registry.make("open_door").unwrapped
    yield env
    env.close()


# ---- door -----------------------------------------------------------------------------------------------------------


def put(door, friction=0.5, closer=1.0, stiffness=1.0, yaw=2.9, opening=0.0, turned=0.0):
    door.body.world.reset()
    door.place((0.6, 0.1, 0.6), yaw)
    door.body.set_joints((opening, turned))
    door.set_hinge(friction, closer)
    door.set_lever(stiffness, 0.5)
    door.reset()


def run(door, seconds, hinge=0.0, lever=0.0):
    """Turns leaf and lever with moments [Nm], on top of those of closer and spring."""
    for _ in range(round(seconds * HZ)):
        door.body.apply_torques([HINGE, LEVER], [hinge, lever])
        door.body.world.advance(1, (), (door.after_physics_step,))


def lever_moment(turned, stiffness=1.0):
    """What holds the lever there against its spring, without friction; its own weight helps [Nm]."""
    return part.PRELOAD + stiffness * turned - LEVER_WEIGHT * cos(turned)


def test_bolt_holds_the_shut_door_against_the_arm(door):
    put(door)
    run(door, 1.0, hinge=PULL * (part.SPINDLE - part.GRIP))
    assert door.bolted
    assert door.opening == pytest.approx(part.PLAY, abs=0.001)


def test_lever_below_the_release_does_not_open_beyond_it_does(door):
    put(door)
    door.body.set_joints((0.0, part.RELEASE - radians(2.0)))
    door.set_hinge(0.5, 1.0)
    run(door, 1.0, hinge=10.0, lever=lever_moment(part.RELEASE - radians(2.0)))
    assert part.CATCH < door.turned < part.RELEASE
    assert door.bolted
    assert door.opening < part.PLAY + 0.001
    run(door, 0.3, lever=lever_moment(part.RELEASE) + 2.0 * part.LEVER_FRICTION)
    assert door.turned > part.RELEASE
    assert not door.bolted
    run(door, 0.5, hinge=10.0, lever=lever_moment(part.RELEASE))
    assert door.opening > radians(20.0)


def test_bolt_does_not_matter_when_ajar_and_catches_when_the_closer_shuts_the_door(door):
    put(door, closer=2.0, opening=radians(20.0))
    run(door, 0.3, hinge=4.0)
    assert not door.bolted
    assert door.opening > radians(20.0)
    run(door, 2.0)
    assert door.opening <= part.PLAY
    assert door.bolted
    run(door, 0.5, hinge=20.0)
    assert door.opening < part.PLAY + 0.001


@pytest.mark.parametrize("stiffness", [0.6, 1.6])
def test_spring_holds_and_returns_the_lever(door, stiffness):
    put(door, stiffness=stiffness)
    run(door, 0.3, lever=0.95 * lever_moment(0.0))
    assert door.turned == pytest.approx(0.0, abs=1e-3)
    for beyond in (-0.9, 0.9):  # friction holds it where it is, up to its own moment
        put(door, stiffness=stiffness, turned=0.7)
        run(door, 0.5, lever=lever_moment(0.7, stiffness) + beyond * part.LEVER_FRICTION)
        assert door.turned == pytest.approx(0.7, abs=1e-3)
    run(door, 0.3, lever=lever_moment(0.7, stiffness) + 2.0 * part.LEVER_FRICTION)
    assert door.turned > 0.72
    run(door, 0.5)
    assert door.turned == pytest.approx(0.0, abs=1e-3)


def test_nothing_is_left_of_the_episode_before(door):
    ends = []
    for turned in (0.1, 1.0, 0.3):
        put(door, turned=turned, opening=0.2)  # a lever that is wound up, and left so
        run(door, 0.1)
        put(door, turned=0.5, opening=0.1)
        run(door, 0.1)
        ends.append((door.opening, door.turned))
    assert ends[0] == ends[1] == ends[2]


def test_lever_that_was_forced_past_its_rest_comes_back(door):
    put(door, turned=-0.1)
    run(door, 1.0)
    assert door.turned == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize(("friction", "closer"), [(0.3, 0.5), (1.0, 2.0)])
def test_friction_closer_and_damper_are_those_that_were_set(door, friction, closer):
    put(door, friction, closer, opening=0.6)
    holding = closer + part.CLOSER_RATE * 0.6
    for beyond in (0.0, 0.9, -0.9):
        run(door, 0.5, hinge=holding + beyond * friction)
        assert door.opening == pytest.approx(0.6, abs=2e-4)
        assert abs(door.speed) < 1e-6
    start, moment, inertia = door.opening, 0.6, LEAF_INERTIA + LEAF_MASS * LEAF_MIDDLE**2 + LEVER_INERTIA
    speed = angle = 0.0  # of a leaf that is integrated beside it
    for _ in range(HZ):
        speed += (moment - part.CLOSER_RATE * angle - part.DAMPER * speed) / inertia / HZ
        angle += speed / HZ
    run(door, 1.0, hinge=holding + friction + moment)
    assert door.opening - start == pytest.approx(angle, rel=0.02)
    assert door.speed == pytest.approx(speed, rel=0.02)


@pytest.mark.parametrize("yaw", [2.9, pi, 3.4])
def test_bar_is_where_the_door_says(door, yaw):
    for opening, turned in ((0.0, 0.0), (0.0, 0.7), (0.9, 0.3)):
        put(door, yaw=yaw, opening=opening, turned=turned)
        x, y, z = door.handle
        out = np.array((np.cos(yaw + opening), np.sin(yaw + opening)))
        for off, hits in ((0.0075, True), (0.0085, False)):  # the bar is 16 mm thick
            across = np.array((-out[1] * np.sin(turned), out[0] * np.sin(turned), np.cos(turned))) * off
            middle = np.array((x, y, z)) + across
            before = middle + (*(0.03 * out), 0.0)
            hit = door.body.world.rays([tuple(before)], [tuple(middle)])
            assert (hit[0][0] == door.body.id) is hits
    put(door, yaw=yaw)
    assert door.handle == pytest.approx((0.6, 0.1, 0.6))


# ---- task -----------------------------------------------------------------------------------------------------------


def play(env, seed, act):
    env.reset(seed=seed)
    over, info = False, {}
    while not over:
        _, _, terminated, truncated, info = env.step(np.clip(act(), -1.0, 1.0))
        over = terminated or truncated
    return info


def test_expert_opens_every_door_without_pressing_hard(env):
    played = [play(env, TEST_SEED_START + i, env.expert_action) for i in range(30)]
    assert all(info["is_success"] for info in played)
    assert max(info["metrics"]["peak_force"] for info in played) < 4.0 * task.FINGER_FORCE
    assert max(info["metrics"]["slip"] for info in played) < 0.01
    assert min(info["metrics"]["opening"] for info in played) >= task.OPENED


def test_expert_recovers_from_disturbed_actions(env):
    rng = np.random.default_rng(0)
    wins = [
        play(env, TEST_SEED_START + i, lambda: env.expert_action() + 0.2 * rng.standard_normal(7)) for i in range(12)
    ]
    assert sum(info["is_success"] for info in wins) >= 10


def test_arm_stays_away_from_its_joint_limits(env):
    limits = [env.scene.robot.body.joint_info(name)[8:10] for name in env.scene.robot.model.joints]
    for i in range(6):
        play(env, TEST_SEED_START + i, env.expert_action)
        for position, (low, high) in zip(env.scene.robot.joint_positions, limits, strict=True):
            assert low + 0.1 < position < high - 0.1


def test_nothing_and_noise_do_not_open_it(env):
    rng = np.random.default_rng(0)
    for i in range(4):
        assert play(env, TEST_SEED_START + i, lambda: np.zeros(7))["metrics"]["opening"] < 2.0 * part.PLAY
        assert not play(env, TEST_SEED_START + i, lambda: rng.uniform(-1.0, 1.0, 7))["is_success"]


def gripping(env, seed):
    """Plays the expert until it holds the bar."""
    env.reset(seed=seed)
    while not task.holding(env.scene):
        env.step(env.expert_action())


def test_pulling_at_a_lever_that_is_not_turned_does_not_open_the_door(env):
    gripping(env, TEST_SEED_START)
    for _ in range(30):
        env.step((-1.0, 0.0, 0.0, 0.0, 0.0, 0.0, CLOSE))
        assert env.scene.memory.door.opening < part.PLAY + 0.002


def test_bar_without_friction_slips_out(env):
    gripping(env, TEST_SEED_START)
    while not task.opening(env.scene) > task.AJAR:
        env.step(env.expert_action())
    env.scene.memory.door.set_lever(1.0, 0.01)
    for _ in range(20):
        env.step((-0.5, 0.0, 0.0, 0.0, 0.0, 0.0, CLOSE))
    assert task.opening(env.scene) < radians(15.0)


class DepthMeter:
    """How deep the arm was in the door at most [m]."""

    def __init__(self, door):
        self.door = door

    def reset(self):
        self.deepest = 0.0

    def start(self):
        return True

    def after_physics_step(self):
        depths = [-contact[8] for contact in self.door.world.contacts(self.door)]
        self.deepest = max(self.deepest, *depths) if depths else self.deepest


def test_fingers_do_not_sink_into_the_bar():
    """Bullet loses a contact for a step now and then: fingers told to close at 0.3 m/s were 6 mm deep in it then."""

    def build(scene):
        task.build(scene)
        scene.add_sensor("depth", DepthMeter(scene.memory.door.body))

    env = TaskEnv(replace(task.TASK, build=build))
    for i in range(8):
        play(env, TEST_SEED_START + i, env.expert_action)
        assert env.scene.sensors["depth"].deepest < 0.002
    env.close()


def test_blocked_fingers_press_with_their_force(env):
    gripping(env, TEST_SEED_START)
    env.step((0.0,) * 6 + (CLOSE,))
    arm, door = env.scene.robot.body, env.scene.memory.door.body
    for finger in ("finger_left", "finger_right"):
        force = env.scene.world.contact_force(arm, door, arm.joints[finger])
        assert force == pytest.approx(task.FINGER_FORCE, rel=0.1)


def test_ramming_the_leaf_ends_the_episode(env):
    env.reset(seed=TEST_SEED_START, options={"difficulty": 0.0})
    terminated = False
    for _ in range(40):
        _, _, terminated, _, info = env.step((1.0, 0.0, 0.0, 0.0, 0.0, 0.0, OPEN))
        if terminated:
            break
    assert terminated
    assert not info["is_success"]
    assert info["reward_terms"]["stopped"] == 1.0
    assert info["metrics"]["peak_force"] > handles.FORCE_LIMIT


def test_no_state_that_lasts_pays_more_than_nothing():
    weights = {term.name: term.weight for term in task.TASK.rewards}
    assert sum(weights[name] for name in ("near", "gripped", "unlatched", "opened", "time")) <= 0.0


def test_starts_are_where_the_task_says(env):
    for seed in range(20):
        env.reset(seed=seed)
        handle, tip = env.scene.memory.door.handle, env.scene.robot.tip_position
        assert (np.array(handle) >= np.array(task.HANDLE_LOW) - 1e-6).all()
        assert (np.array(handle) <= np.array(task.HANDLE_HIGH) + 1e-6).all()
        assert (np.array(tip) >= np.array(task.START_LOW) - 1e-4).all()
        assert (np.array(tip) <= np.array(task.START_HIGH) + 1e-4).all()
        assert abs(task.cupboard_yaw(env.scene)) <= task.MAX_TURN
        np.testing.assert_allclose(env.scene.robot.tool_axis, (1.0, 0.0, 0.0), atol=1e-3)
        np.testing.assert_allclose(task.hand_turn(env.scene), 0.0, atol=1e-3)
        assert env.scene.memory.door.bolted
        assert task.opening(env.scene) == 0.0
    env.reset(seed=1, options={"difficulty": 0.0})
    assert task.from_front(env.scene) == pytest.approx((task.EASY_AWAY, 0.0, 0.0), abs=1e-4)
