"""Every task, by the same rules. Adding a task file adds it here."""

import resource
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium
from stable_baselines3.common.env_checker import check_env as check_sb3

import physai_envs
from physai import catalog
from physai.evaluate.statistics import wilson_interval
from physai.spec import PolicySpec
from physai_envs import registry
from physai_envs.env import TEST_SEED_START

NAMES = [registry.slug(task.id) for task in registry.tasks()]
GOAL_NAMES = [registry.slug(task.id) for task in registry.tasks() if task.goal is not None]
CHANCE, EPISODES = 0.02, 200  # at most so much success by luck, shown on so many unseen episodes
VARIANTS = [(name, False) for name in NAMES] + [(name, True) for name in GOAL_NAMES]


@pytest.fixture(scope="module", params=NAMES)
def env(request):
    env = registry.make(request.param)
    yield env.unwrapped
    env.close()


def play(env, seed, steps, action_seed=0, options=None):
    """Plays an episode with random actions; returns everything that came back, as bytes."""
    observation, info = env.reset(seed=seed, options=options)
    trace = [observation.tobytes(), repr(sorted(info["randomization"].items())).encode()]
    rng = np.random.default_rng(action_seed)
    for _ in range(steps):
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        observation, reward, terminated, truncated, info = env.step(action)
        trace += [observation.tobytes(), repr((reward, terminated, truncated, info)).encode()]
        if terminated or truncated:
            break
    return b"".join(trace)


def lucky(env, episodes, act):
    """Number of unseen episodes that a controller that sees nothing passes."""
    passed = 0
    for seed in range(TEST_SEED_START, TEST_SEED_START + episodes):
        env.reset(seed=seed)
        terminated = truncated = False
        while not (terminated or truncated):
            _, _, terminated, truncated, info = env.step(act(env.action_space.shape))
        passed += info["is_success"]
    return passed


@pytest.mark.parametrize(("name", "goal_env"), VARIANTS)
def test_checkers_pass_without_a_warning(name, goal_env):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(registry.resolve(name), goal_env=goal_env, render_mode="rgb_array")
        check_gymnasium(env.unwrapped, skip_render_check=False)
        check_sb3(env.unwrapped, warn=True)
        env.close()


def test_gymnasium_finds_every_id():
    assert physai_envs
    for task in registry.tasks():
        env = gym.make(task.full_id)
        env.reset(seed=0)
        env.close()


def test_episode_is_the_same_after_any_history(env):
    first = play(env, 11, 40)
    play(env, 12, 25, action_seed=3, options={"difficulty": 0.3})
    play(env, 13, 90, action_seed=4)
    env.reset(seed=14)
    assert play(env, 11, 40) == first


