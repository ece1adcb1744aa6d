"""What the one environment class promises beyond the rules for every task: sensors, delays, options, errors."""

from dataclasses import replace

import numpy as np
import pytest

from physai.errors import ActionError, ConfigError, SimulationError, TaskError
from physai_envs import registry
from physai_envs.env import SMALL, SensorModel, TaskEnv
from physai_envs.geometry import distance
from physai_envs.task import Observation


@pytest.fixture(scope="module")
def reach():
    return registry.task("reach")


def readings(values, steps=4000, **noise):
    """Readings of one constant observation of four elements at 20 Hz."""
    task = registry.task("reach")
    term = replace(task.observations[0].spec(), shape=(4,), low=(-10.0,) * 4, high=(10.0,) * 4, **noise)
    spec = replace(task.policy_spec(), observations=(term,))
    model = SensorModel(spec)
    model.reset(np.random.default_rng(0))
    return np.array([model.apply(np.array(values, dtype=float)) for _ in range(steps)])


def test_noise_has_the_declared_spread():
    assert readings([1, 2, 3, 4], noise_std=0.2).std(axis=0) == pytest.approx(0.2, rel=0.05)


def test_bias_is_constant_within_an_episode():
    seen = readings([1, 2, 3, 4], steps=5, bias_std=0.2)
    assert np.ptp(seen, axis=0) == pytest.approx(0.0)
    assert not np.allclose(seen[0], [1, 2, 3, 4])


def test_dropout_reads_the_upper_limit_as_often_as_declared():
    seen = readings([1, 2, 3, 4], dropout=0.1)
    assert (seen == 10.0).mean() == pytest.approx(0.1, rel=0.1)


def test_readings_stay_within_limits():
    assert readings([9.99] * 4, noise_std=1.0).max() == 10.0


def test_delayed_observation_is_that_much_older(reach):
    observations = tuple(replace(o, noise_std=0.0) for o in reach.observations)
    late = (*observations[:2], replace(observations[2], delay_s=0.1), *observations[3:])
    now, then = (TaskEnv(replace(reach, observations=o)) for o in (observations, late))
    part = now.policy_spec.observation_slices["tip_position"]
    seen_now, seen_then = [now.reset(seed=1)[0][part]], [then.reset(seed=1)[0][part]]
    for i in range(8):
        action = [0.5, np.sin(i), -0.2]
        seen_now.append(now.step(action)[0][part])
        seen_then.append(then.step(action)[0][part])
    np.testing.assert_array_equal(seen_then[2:], seen_now[:-2])  # 0.1 s at 20 Hz is two steps
    np.testing.assert_array_equal(seen_then[:3], [seen_now[0]] * 3)
    now.close()
    then.close()


def test_action_delay_moves_the_robot_later(reach):
    env = TaskEnv(replace(reach, action_delay_s=0.1))
    env.reset(seed=1, options={"randomization": {"command_delay": 0.0}})
    start = env.scene.robot.tip_position
    for moved in (False, False, True):
        env.step([1.0, 0.0, 0.0])
        assert (distance(env.scene.robot.tip_position, start) > 0.002) is moved
    env.close()


def in_force(reach, monkeypatch, delay_s, steps=40):
    """Which of the commands 0, 1, 2, ... is in force in each step, with a delay of so much on average; -1: none yet."""
    env, got = TaskEnv(reach), []
    env.reset(seed=3, options={"randomization": {"command_delay": delay_s}})
    monkeypatch.setattr(env, "_action_map", lambda action: [got.append(round(action[0] * 1000) - 1)] * 3)
    monkeypatch.setattr(env, "_controllers", [])
    for i in range(steps):
        env.step([(i + 1) / 1000, 0.0, 0.0])
    env.close()
    return np.array(got)


@pytest.mark.parametrize("periods", [0, 1, 2])
def test_a_command_is_late_by_whole_periods(reach, monkeypatch, periods):
    np.testing.assert_array_equal(in_force(reach, monkeypatch, periods * 0.05), np.maximum(np.arange(40) - periods, -1))


