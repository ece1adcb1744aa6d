"""PegInsertionHard: chamfer and clearance are what they are said to be, the arm gives way, the expert gets in."""

from math import cos, hypot, pi, sin

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.assembly import peg_insertion as peg
from physai_envs.assembly import peg_insertion_hard as task
from physai_envs.control import CompliantPull
from physai_envs.env import TEST_SEED_START
from physai_envs.parts.hole import SIDES, add_chamfered_hole
from physai_envs.robot import Robot
from physai_envs.robots.panda import PANDA_PEG
from physai_envs.world import Physics, World

BORE = peg.PEG_RADIUS + task.CLEARANCE


@pytest.fixture(scope="module")
def env():
    env = registry.make("peg_insertion_hard").unwrapped
    yield env
    env.close()


def play(env, seed, act):
    """Plays an episode; returns its last info and the deepest overlap of peg and hole in any physics step [m]."""
    env.reset(seed=seed)
    scene, meter = env.scene, env.scene.sensors["contact"]
    look, overlap = meter.after_physics_step, [0.0]

    def sample():
        overlap.extend(-point[8] for point in scene.world.contacts(scene["hole"]))
        look()

    meter.after_physics_step = sample
    try:
        while True:
            _, _, terminated, truncated, info = env.step(act())
            if terminated or truncated:
                return info, max(overlap)
    finally:
        del meter.after_physics_step


@pytest.mark.parametrize(
    ("out", "below", "normal"),
    [
        (0.0, 0.015, (-1.0, 0.0)),
        (0.0, 0.0007, (-1.0, 0.0)),
        (0.25, None, (-(0.5**0.5), 0.5**0.5)),
        (0.75, None, (-(0.5**0.5), 0.5**0.5)),
    ],
)
def test_bore_and_chamfer_are_where_the_numbers_say(out, below, normal):
    """A ball 0.1 mm off the surface, seen along its normal, is 0.1 mm away: no face sticks out, none is missing."""
    world = World(Physics(hz=240, contact_threshold=0.002))
    hole = add_chamfered_hole(world, "hole", BORE, peg.DEPTH, task.CHAMFER)
    size, off = 0.001, 0.0001
    ball = world.sphere("ball", size, mass=0.1)
    height = -below if below else (out - 1.0) * task.CHAMFER
    radius = BORE + out * task.CHAMFER + (size + off) * normal[0]
    for angle in (2 * pi * side / SIDES for side in range(SIDES)):
        ball.place((radius * cos(angle), radius * sin(angle), height + (size + off) * normal[1]))
        assert world.gap(ball, hole, 0.001) == pytest.approx(off, abs=5e-6)
    world.close()


def test_flat_around_the_chamfer_is_level_with_the_mouth():
    world = World(Physics(hz=240, contact_threshold=0.002))
    hole = add_chamfered_hole(world, "hole", BORE, peg.DEPTH, task.CHAMFER)
    ball = world.sphere("ball", 0.001, mass=0.1)
    for out in (BORE + task.CHAMFER + 0.001, BORE + 0.008):
        ball.place((out, 0.0, 0.003))
        assert world.gap(ball, hole, 0.01) == pytest.approx(0.002, abs=2e-5)
    world.close()


def test_tool_tilts_where_it_is_pulled_and_its_tip_stays():
    world = World(Physics(hz=240, gravity=0.0))
    robot = Robot(world, PANDA_PEG)
    controller = CompliantPull(reach=0.01, tilt=0.05).bind(robot, 0.05)
    robot.place_tip((0.5, 0.0, 0.1), lean=(0.08, -0.05, 0.0))
    ax, ay, _ = robot.tool_axis
    assert (-ay, ax) == pytest.approx((-0.08, 0.05), abs=1e-3)
    controller.reset()
    for _ in range(60):
        ax, ay, _ = robot.tool_axis
        pull = np.array((0.5, 0.0, 0.1)) - robot.tip_position
        controller.apply((*pull, *np.clip((-ay, ax), -0.05, 0.05)))
        world.advance(12, [controller.before_physics_step])
    assert hypot(*robot.tool_axis[:2]) < 0.003
    assert robot.tip_position == pytest.approx((0.5, 0.0, 0.1), abs=5e-4)
    world.close()


def test_start_leans_and_the_easiest_one_does_not(env):
    for seed in range(4):
        env.reset(seed=seed)
        assert task.LEAN[0] - 1e-3 < hypot(*task.lean(env.scene)) < task.LEAN[1] + 1e-3
        env.reset(seed=seed, options={"difficulty": 0.0})
        assert hypot(*task.lean(env.scene)) < 1e-3


def test_expert_gets_in_gently_and_through_no_wall(env):
    for seed in range(TEST_SEED_START, TEST_SEED_START + 12):
        info, overlap = play(env, seed, env.expert_action)
        assert info["is_success"]
        assert info["metrics"]["peak_force"] < 10.0
        assert overlap < 0.00005


def test_nothing_and_chance_do_not_succeed(env):
    rng = np.random.default_rng(0)
    for seed in range(3):
        for act in (lambda: np.zeros(5), lambda: rng.uniform(-1, 1, 5)):
            assert not play(env, seed, act)[0]["is_success"]


def test_peg_beside_the_chamfer_does_not_go_in(env):
    for seed in range(4):
        env.reset(seed=seed)
        scene = env.scene
        beside = BORE - peg.PEG_RADIUS + task.CHAMFER + 0.001
        while True:
            x, y, z = peg.tip_to_mouth(scene)
            roll, pitch = task.lean(scene)
            x += beside
            down = -0.001 if hypot(x, y) < 0.0005 or z > 0 else 0.8 * (z + 0.005)
            act = np.array((0.8 * x, 0.8 * y, down)) / peg.PULL
            _, _, terminated, truncated, info = env.step((*act, roll / task.TILT, pitch / task.TILT))
            if terminated or truncated:
                break
        assert not info["is_success"]
        assert info["metrics"]["depth"] < 0.1 * peg.DEPTH


def test_peg_in_the_hole_moves_by_the_clearance_and_no_further(env):
    env.reset(seed=3, options={"difficulty": 0.0, "randomization": {"skew_x": 0.0, "skew_y": 0.0}})
    for _ in range(20):
        env.step((0.6, 0.0, 0.0, 0.0, 0.0))
    assert 0.0001 < abs(peg.tip_to_mouth(env.scene)[0]) < task.CLEARANCE + 0.0002  # corners of the ring


def test_being_done_is_worth_more_than_any_waiting(env):
    best = {term.name: term.high if term.weight > 0 else term.low for term in env.task.rewards}
    best["time"] = 1.0
    assert sum(term.weight * best[term.name] for term in env.task.rewards) <= 1e-9


def test_angle_is_to_the_axis_of_the_hole_not_to_the_vertical(env):
    env.reset(seed=0, options={"difficulty": 0.0, "randomization": {"skew_x": 0.004, "skew_y": 0.003}})
    assert task.angle(env.scene) == pytest.approx(0.005, abs=2e-4)
