"""RecurrentPPO on the fleet does what sb3-contrib does alone, and its memory survives every interruption."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import toys
from evaluation_policies import edit_manifest
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv
from test_checkpoint import everything
from test_rollout_parity import ARRAYS, OFF, Scheduled, package, parts

from physai.config import RunConfig
from physai.deploy.bundle import load_bundle
from physai.errors import BundleError
from physai.evaluate import evaluate
from physai.evaluate.episodes import play
from physai.export import export
from physai.policy import load_policy
from physai.train import seeding
from physai.train.algorithms.recurrent import BUFFERS, policy_arguments
from physai.train.driver import train
from physai.train.fragment import Job
from physai.train.rollout import RolloutWorker
from physai_envs import registry


@pytest.fixture(autouse=True)
def one_thread():
    """Networks this small take a hundred times as long when threads wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


PLAN = {"name": "recurrent_ppo", "lstm_size": 8, "batch_size": 32, "epochs": 2, "network": [8]}


def values_of(task: str = "toys:Target-v0", **changes: Any) -> dict[str, Any]:
    values = toys.small(task, **changes)
    values["algorithm"] = dict(PLAN)
    return values


@pytest.mark.parametrize("task", ["toys:Target-v0", "CartPole-v1"])
def test_one_group_equals_stock_collect_rollouts_and_train_bit_for_bit(task):
    values = values_of(task, normalizer=OFF, rollout={"groups": 1, "envs_per_group": 2, "steps": 48})
    config = RunConfig.model_validate(values)
    ours, normalizer = parts(config)
    vec = DummyVecEnv([lambda i=i: Scheduled(config, i) for i in range(2)])
    theirs = RecurrentPPO(
        "MlpLstmPolicy", vec, n_steps=48, batch_size=32, n_epochs=2, device="cpu",
        policy_kwargs=policy_arguments(config.algorithm, vec.action_space),
    )  # fmt: skip
    theirs.policy.load_state_dict(ours.policy.state_dict())
    theirs._setup_learn(10_000)
    worker, state = RolloutWorker(config), None
    for iteration in range(3):
        fragment = worker.sample(package(ours, normalizer, iteration), Job(0, iteration, state))
        state = fragment.state
        ours.ingest([fragment])
        torch.manual_seed(seeding.torch_seed(config.seed, seeding.NOISE, 0, iteration))
        theirs.collect_rollouts(theirs.env, theirs._init_callback(None), theirs.rollout_buffer, 48)
        for name in (*ARRAYS, *BUFFERS):
            left, right = getattr(ours.rollout_buffer, name), getattr(theirs.rollout_buffer, name)
            np.testing.assert_array_equal(left, right, err_msg=name)
        assert np.abs(fragment.memory).max() > 0 or iteration == 0
        for model in (ours, theirs):
            seeding.seed_learner(iteration)
            model.train()
        for name, value in ours.policy.state_dict().items():
            torch.testing.assert_close(value, theirs.policy.state_dict()[name], rtol=0, atol=0, msg=name)
    assert len(fragment.episodes) > 0


def test_a_group_that_moves_to_another_worker_takes_its_memory_along():
    config = RunConfig.model_validate(values_of(rollout={"steps": 40}))
    model, normalizer = parts(config)
    stays, moves = RolloutWorker(config), RolloutWorker(config)
    first = stays.sample(package(model, normalizer), Job(0, 0, None))
    here = stays.sample(package(model, normalizer, 2), Job(0, 1, first.state))
    there = moves.sample(package(model, normalizer, 2), Job(0, 1, first.state))
    assert there.rebuilt > here.rebuilt == 0
    for name in ("observations", "actions", "values", "log_probs", "last_values", "memory"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name), err_msg=name)
    np.testing.assert_array_equal(here.memory, np.stack([env.memory for env in first.state]))


def test_a_continued_run_has_the_bits_of_an_undisturbed_one(tmp_path):
    whole = toys.learn(values_of(storage=str(tmp_path / "whole")))
    parts_ = values_of(storage=str(tmp_path / "parts"))
    stopped = toys.learn(parts_, stop_after=3)
    continued = toys.learn(parts_)
    assert stopped.outcome.stopped and not continued.outcome.stopped
    assert everything(continued) == everything(whole) != everything(stopped)


@pytest.mark.ray
def test_the_result_has_the_same_bits_for_two_actors(one_ray, tmp_path):
    values = values_of(storage=str(tmp_path))
    alone = toys.learn({**values, "storage": str(tmp_path / "alone")})
    train(RunConfig.model_validate(values), quiet=True)
    values["stop"]["steps"] = 1  # nothing left to do
    assert everything(toys.learn(values)) == everything(alone)