def test_episode_is_the_same_in_another_process(env):
    name = registry.slug(env.task.id)
    code = f"""
import hashlib, sys
sys.path.insert(0, {str(__import__("pathlib").Path(__file__).parent)!r})
from test_tasks import play
from physai_envs import registry
other = registry.make("reach").unwrapped
play(other, 3, 20)
env = registry.make({name!r}).unwrapped
play(env, 21, 15)
print(hashlib.sha256(play(env, 1000007, 40)).hexdigest())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    import hashlib

    assert result.stdout.strip() == hashlib.sha256(play(env, 1_000_007, 40)).hexdigest()


def test_a_new_environment_gives_the_same_episode(env):
    trace = play(env, 31, 40)
    fresh = registry.make(registry.slug(env.task.id)).unwrapped
    assert play(fresh, 31, 40) == trace
    fresh.close()


def test_looking_does_not_change_the_physics(env):
    visual = registry.make(registry.slug(env.task.id), visual=True).unwrapped
    assert play(visual, 5, 30) == play(env, 5, 30)
    picture = visual.render()
    assert picture.shape == (480, 640, 3)
    assert picture.std() > 10  # not an empty scene
    visual.close()


def test_seeds_without_a_seed_are_training_seeds(env):
    for _ in range(20):
        _, info = env.reset()
        assert 0 <= info["seed"] < TEST_SEED_START


def test_observations_are_readings_within_limits_and_not_shared(env):
    observation, _ = env.reset(seed=0)
    kept, copy = observation, observation.copy()
    seen = [observation]
    rng = np.random.default_rng(0)
    for _ in range(60):
        observation, _, terminated, truncated, _ = env.step(rng.uniform(-1, 1, env.action_space.shape))
        assert observation.dtype == np.float32
        assert env.observation_space.contains(observation)
        seen.append(observation)
        if terminated or truncated:
            observation, _ = env.reset()
            seen.append(observation)
    np.testing.assert_array_equal(kept, copy)
    for _ in range(8):  # what an episode holds constant differs between episodes
        seen.append(env.reset()[0])
    ended = env.task.expert is None
    while not ended:  # what random actions never reach
        observation, _, terminated, truncated, _ = env.step(env.expert_action())
        seen.append(observation)
        ended = terminated or truncated
    constant = np.ptp(np.array(seen), axis=0) == 0
    names = [n for n, part in env.policy_spec.observation_slices.items() if constant[part].any()]
    assert not names, f"constant: {names}"


def test_reward_is_the_sum_of_its_bounded_terms(env):
    env.reset(seed=1)
    rng = np.random.default_rng(1)
    for _ in range(80):
        _, reward, terminated, truncated, info = env.step(rng.uniform(-1, 1, env.action_space.shape))
        terms = info["reward_terms"]
        assert reward == pytest.approx(sum(t.weight * terms[t.name] for t in env.task.rewards), abs=1e-9)
        for term in env.task.rewards:
            assert term.low <= terms[term.name] <= term.high, term.name
        assert not (terminated and truncated)
        if terminated or truncated:
            assert set(info["metrics"]) == {metric.name for metric in env.task.metrics}
            env.reset()


def test_reading_twice_changes_nothing(env):
    env.reset(seed=2)
    env.step(np.zeros(env.action_space.shape, np.float32))
    scene = env.scene
    for term in (*env.task.rewards, *env.task.observations):
        assert np.array_equal(term.function(scene), term.function(scene)), term.name
    assert env.task.success(scene) == env.task.success(scene)


def test_resets_differ_and_difficulty_matters(env):
    assert not np.array_equal(env.reset(seed=1)[0], env.reset(seed=2)[0])
    easy, hard = (env.reset(seed=1, options={"difficulty": d})[0] for d in (0.0, 1.0))
    assert not np.array_equal(easy, hard)


def test_three_declared_randomisations_are_drawn_and_reported(env):
    assert len(env.task.randomization) >= 3
    draws = [env.reset(seed=s)[1]["randomization"] for s in range(20)]
    for term in env.task.randomization:
        values = [draw[term.name] for draw in draws]
        assert min(values) >= term.low and max(values) <= term.high
        assert max(values) - min(values) > 0.5 * (term.high - term.low)


def test_at_least_three_randomisations_change_what_is_seen_or_what_happens(env):
    """Between the limits of its range, some episode that is else the same differs: the expert's, or one of chance."""

    def steps(seed, term, value):
        expert = env.task.expert is not None and seed % 2 == 0
        options = {"randomization": {term.name: value}, "difficulty": float(expert)}  # chance begins near the goal
        observation, _ = env.reset(seed=seed, options=options)
        rng, done = np.random.default_rng(seed), False
        yield observation.tobytes()
        while not done:
            chance = rng.uniform(-1, 1, env.action_space.shape)
            observation, reward, terminated, truncated, _ = env.step(env.expert_action() if expert else chance)
            yield observation.tobytes(), reward
            done = terminated or truncated

    def matters(seed, term):
        low = list(steps(seed, term, term.low))
        return any(a != b for a, b in zip(low, steps(seed, term, term.high), strict=False))

    idle = {term.name for term in env.task.randomization if not any(matters(seed, term) for seed in range(10))}
    assert len(env.task.randomization) - len(idle) >= 3, idle


def test_doing_nothing_and_chance_do_not_succeed(env):
    rng = np.random.default_rng(0)
    assert lucky(env, 2, np.zeros) == 0
    assert lucky(env, 4, lambda shape: rng.uniform(-1, 1, shape)) == 0


@pytest.mark.slow
def test_of_200_episodes_doing_nothing_passes_none_and_chance_under_2_percent(env):
    rng = np.random.default_rng(0)
    assert lucky(env, EPISODES, np.zeros) == 0
    passed = lucky(env, EPISODES, lambda shape: rng.uniform(-1, 1, shape))
    assert wilson_interval(passed, EPISODES)[1] < CHANCE


def test_2000_resets_do_not_grow_the_process(env):
    for seed in range(200):
        env.reset(seed=seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(2000):
        env.reset(seed=seed)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024  # KiB


@pytest.mark.parametrize(("name", "goal_env"), VARIANTS)
def test_the_list_of_tasks_tells_spaces_rate_length_and_success(name, goal_env):
    env = gym.make(registry.resolve(name), goal_env=goal_env).unwrapped
    told = catalog.describe(env.task)
    assert (told["id"], told["suite"]) == (env.task.full_id, env.task.suite)
    assert (told["control_hz"], told["episode_s"]) == (
        env.metadata["render_fps"],
        env.task.max_steps / env.task.control_hz,
    )
    assert len(told["success"]) > 20  # words
    space = env.observation_space
    parts = {key: part.shape for key, part in space.items()} if goal_env else {"observation": space.shape}
    shapes = told["spaces"]["goal_env"] if goal_env else told["spaces"]
    assert {"action": env.action_space.shape} | parts == {k: tuple(v) for k, v in shapes.items() if k != "goal_env"}
    env.close()


def test_spec_survives_json(env):
    import json

    assert PolicySpec.from_dict(json.loads(json.dumps(env.policy_spec.to_dict()))) == env.policy_spec


@pytest.mark.parametrize("name", GOAL_NAMES)
def test_goal_variant_rewards_in_batches_and_hides_the_goal(name):
    env = registry.make(name, goal_env=True).unwrapped
    observation, _ = env.reset(seed=0)
    assert not {t.name for t in env.policy_spec.observations} & {t.name for t in env.task.observations if t.goal}
    achieved = np.stack([observation["desired_goal"], observation["achieved_goal"]])
    desired = np.stack([observation["desired_goal"]] * 2)
    np.testing.assert_array_equal(env.compute_reward(achieved, desired, {}), [0.0, -1.0])
    env.close()
