"""PegInsertion: the hole is sound, the scripted way in works, and hand-computed rewards."""

import numpy as np
import pytest

from physai_envs import registry
from physai_envs.assembly import peg_insertion as peg


@pytest.fixture(scope="module")
def env():
    env = registry.make("peg_insertion").unwrapped
    yield env
    env.close()


def straight_in(env, offset=(0.0, 0.0)):
    """A controller that knows the true hole: over it, then down; returns the last info."""
    scene = env.scene
    while True:
        gap = np.array(peg.tip_to_mouth(scene)) + (*offset, 0.0)
        centred = np.hypot(gap[0], gap[1]) < 0.0005
        down = -0.003 if centred or gap[2] > 0 else 0.8 * (gap[2] + 0.005)
        pull = np.array([0.8 * gap[0], 0.8 * gap[1], down])
        _, _, terminated, truncated, info = env.step(pull / peg.PULL)
        if terminated or truncated:
            return info


def test_centred_peg_goes_in_gently(env):
    for seed in range(12):
        env.reset(seed=seed)
        info = straight_in(env)
        assert info["is_success"]
        assert info["metrics"]["peak_force"] < 15.0
        assert info["metrics"]["depth"] > 0.9 * peg.DEPTH


def test_peg_beside_the_hole_does_not_go_in(env):
    for seed in range(6):
        env.reset(seed=seed)
        info = straight_in(env, offset=(0.003, 0.0))
        assert not info["is_success"]
        assert info["metrics"]["depth"] < 0.1 * peg.DEPTH


def test_peg_never_sinks_into_the_wall(env):
    """Pushing sideways inside the hole moves the tip by the clearance and no further."""
    env.reset(seed=3, options={"difficulty": 0.0})
    scene = env.scene
    for _ in range(20):
        env.step([0.6, 0.0, 0.0])
    assert abs(peg.tip_to_mouth(scene)[0]) < peg.CLEARANCE + 0.0004  # corners of the ring, and 0.1 mm penetration


def test_difficulty_moves_the_start(env):
    starts = []
    for difficulty in (0.0, 0.29, 0.31, 1.0):
        env.reset(seed=5, options={"difficulty": difficulty})
        starts.append(peg.seated_distance(env.scene))
    assert starts == sorted(starts)
    assert starts[0] < 0.01 < 0.05 < starts[-1]


def test_rewards_at_named_states(env):
    env.reset(seed=0, options={"difficulty": 0.1})
    scene = env.scene
    # 2/3 of the way from the mouth to 81 % of the depth
    inside = peg.DEPTH * (1 - 0.1 / 0.3) * 0.9 * 0.9
    assert peg.depth(scene) == pytest.approx(inside, abs=1e-4)
    assert peg.insert(scene) == pytest.approx(inside / peg.DEPTH, abs=1e-2)
    assert not peg.inserted(scene)
    # a Gaussian that is 0.1 at 10 cm: 0.1 ** (gap / 0.1) ** 2
    gap = peg.DEPTH - inside
    assert peg.reach(scene) == pytest.approx(0.1 ** (gap / 0.1) ** 2, rel=1e-3)
    assert peg.align(scene) == pytest.approx(1.0, abs=1e-3)
    assert peg.contact_force(scene) == 0.0


def test_being_done_is_worth_more_than_any_waiting(env):
    """No state that lasts pays more than zero a step, so an episode that ends by success loses nothing."""
    best = {term.name: term.high if term.weight > 0 else term.low for term in env.task.rewards}
    best["time"] = 1.0
    assert sum(term.weight * best[term.name] for term in env.task.rewards) <= 1e-9


def test_hard_contact_ends_the_episode(env):
    env.reset(seed=0)
    env.scene.sensors["contact"].peak = peg.FORCE_LIMIT + 1.0
    _, _, terminated, _, info = env.step([0, 0, 0])
    assert terminated
    assert not info["is_success"]
    assert info["reward_terms"]["stopped"] == 1.0