@pytest.mark.parametrize("delay_s", [0.015, 0.07])
def test_between_periods_chance_rounds_and_the_newest_counts(reach, monkeypatch, delay_s):
    got = in_force(reach, monkeypatch, delay_s, steps=400)
    late = (np.arange(400) - got)[3:]
    assert set(late) == {int(delay_s / 0.05), int(delay_s / 0.05) + 1}
    assert late.mean() == pytest.approx(delay_s / 0.05, abs=0.1)
    assert (np.diff(got) >= 0).all()  # never back to an older one
    np.testing.assert_array_equal(in_force(reach, monkeypatch, delay_s, steps=400), got)


def test_success_must_hold(reach):
    env = TaskEnv(reach)
    env.reset(seed=0, options={"difficulty": 0.0})  # the goal is where the tip is
    held = [env.step([0, 0, 0])[2] for _ in range(4)]
    assert held == [False, False, False, True]  # 0.2 s at 20 Hz
    env.close()


@pytest.mark.parametrize(
    ("action", "message"),
    [([np.nan, 0, 0], "tip_velocity is not finite"), ([0, 0], r"shape \(2,\)"), ([np.inf, 0, 0], "not finite")],
)
def test_a_bad_action_is_refused_and_nothing_moves(reach, action, message):
    env = TaskEnv(reach)
    env.reset(seed=0)
    before = env.scene.robot.joint_positions
    with pytest.raises(ActionError, match=message):
        env.step(action)
    env.scene.world.touch()
    assert env.scene.robot.joint_positions == before
    env.step([0, 0, 0])
    env.close()


def test_a_diverged_simulation_says_which_observation(reach):
    broken = replace(reach.observations[4], function=lambda s: (np.nan, 0.0, 0.0))
    env = TaskEnv(replace(reach, observations=(*reach.observations[:4], broken)))
    with pytest.raises(SimulationError, match="tip_to_goal is not finite"):
        env.reset(seed=0)
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"dificulty": 1.0}, "did you mean 'difficulty'"), ({"difficulty": 2.0}, "must lie between 0")],
)
def test_a_wrong_reset_option_is_explained(reach, options, message):
    env = TaskEnv(reach)
    with pytest.raises(ConfigError, match=message):
        env.reset(options=options)
    env.close()


def test_step_before_reset_is_explained(reach):
    env = TaskEnv(reach)
    with pytest.raises(ActionError, match="call reset"):
        env.step([0, 0, 0])
    env.close()


def test_times_must_divide_and_the_message_prints_both(reach):
    with pytest.raises(TaskError, match=r"control period 0\.0333333 s is 4\.000 steps|must be a whole number"):
        replace(reach, control_hz=32)
    with pytest.raises(TaskError, match=r"delay of observation 'joint_positions' 0\.03 s is 0\.600 steps"):
        replace(reach, observations=(replace(reach.observations[0], delay_s=0.03), *reach.observations[1:]))


def test_two_terms_of_one_name_are_refused(reach):
    with pytest.raises(TaskError, match="two reward terms are named 'near'"):
        replace(reach, rewards=(*reach.rewards, reach.rewards[0]))


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        ((3,), (1.0, 2.0), r"'odd' returns shape \(2,\); return 3 numbers"),
        ((3,), 1.0, r"'odd' returns shape \(\); return 3 numbers"),
        ((1,), (1.0,), r"'odd' returns shape \(1,\); return a plain number"),
    ],
)
def test_a_term_that_is_not_what_it_declares_is_named(reach, shape, value, message):
    odd = Observation("odd", lambda s: value, shape, "1", -1.0, 1.0)
    env = TaskEnv(replace(reach, observations=(*reach.observations, odd)))
    with pytest.raises(TaskError, match=message):
        env.reset(seed=0)
    env.close()


def test_large_and_small_terms_keep_their_places(reach):
    large = np.linspace(-1.0, 1.0, SMALL + 1)
    terms = (
        Observation("first", lambda s: 0.5, (1,), "1", -1.0, 1.0),
        Observation("large", lambda s: large, (SMALL + 1,), "1", -1.0, 1.0),
        Observation("last", lambda s: np.array((0.1, 0.2)), (2,), "1", -1.0, 1.0),
    )
    env = TaskEnv(replace(reach, observations=terms, goal=None))
    observation, _ = env.reset(seed=0)
    assert observation == pytest.approx([0.5, *large, 0.1, 0.2])
    env.close()


def test_a_task_without_a_goal_has_no_goal_variant():
    with pytest.raises(ConfigError, match="declares no goal"):
        TaskEnv(registry.task("peg_insertion"), goal_env=True)
