"""A configuration with mistakes is refused whole, each mistake with the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import pytest

import physai_configs
from physai.config import RunConfig
from physai.errors import ConfigError

SHIPPED = sorted(Path(physai_configs.__path__[0]).glob("*.yaml"))


def problems(path: Path | None, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        RunConfig.load(path, overrides)
    return str(raised.value).splitlines()


def test_all_problems_come_at_once_each_with_the_nearest_name(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "taks: Pendulum-v1\n"
        "algorithm: {gama: 0.9, learning_rate: -1, network: [64, zero]}\n"
        "rollout: {max_policy_lag: 3, actors: many}\n"
        "warm_start: {round: 2}\n"
        "stop: 5\n"
    )
    first, *rest = problems(path, "algorithm.epochs=many", "rollout.step=7", "name=../elsewhere")
    assert first == f"{path} has {len(rest)} problems:"
    text = "\n".join(rest)
    for expected in (
        "taks: no such key; did you mean 'task'?",
        "task: missing; it has no default",
        "algorithm.gama: no such key; did you mean 'gamma'?",
        "algorithm.learning_rate: input should be greater than 0, and not -1",
        "algorithm.network.1: input should be a valid integer, unable to parse string as an integer, and not 'zero'",
        "algorithm.epochs: input should be a valid integer, unable to parse string as an integer, and not 'many'",
        "rollout.max_policy_lag: input should be 0 or 1, and not 3",
        "rollout.step: no such key; did you mean 'steps'?",
        "warm_start.round: no such key; did you mean 'rounds'?",
        "stop: it should be a table of keys and values, and not 5",
        "name: string should match pattern",
    ):
        assert expected in text
    assert sum("rollout.actors" in line for line in rest) == 1


@pytest.mark.parametrize("key", ["-x", "rollout.en vs", "int", "a[0]"])
def test_a_key_that_could_be_none_is_named_all_the_same(key):
    assert f"{key}: no such key" in "\n".join(problems(None, "task=Pendulum-v1", f"{key}=1"))


def test_a_batch_that_does_not_divide_an_iteration_names_one_that_does():
    (_, line) = problems(None, "task=Pendulum-v1", "algorithm.batch_size=300")
    assert "algorithm.batch_size 300 does not divide the 2048 steps of an iteration" in line
    assert "give 256" in line


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["algorithm.name=sacc"], "algorithm.name: no algorithm 'sacc'; did you mean 'sac'?"),
        (["algorithm.name=[1]"], "algorithm.name: no algorithm '[1]'; allowed: ppo, recurrent_ppo, sac, td3, tqc"),
        (["algorithm.name=sac", "algorithm.gama=1"], "algorithm.gama: no such key; did you mean 'gamma'?"),
        (["algorithm.name=td3", "algorithm.clip_range=1"], "no such key; only ppo and recurrent_ppo have it"),
        (
            ["algorithm.name=tqc", "algorithm.her={n_sample: 3}"],
            "her.n_sample: no such key; did you mean 'n_sampled",
        ),
        (["algorithm.name=sac", "algorithm.tau=0"], "algorithm.tau: input should be greater than 0, and not 0"),
        (["algorithm.name=sac", "algorithm.entropy=-1"], "algorithm.entropy: input should be 'auto', or input should"),
        (["algorithm.name=td3", "algorithm.her={}"], "algorithm.her needs goals, and goal_env is false"),
        (["algorithm.name=recurrent_ppo", "rollout.max_policy_lag=1"], "belongs to one policy version; give 0"),
        (["algorithm.name=sac", "warm_start={}"], "warm_start clones into ppo, and algorithm.name is sac"),
    ],
)
def test_each_algorithm_has_its_own_keys_and_ranges(overrides, said):
    assert said in "\n".join(problems(None, "task=Pendulum-v1", *overrides))


def test_a_batch_of_replayed_steps_need_not_divide_an_iteration():
    config = RunConfig.load(None, ["task=Pendulum-v1", "algorithm.name=sac", "rollout.steps=1"])
    assert config.algorithm.batch_size > config.steps_per_iteration == 16
    assert RunConfig.load(None, ["task=a"]).algorithm.name == "ppo"


def test_overrides_reach_into_sections_that_are_not_written():
    config = RunConfig.load(
        None, ["task=Pendulum-v1", "warm_start.rounds=2", "algorithm.learning_rate=1e-4", "stop.success=null"]
    )
    assert config.warm_start is not None and config.warm_start.rounds == 2
    assert config.algorithm.learning_rate == 1e-4  # YAML 1.1 alone takes 1e-4 for a word
    assert config.stop.success is None
    assert RunConfig.load(None, ["task=a", "warm_start=null"]).warm_start is None


@pytest.mark.parametrize(
    ("override", "said"), [("gamma", "is no override; write key=value"), ("seed=[", "is not valid YAML")]
)
def test_an_override_that_cannot_be_read_is_named(override, said):
    assert said in "\n".join(problems(None, "task=Pendulum-v1", override))


@pytest.mark.parametrize(
    ("text", "said"),
    [("[1, 2]", "holds a list"), ("a: [", "is not valid YAML"), (None, "cannot be read: No such file")],
)
def test_a_file_that_is_no_configuration_is_one_sentence(tmp_path, text, said):
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text)
    assert said in problems(path)[0]


def test_a_configuration_is_frozen_and_survives_being_written(tmp_path):
    config = RunConfig.load(None, ["task=Pendulum-v1", "reset_options={wind: 2}", "warm_start={}"])
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    assert RunConfig.load(tmp_path / "c.yaml") == config
    with pytest.raises(ValueError, match="frozen"):
        config.algorithm.gamma = 0.5


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_ships_is_valid_and_explained(path):
    RunConfig.load(path)
    assert "#" in path.read_text()


def test_there_are_configurations():
    assert SHIPPED
