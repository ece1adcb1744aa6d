"""A group collects what stable-baselines3 itself would have: same noise, same buffer, bit for bit."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from physai.config import RunConfig
from physai.train import seeding
from physai.train.algorithms.registry import build
from physai.train.behaviour import Package
from physai.train.normalizer import RunningNormalizer
from physai.train.rollout import Job, RolloutWorker, digest
from physai_envs import registry

ARRAYS = ("observations", "actions", "rewards", "episode_starts", "values", "log_probs", "advantages", "returns")


def configure(task: str, **changes) -> RunConfig:
    rollout = {"groups": 1, "envs_per_group": 3, "steps": 50, **changes.pop("rollout", {})}
    values = {"seed": 7, "algorithm": {"batch_size": 25, "network": [16, 16]}, "rollout": rollout, **changes}
    return RunConfig.model_validate({"task": task, **values})


OFF = {"observations": False, "rewards": False}


class Scheduled(gym.Wrapper):
    """Begins episode after episode as the group of physai does, also where nobody gives a seed."""

    def __init__(self, config: RunConfig, index: int):
        super().__init__(registry.make(config.task))
        self.config, self.index, self.episode = config, index, 0

    def reset(self, **_):
        seed, options = seeding.episode(self.config, seeding.EPISODES, 0, self.index, self.episode)
        self.episode += 1
        return self.env.reset(**seeding.reset_arguments(seed, options))


def package(model, normalizer, version=1):
    return Package(version, "test", model.weights(), normalizer.freeze())


def parts(config):
    env = registry.make(config.task)
    model = build(config, env.observation_space, env.action_space)
    return model, RunningNormalizer(config.normalizer, config.algorithm.gamma, env.observation_space.shape)


def stock(config: RunConfig, weights) -> PPO:
    """Plain PPO, whose environments play the same episodes and whose policy has the same weights."""
    n = config.rollout.envs_per_group
    vec = DummyVecEnv([lambda i=i: Scheduled(config, i) for i in range(n)])
    model = PPO(
        "MlpPolicy", vec, n_steps=config.rollout.steps, batch_size=25, device="cpu",
        policy_kwargs={"net_arch": {"pi": [16, 16], "vf": [16, 16]}},
    )  # fmt: skip
    model.policy.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    model._setup_learn(10_000)
    return model


@pytest.mark.parametrize("task", ["toys:Target-v0", "CartPole-v1", "Pendulum-v1"])
def test_one_group_equals_stock_collect_rollouts_bit_for_bit(task):
    config = configure(task, normalizer=OFF, rollout={"steps": 250})
    ours, normalizer = parts(config)
    worker, theirs = RolloutWorker(config), stock(config, ours.weights())
    state = None
    for iteration in range(3):
        fragment = worker.sample(package(ours, normalizer), Job(0, iteration, state))
        state = fragment.state
        ours.fragments = [fragment]
        callback = ours._init_callback(None)
        ours.collect_rollouts(ours.env, callback, ours.rollout_buffer, ours.n_steps)
        torch.manual_seed(seeding.torch_seed(config.seed, seeding.NOISE, 0, iteration))
        theirs.collect_rollouts(theirs.env, theirs._init_callback(None), theirs.rollout_buffer, theirs.n_steps)
        for name in ARRAYS:
            left, right = getattr(ours.rollout_buffer, name), getattr(theirs.rollout_buffer, name)
            assert left.dtype == right.dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)
        assert fragment.rewards.shape == (250, 3)
        assert len(fragment.episodes) > 0


def test_statistics_and_rewards_are_those_of_vecnormalize():
    """VecNormalize updates while it steps; frozen and merged afterwards, the totals must be the same."""
    config = configure("toys:Target-v0")
    model, normalizer = parts(config)
    worker = RolloutWorker(config)
    fragment = worker.sample(package(model, normalizer), Job(0, 0, None))
    normalizer.merge([fragment.observation_moments], [fragment.return_moments])
    vec = VecNormalize(DummyVecEnv([lambda i=i: Scheduled(config, i) for i in range(3)]), gamma=config.algorithm.gamma)
    vec.reset()
    sent = np.clip(fragment.actions, -1, 1)
    for t in range(config.rollout.steps - 1):
        vec.step(sent[t])
    moments = normalizer.observation_moments
    np.testing.assert_allclose(moments.mean, vec.obs_rms.mean, rtol=1e-6)
    np.testing.assert_allclose(moments.var, vec.obs_rms.var, rtol=1e-6)
    assert moments.count == pytest.approx(vec.obs_rms.count)
    vec.step(sent[-1])  # observations of the last step belong to the next fragment, its reward to this one
    np.testing.assert_allclose(normalizer.return_moments.var, vec.ret_rms.var, rtol=1e-6)
    frozen = normalizer.freeze()
    raw = np.array([[120.0, -0.5, 400.0]], np.float32)
    vec.obs_rms, vec.ret_rms = normalizer.observation_moments, normalizer.return_moments
    np.testing.assert_array_equal(frozen.observations(raw), vec.normalize_obs(raw))
    rewards = np.array([0.25, 1e6], np.float32)
    np.testing.assert_array_equal(frozen.rewards(rewards), vec.normalize_reward(rewards))


def test_a_group_that_moves_to_another_worker_goes_on_bit_for_bit():
    config = configure("toys:Target-v0", curriculum={"easy_fraction": 0.5}, rollout={"steps": 25})
    model, normalizer = parts(config)
    stays, moves = RolloutWorker(config), RolloutWorker(config)
    first = stays.sample(package(model, normalizer), Job(0, 0, None))
    assert any(len(env.actions) for env in first.state)  # somebody is in the middle of an episode
    here = stays.sample(package(model, normalizer, 2), Job(0, 1, first.state))
    there = moves.sample(package(model, normalizer, 2), Job(0, 1, first.state))
    assert here.rebuilt == 0 and there.rebuilt == sum(len(env.actions) for env in first.state)
    assert there.reproducible
    for name in ("observations", "actions", "rewards", "values", "log_probs", "last_values"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
    assert digest(here.state) == digest(there.state)
    assert here.episodes == there.episodes
    np.testing.assert_array_equal(here.return_moments.mean, there.return_moments.mean)


def test_training_and_held_out_seeds_never_meet():
    config = configure("toys:Target-v0")
    drawn = {
        seeding.episode(config, seeding.EPISODES, g, e, n)[0] for g in range(3) for e in range(4) for n in range(50)
    }
    held_out = seeding.validation_seeds(config)
    assert len(set(held_out)) == config.stop.episodes
    assert max(drawn) < 900_000 <= min(held_out) and max(held_out) < 1_000_000


def test_easy_fraction_is_the_share_of_easy_episodes():
    config = configure("toys:Target-v0", curriculum={"easy_fraction": 0.25}, reset_options={"wind": 2})
    drawn = [seeding.episode(config, seeding.EPISODES, 0, 0, n)[1] for n in range(2000)]
    easy = [options["difficulty"] for options in drawn if options["difficulty"] < 1.0]
    assert len(easy) / len(drawn) == pytest.approx(0.25, abs=0.04)
    assert np.mean(easy) == pytest.approx(0.5, abs=0.05)
    assert all(options["wind"] == 2 for options in drawn)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("toys:Target-v0", {}),
        ("toys:Target-v0", {"target_kl": 0.01}),
        ("toys:Target-v0", {"activation": "elu", "network": [16]}),
        ("CartPole-v1", {}),
        ("CartPole-v1", {"activation": "relu"}),
    ],
)
def test_the_update_is_that_of_stock_ppo(task, changes):
    algorithm = {"batch_size": 25, "network": [16, 16], "epochs": 3, "entropy": 0.01, "learning_rate": 3e-3, **changes}
    config = configure(task, algorithm=algorithm)
    model, normalizer = parts(config)
    model.fragments = [RolloutWorker(config).sample(package(model, normalizer), Job(0, 0, None))]
    model.collect_rollouts(model.env, model._init_callback(None), model.rollout_buffer, model.n_steps)
    before = model.weights()
    logs, after = [], []
    for train in (model.train, lambda: PPO.train(model)):
        model.policy.load_state_dict({name: torch.from_numpy(value) for name, value in before.items()})
        model.policy.optimizer.state.clear()
        model._n_updates, model.rollout_buffer.pos, model.rollout_buffer.full = 0, config.rollout.steps, True
        seeding.seed_learner(1)
        train()
        logs.append(dict(model.logger.name_to_value))
        after.append(model.weights())
    for name, value in before.items():
        np.testing.assert_allclose(after[0][name], after[1][name], atol=2e-6, err_msg=name)
        assert np.abs(after[0][name] - value).max() > 1e-4, name
    assert logs[0].keys() == logs[1].keys()
    for name, value in logs[0].items():
        assert value == pytest.approx(logs[1][name], rel=1e-3, abs=1e-5), name
