"""Names of tasks: every spelling, the nearest to a typo, foreign ids, derived specs."""

import subprocess
import sys
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest

from physai.errors import TaskError
from physai_envs import registry


@pytest.mark.parametrize(
    "name", ["PegInsertion", "peg_insertion", "assembly/peg_insertion", "physai/PegInsertion-v0", "PegInsertion-v0"]
)
def test_every_spelling_is_the_same_task(name):
    assert registry.resolve(name) == "physai/PegInsertion-v0"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("peg_insertoin", "did you mean 'peg_insertion'"),
        ("home/peg_insertion", "no task 'home/peg_insertion'"),
        ("PegInsertion-v7", "no task 'PegInsertion-v7'"),
        ("no.such.module:Thing-v0", "cannot import 'no.such.module'"),
    ],
)
def test_a_wrong_name_is_one_sentence(given, message):
    with pytest.raises(TaskError, match=message):
        registry.resolve(given)


def test_slugs():
    ids = ("physai/AMRNavigation-v0", "physai/PegInsertion-v0", "Pendulum-v1", "toys:SomeEnv-v3")
    assert [registry.slug(i) for i in ids] == ["amr_navigation", "peg_insertion", "pendulum", "some_env"]


def test_nothing_stands_between_a_task_and_its_steps():
    env = registry.make("reach")
    assert env.unwrapped is env
    env.close()


def test_foreign_environments_get_a_spec_from_their_spaces():
    env = registry.make("Pendulum-v1")
    spec = registry.policy_spec(env)
    assert spec.observation_size == 3
    np.testing.assert_array_equal(spec.command_high, [2.0])
    np.testing.assert_array_equal(spec.command_scale, [1.0])
    assert registry.policy_spec(registry.make("CartPole-v1")).discrete


def test_a_foreign_task_with_a_goal_of_its_own_kind_gets_a_spec(monkeypatch):
    env = registry.make("goal_toys:Goals-v0")
    monkeypatch.setattr(env.unwrapped, "task", SimpleNamespace(goal=np.zeros(2)), raising=False)  # as panda-gym has it
    names = [term.name for term in registry.policy_spec(env).observations]
    assert set(names) == {"achieved_goal", "desired_goal", "observation"}


def test_a_foreign_environment_need_not_know_of_rendering():
    class Plain(gym.Env):
        observation_space = action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)

        def __init__(self):
            pass

    gym.register("PlainToy-v0", entry_point=Plain)
    registry.make("PlainToy-v0").close()


def test_a_space_that_is_not_supported_is_named():
    with pytest.raises(TaskError, match="only vectors and pictures"):
        registry.policy_spec(registry.make("FrozenLake-v1"))


def test_importing_the_tasks_starts_no_simulator():
    code = "import physai_envs, sys; assert 'pybullet' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_files_with_one_id_are_refused(monkeypatch):
    monkeypatch.setattr(registry, "_id_of", lambda name: "physai/Same-v0")
    with pytest.raises(TaskError, match="ids must differ"):
        registry.register_all()
