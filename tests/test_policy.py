"""Policies from every kind of source: the numbers of stable-baselines3, and a sentence for each damage."""

from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from evaluation_policies import (
    ALGORITHMS,
    flip_a_byte,
    one_sentence,
    predict,
    save_bundle,
    save_checkpoint,
    save_run,
    save_zip,
    some_observations,
)
from evaluation_toys import CHOICE, SPEC, TASK
from stable_baselines3 import DQN

from physai.deploy.files import MANIFEST, describe
from physai.errors import AssetError, CheckpointError, PhysaiError, TaskError
from physai.policy import load_policy


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_actions_are_those_of_stable_baselines3(tmp_path: Path, algorithm: str) -> None:
    policy = load_policy(save_zip(tmp_path, algorithm), TASK)
    observations = some_observations()
    expected = np.array([predict(algorithm, row) for row in observations])
    actions = policy.act(observations)
    assert actions.dtype == np.float32
    assert np.array_equal(actions, expected)
    assert np.abs(actions).max() <= 1.0
    assert np.std(actions, axis=0).min() > 0.05, "the comparison would show nothing"


def test_choices_are_those_of_stable_baselines3(tmp_path: Path) -> None:
    policy = load_policy(save_zip(tmp_path, "ppo", CHOICE), CHOICE)
    observations = np.random.default_rng(0).normal(0, 0.5, (50, 4)).astype(np.float32)
    expected = np.array([predict("ppo", row, CHOICE) for row in observations])
    actions = policy.act(observations)
    assert actions.shape == (50, 1)
    assert np.array_equal(actions, expected)
    assert set(actions.ravel()) == {0, 1}


def test_a_row_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    policy = load_policy(save_zip(tmp_path), TASK)
    observations = some_observations()
    assert np.array_equal(policy.act(observations)[7:8], policy.act(observations[7:8]))
    with pytest.raises(ValueError, match=r"\(n, 3\)"):
        policy.act(observations[0])


def test_without_statistics_nothing_is_normalised(tmp_path: Path) -> None:
    path = save_zip(tmp_path)
    normalised = load_policy(path, TASK)
    (tmp_path / "vecnormalize.pkl").unlink()
    raw = load_policy(path, TASK)
    assert not np.allclose(raw.act(some_observations()), normalised.act(some_observations()))
    assert raw.digest != normalised.digest


def test_a_checkpoint_knows_its_task(tmp_path: Path) -> None:
    policy = load_policy(save_checkpoint(tmp_path / "000010", "sac"))
    assert (policy.spec, policy.algorithm, policy.source) == (SPEC, "sac", str(tmp_path / "000010"))
    assert np.array_equal(policy.act(some_observations())[3], predict("sac", some_observations()[3]))


def test_a_run_gives_its_newest_checkpoint_and_the_module_of_its_task(tmp_path: Path) -> None:
    policy = load_policy(save_run(tmp_path / "run"))
    assert Path(policy.source).name == "000030"
    assert policy.task == TASK