def episode(policy: Any, seed: int = 1_000_000) -> np.ndarray:
    """The actions of a policy in one episode, in its own range."""
    env, actions = registry.make("toys:Target-v0"), []
    play(env, policy, seed, on_step=lambda step, _: step and actions.append(env.unwrapped.at.copy()))
    return np.array(actions)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    learner = toys.learn(values_of(storage=str(tmp_path_factory.mktemp("run"))))
    return learner.run_folder.path


def test_a_checkpoint_loads_in_sb3_contrib_and_remembers_alike(run):
    newest = max((run / "checkpoints").glob("0*"))
    ours = load_policy(newest)
    theirs = RecurrentPPO.load(newest / "model.zip", device="cpu")
    rows = (np.random.default_rng(0).standard_normal((20, 3)) * [60, 1, 1] + [0, 0, 500]).astype(np.float32)
    state, expected = None, []
    for row in ours.normalize.normalize_obs(rows):
        action, state = theirs.predict(row[None], state, deterministic=True)
        expected.append(action[0])
    np.testing.assert_allclose(ours.act(rows), expected, atol=1e-6)
    goes_on = ours.act(rows[:1])
    ours.reset()
    begins = ours.act(rows[:1])
    np.testing.assert_allclose(begins[0], expected[0], atol=1e-6)
    assert not np.array_equal(goes_on, begins)


def test_an_exported_policy_remembers_and_forgets_as_the_policy_does(run, tmp_path):
    bundle = load_bundle(export(run, tmp_path / "bundle"))
    memory = [(part["name"], part["shape"]) for part in bundle.manifest["model"]["memory"]]
    assert memory == [("hidden", [1, 1, 8]), ("cell", [1, 1, 8])]
    names = [part["name"] for part in bundle.manifest["model"]["outputs"]]
    assert names == ["command", "next_hidden", "next_cell"] and bundle.manifest["parity"]["max_abs_error"] > 0.0
    exported, policy = load_policy(tmp_path / "bundle"), load_policy(run)
    first = episode(exported)
    np.testing.assert_allclose(first, episode(policy), atol=1e-4)
    np.testing.assert_array_equal(first, episode(exported))  # nothing is left of the episode before
    returns = [record.episode_return for record in evaluate(run, episodes=4, workers=1, progress=False).records]
    again = evaluate(tmp_path / "bundle", episodes=4, workers=2, progress=False).records
    np.testing.assert_allclose([record.episode_return for record in again], returns, atol=1e-4)


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        (
            [{"name": "hidden", "shape": [1, 1, 8], "dtype": "float32"}],
            "initial_state.npz holds",
        ),
        ([{"name": "hidden", "shape": [1, 1, 10**9], "dtype": "float32"}], "must be at most 65536"),
        (3, "memory is 3; it must be of type array"),
    ],
)
def test_a_manifest_that_says_another_memory_is_refused(run, tmp_path, memory, said):
    out = export(run, tmp_path / "bundle")
    edit_manifest(out, lambda manifest: manifest["model"].update(memory=memory))
    with pytest.raises(BundleError, match=said):
        load_bundle(out)


class Recall(gym.Env):
    """Shows a sign in the first step alone, and pays in the last for the action that it asked for."""

    def __init__(self, render_mode: str | None = None) -> None:
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sign, self.t = int(self.np_random.integers(2)), 0
        return np.array([2.0 * self.sign - 1.0, 0.0], np.float32), {}

    def step(self, action):
        self.t += 1
        done = self.t == 4
        right = bool(done and action == self.sign)
        return np.array([0.0, self.t / 4], np.float32), float(right), done, False, {"is_success": right}


toys.register("Recall-v0", Recall)


@pytest.mark.parametrize(("name", "learns"), [("recurrent_ppo", True), ("ppo", False)])
def test_a_task_that_needs_memory_is_learnt_with_it_alone(tmp_path, name, learns):
    values = toys.small(
        "test_recurrent:Recall-v0", storage=str(tmp_path), rollout={"envs_per_group": 8, "steps": 64}, normalizer=OFF,
        stop={"steps": 30_000, "success": 0.95, "episodes": 40, "every_steps": 4096}, curriculum={"easy_fraction": 0},
        checkpoint={"every_iterations": 1000},
    )  # fmt: skip
    own = {"lstm_size": 16} if learns else {}
    values["algorithm"] = {
        "name": name, "learning_rate": 3e-3, "batch_size": 256, "epochs": 5, "gamma": 0.9, "network": [16], **own,
    }  # fmt: skip
    learner = toys.learn(values)
    assert learner.outcome.met is learns, learner.best
