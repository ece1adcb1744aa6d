"""The learner's loop, without Ray: when it measures, when it stops, what it hands on, what it refuses to go on with."""

from __future__ import annotations

import json

import numpy as np
import pytest
import toys

from physai.config import RunConfig
from physai.errors import ClusterError, ConfigError, SimulationError
from physai.policy import load_policy
from physai.train.algorithms.ppo import FleetPPO, build
from physai.train.checkpoint import CheckpointStore
from physai.train.cluster import connected
from physai.train.driver import inspect
from physai.train.outcome import LearningError


def test_the_run_stops_when_the_bar_is_met_on_held_out_episodes_and_hands_on_that_policy(tmp_path):
    values = toys.small(
        storage=str(tmp_path),
        warm_start={"rounds": 3, "episodes": 40, "epochs": 60, "beta": 0.5},
        algorithm={"network": [32, 32], "log_std_init": -1.0},
        stop={"success": 0.5, "episodes": 30, "steps": 100_000},
    )
    learner = toys.learn(values)
    run = tmp_path / "target" / "run"
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    assert learner.outcome.met is True and best["met"] is True and best["success"] >= 0.5
    assert best["checkpoint"] == "000000" and learner.iteration == 0  # the clone alone meets the bar
    assert [line.partition(":")[0] for line in learner.board.lines] == [
        f"warm start, round {n} of 3" for n in (1, 2, 3)
    ]
    assert "40 of 40 succeeded with 100% expert" in learner.board.lines[0] and "25% expert" in learner.board.lines[2]
    assert 120 <= learner.steps <= 3 * 40 * 12  # demonstrations count
    took = json.loads((run / "warm_start.json").read_text())
    assert took["steps"] == learner.steps and 0 < took["seconds"] < 600
    policy = load_policy(run)
    towards = policy.act(np.array([[50, 0, 500], [-50, 0, 500]], np.float32))
    assert towards[0, 0] < -0.5 and towards[1, 0] > 0.5


def test_a_run_that_ends_below_the_bar_says_so(tmp_path):
    learner = toys.learn(toys.small(storage=str(tmp_path), stop={"success": 1.0, "steps": 128}))
    assert learner.outcome.met is False
    assert learner.best["success"] < 1.0 and learner.best["bar"] == 1.0


def test_a_continued_run_does_not_start_from_the_expert_again(tmp_path):
    values = toys.small(storage=str(tmp_path), warm_start={"rounds": 1, "episodes": 4, "epochs": 1})
    first = toys.learn(values, stop_after=1)
    again = toys.learn(values)
    assert [line for line in again.board.lines if "warm start" in line] == []
    whole = toys.learn({**values, "storage": str(tmp_path / "whole")})
    for name, value in whole.model.weights().items():
        np.testing.assert_array_equal(value, again.model.weights()[name])
    assert first.steps < again.steps == whole.steps


def test_while_values_are_warmed_up_the_policy_stays_as_it_was_cloned(tmp_path):
    values = toys.small(storage=str(tmp_path), algorithm={"value_warmup_iterations": 2})
    before = build(RunConfig.model_validate(values), *spaces(values)).weights()
    after = toys.learn(values, stop_after=3).model.weights()  # the first iteration is for the statistics alone
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if "value_net" in name}
    later = toys.learn(values, stop_after=4).model.weights()
    assert not np.array_equal(after["action_net.weight"], later["action_net.weight"])
    assert not np.array_equal(after["log_std"], later["log_std"])


def spaces(values):
    interface = inspect(RunConfig.model_validate(values))
    return interface.observation_space, interface.action_space


def test_expert_and_choices_are_refused_before_anything_starts():
    with pytest.raises(ConfigError, match=r"CartPole-v1 has no scripted expert .* remove warm_start"):
        inspect(RunConfig.model_validate(toys.small("CartPole-v1", warm_start={})))


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_checkpoint(tmp_path):
    values = toys.small("toys:Explosive-v0", storage=str(tmp_path), normalizer={"rewards": False})
    with np.errstate(all="ignore"), pytest.raises(LearningError, match="checkpoint 000001 is from before"):
        toys.learn(values)
    assert CheckpointStore(tmp_path / "explosive" / "run" / "checkpoints", 3).names() == ["000001"]


def test_an_environment_that_fails_names_the_episode(tmp_path, monkeypatch):
    def fail(self, action):
        raise ZeroDivisionError("gear ratio")

    monkeypatch.setattr(toys.Target, "step", fail)
    with pytest.raises(SimulationError, match=r"failed: gear ratio \(group 0, environment 0, episode with seed \d+"):
        toys.learn(toys.small(storage=str(tmp_path)))


def test_fragments_of_another_size_are_refused():
    config = RunConfig.model_validate(toys.small())
    model: FleetPPO = build(config, *spaces(toys.small()))
    with pytest.raises(ValueError, match="the buffer takes 16 steps and 4 environments"):
        model.collect_rollouts(model.env, model._init_callback(None), model.rollout_buffer, 16)


def test_the_learning_rate_falls_over_the_run(tmp_path):
    values = toys.small(storage=str(tmp_path), algorithm={"learning_rate": 1e-3, "learning_rate_final": 1e-4})
    learner = toys.learn(values)
    rate = learner.model.policy.optimizer.param_groups[0]["lr"]
    assert rate == pytest.approx(1e-4)


def test_ppo_learns_the_toy(tmp_path):
    """From about no success to nearly always, in a few seconds: all parts pull in the right direction."""
    values = toys.small(
        storage=str(tmp_path), algorithm={"batch_size": 128, "epochs": 5, "network": [32], "learning_rate": 3e-3},
        rollout={"envs_per_group": 8, "steps": 64}, stop={"steps": 60_000, "success": 0.9, "episodes": 50,
              "every_steps": 10_000},
               checkpoint={"every_iterations": 1000},
    )  # fmt: skip
    learner = toys.learn(values)
    assert learner.outcome.met, learner.best


def test_a_cluster_that_does_not_answer_is_one_sentence_at_once():
    with (
        pytest.raises(ClusterError, match=r"no Ray cluster answers at '127.0.0.1:1' .*leave out --address"),
        connected("127.0.0.1:1"),
    ):
        pass


def test_half_a_warm_start_is_begun_anew(tmp_path, monkeypatch):
    values = toys.small(storage=str(tmp_path), warm_start={"rounds": 2, "episodes": 4, "epochs": 1})
    with monkeypatch.context() as patch:
        patch.setattr(toys, "stop_on", "round 2")
        stopped = toys.learn(values)
    assert stopped.outcome.stopped and stopped.run_folder.checkpoints.names() == []
    whole = toys.learn({**values, "storage": str(tmp_path / "whole")})
    for name, value in toys.learn(values).model.weights().items():
        np.testing.assert_array_equal(value, whole.model.weights()[name])


def test_a_run_that_is_stopped_while_it_is_measured_measures_when_it_goes_on(tmp_path, monkeypatch):
    values = toys.small(storage=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(toys, "stop_on", "measuring")
        stopped = toys.learn(values)
    assert stopped.outcome.stopped and stopped.iteration == 2 and stopped.best is None
    continued = toys.learn(values, stop_after=3)
    assert continued.measured_at == stopped.steps < continued.steps
    assert continued.best["steps"] == stopped.steps