def test_a_run_hands_on_its_best_checkpoint(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    (run / "checkpoints" / "best.json").write_text(json.dumps({"checkpoint": "000010"}))
    assert Path(load_policy(run).source).name == "000010"


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = save_run(tmp_path / "run")
    flip_a_byte(run / "checkpoints" / "000030" / "model.zip")
    with caplog.at_level(logging.WARNING):
        assert Path(load_policy(run).source).name == "000020"
    assert "000030" in caplog.text
    for name in ("000010", "000020"):
        (run / "checkpoints" / name / "policy.json").unlink()
    with pytest.raises(CheckpointError, match="000030, 000020, 000010"):
        load_policy(run)


@pytest.mark.parametrize("name", ["model.zip", "vecnormalize.pkl", "policy.json"])
def test_a_flipped_byte_in_a_checkpoint_is_found(tmp_path: Path, name: str) -> None:
    folder = save_checkpoint(tmp_path / "000010")
    flip_a_byte(folder / name)
    with pytest.raises(CheckpointError, match=f"{name} differs from its digest") as failure:
        load_policy(folder)
    assert one_sentence(str(failure.value))


class Intruder:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


def test_nothing_is_unpickled_before_its_digest_is_right(tmp_path: Path) -> None:
    folder, mark = save_checkpoint(tmp_path / "000010"), tmp_path / "mark"
    (folder / "vecnormalize.pkl").write_bytes(pickle.dumps(Intruder(mark)))
    with pytest.raises(CheckpointError, match="differs from its digest"):
        load_policy(folder)
    assert not mark.exists()


def test_manifest_of_a_checkpoint_is_needed(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "000010")
    (folder / MANIFEST).write_text((folder / MANIFEST).read_text()[:50])
    with pytest.raises(CheckpointError, match="damaged"):
        load_policy(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match=MANIFEST):
        load_policy(folder)


def test_a_checkpoint_without_a_model(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "000010")
    (folder / "model.zip").unlink()
    kept = {name: (folder / name).read_bytes() for name in ("policy.json", "vecnormalize.pkl")}
    (folder / MANIFEST).write_text(json.dumps({"files": describe(kept)}))
    with pytest.raises(CheckpointError, match=r"'model.zip' is missing"):
        load_policy(folder)


@pytest.mark.parametrize("damage", ["flip", "truncate", "text", "empty"])
def test_a_damaged_zip_is_one_sentence(tmp_path: Path, damage: str) -> None:
    path = save_zip(tmp_path)
    data = path.read_bytes()
    if damage == "flip":
        flip_a_byte(path)
    else:
        path.write_bytes({"truncate": data[: len(data) // 2], "text": b"no zip", "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=r"model\.zip") as failure:
        load_policy(path, TASK)
    assert one_sentence(str(failure.value))


def test_a_policy_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    DQN("MlpPolicy", CHOICE, buffer_size=8).save(tmp_path / "model.zip")
    with pytest.raises(CheckpointError, match=r"a policy of stable_baselines3\.dqn\.policies; PPO, .* can"):
        load_policy(tmp_path / "model.zip", CHOICE)


def test_a_pickle_that_is_no_normaliser(tmp_path: Path) -> None:
    path = save_zip(tmp_path)
    (tmp_path / "vecnormalize.pkl").write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(CheckpointError, match="no VecNormalize"):
        load_policy(path, TASK)


def test_a_policy_of_another_task_is_refused(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    with pytest.raises(TaskError, match="trained for EvaluationToy-v0 and not for CartPole-v1"):
        load_policy(run, CHOICE)
    with pytest.raises(CheckpointError, match="give the task it was trained for"):
        load_policy(run / "checkpoints" / "000010" / "model.zip", CHOICE)


def test_sources_that_are_nothing(tmp_path: Path) -> None:
    zip_path = save_zip(tmp_path / "zip")
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("task: CartPole-v1\n")
    (tmp_path / "text.txt").write_text("hello")
    cases: list[tuple[object, type[PhysaiError], str]] = [
        (zip_path, CheckpointError, "--task"),
        (tmp_path / "empty", CheckpointError, "holds no policy"),
        (tmp_path / "run", CheckpointError, "no checkpoint yet"),
        (tmp_path / "text.txt", CheckpointError, "holds no policy"),
        (tmp_path / "missing", CheckpointError, "neither a path nor a task"),
        ("peg_insertoin", CheckpointError, "did you mean 'peg_insertion'"),
        (CHOICE, AssetError, "no policy ships for CartPole-v1"),
    ]
    for source, error, words in cases:
        with pytest.raises(error, match=words) as failure:
            load_policy(str(source))
        assert one_sentence(str(failure.value)), failure.value


def test_a_shipped_policy_is_found_by_the_name_of_its_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_bundle(tmp_path / "policies" / "evaluation_toy")
    monkeypatch.setattr("physai_assets.__path__", [str(tmp_path)])
    assert load_policy("EvaluationToy-v0").spec.task == "EvaluationToy-v0"
