"""A run that is continued computes what the undisturbed one would have, and a damaged checkpoint costs only itself."""

from __future__ import annotations

import csv
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toys

from physai.config import RunConfig
from physai.errors import CheckpointError, ClusterError, ConfigError, StorageError
from physai.policy import load_policy
from physai.train import driver
from physai.train.checkpoint import CheckpointStore, pack_state, unpack_state
from physai.train.figures import Figures
from physai.train.fragment import EnvState
from physai.train.run_dir import RunFolder


def weights(learner) -> bytes:
    return b"".join(learner.model.weights()[name].tobytes() for name in sorted(learner.model.weights()))


def everything(learner):
    """All that decides how a run goes on."""
    moments = learner.normalizer.observation_moments, learner.normalizer.return_moments
    optimizer = learner.model.policy.optimizer.state_dict()["state"]
    return (
        weights(learner),
        [m.mean.tobytes() + m.var.tobytes() + np.float64(m.count).tobytes() for m in moments],
        [value.numpy().tobytes() for state in optimizer.values() for value in state.values()],
        (learner.iteration, learner.steps, learner.model._n_updates, learner.best),
    )


def figures(run) -> list[dict[str, str]]:
    """The rows of progress.csv, without what depends on time and on who did the work."""
    timed = {"seconds", "steps_per_s", "physics", "collected_s", "rebuilt", "learner_busy", "waiting", "restarts"}
    timed |= {"cpu", "gpu", "energy_j"}
    rows = csv.DictReader((run / "progress.csv").read_text().splitlines())
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]


@pytest.mark.parametrize(("after", "lag"), [(1, 0), (3, 0), (2, 1), (3, 1)])
def test_a_continued_run_has_the_bits_of_an_undisturbed_one(tmp_path, after, lag):
    changes = {"rollout": {"max_policy_lag": lag}, "stop": {"every_steps": 192}}
    whole = toys.learn(toys.small(storage=str(tmp_path / "whole"), **changes))
    parts = toys.small(storage=str(tmp_path / "parts"), **changes)
    stopped = toys.learn(parts, stop_after=after)
    assert stopped.outcome.stopped and stopped.iteration == after
    continued = toys.learn(parts)
    assert not continued.outcome.stopped
    assert everything(continued) == everything(whole)
    assert weights(continued) != weights(stopped)
    assert figures(tmp_path / "parts/target/run") == figures(tmp_path / "whole/target/run")


def test_a_run_that_is_stopped_while_it_measures_amends_its_row_and_marks_the_best(tmp_path, monkeypatch):
    whole = toys.learn(toys.small(storage=str(tmp_path / "whole")))
    parts = toys.small(storage=str(tmp_path / "parts"))
    monkeypatch.setattr(toys, "stop_on", "iteration 2: measuring")
    assert toys.learn(parts).iteration == 2
    monkeypatch.setattr(toys, "stop_on", "iteration 4: collecting")
    assert toys.learn(parts).iteration == 3
    best = CheckpointStore(tmp_path / "parts/target/run/checkpoints", 3).best()
    assert best is not None and best["checkpoint"] == "000002"
    monkeypatch.setattr(toys, "stop_on", "")
    assert everything(toys.learn(parts)) == everything(whole)
    assert figures(tmp_path / "parts/target/run") == figures(tmp_path / "whole/target/run")


def damage(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("choices", [False, True])
@pytest.mark.parametrize("remembers", [False, True])
def test_states_come_back_as_they_were_packed(choices, remembers):
    def env(length: int) -> EnvState:
        actions = np.arange(length) if choices else np.full((length, 2), length, np.float32)
        memory = np.full((4, 1, 3), length, np.float32) if remembers else None
        return EnvState(1, 100 + length, {"difficulty": 0.5}, actions, np.full(3, length, np.float32), memory)

    groups = {3: (env(0), env(5)), 1: (env(2), env(0))}
    counters, back = unpack_state(pack_state({"iteration": 7}, groups))
    assert counters == {"iteration": 7} and list(back) == [3, 1]
    for group, envs in groups.items():
        for was, is_ in zip(envs, back[group], strict=True):
            assert (was.episode, was.seed, was.options) == (is_.episode, is_.seed, is_.options)
            assert (was.memory is None) == (is_.memory is None)
            for name in ("actions", "observation", "memory"):
                before, after = getattr(was, name), getattr(is_, name)
                assert before is after or (before.dtype == after.dtype and np.array_equal(before, after))
    assert unpack_state(pack_state({}, {})) == ({}, {})


def test_a_damaged_checkpoint_costs_itself_and_the_run_goes_on_from_the_one_before(tmp_path, caplog):
    values = toys.small(storage=str(tmp_path))
    whole = toys.learn(toys.small(storage=str(tmp_path / "whole")))
    toys.learn(values, stop_after=4)
    folder = tmp_path / "target" / "run" / "checkpoints"
    damage(folder / "000004" / "model.zip")
    with caplog.at_level(logging.WARNING, "physai"):
        continued = toys.learn(values)
    assert "000004" in caplog.text and "model.zip differs from its digest" in caplog.text
    assert "continuing from" in continued.board.lines[0] and "000003" in continued.board.lines[0]
    assert weights(continued) == weights(whole)


def test_when_all_checkpoints_are_damaged_the_run_does_not_begin_anew(tmp_path):
    values = toys.small(storage=str(tmp_path))
    toys.learn(values, stop_after=3)
    folder = tmp_path / "target" / "run" / "checkpoints"
    for checkpoint in folder.glob("0*"):
        (checkpoint / "state.npz").unlink()
    with pytest.raises(CheckpointError, match=r"none of the 3 checkpoints in .* is intact"):
        toys.learn(values)


def test_the_newest_and_the_best_are_kept(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    store.save(1, {"a": b"1"})
    store.mark_best({"checkpoint": "000001", "success": 1.0})
    for iteration in range(2, 6):
        store.save(iteration, {"a": str(iteration).encode()})
        store.prune()
    assert store.names() == ["000005", "000004", "000001"]
    assert store.newest().files == {"a": b"5"}
    store.save(5, {"a": b"again"})
    assert store.newest().files == {"a": b"again"}
    assert [path.name for path in store.folder.glob(".*")] == []


def test_what_a_killed_process_left_half_written_is_no_checkpoint(tmp_path):
    store = CheckpointStore(tmp_path, keep=2)
    store.save(1, {"a": b"1"})
    (tmp_path / ".partial-000002-77").mkdir()
    (tmp_path / "000001").rename(tmp_path / ".replaced-000001-77")  # killed while it was replaced
    assert store.names() == []
    store.save(2, {"a": b"2"})
    assert store.names() == ["000002", "000001"]
    assert list(tmp_path.glob(".*")) == []


def test_a_full_disk_is_one_sentence_and_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    values = toys.small(storage=str(tmp_path), checkpoint={"patience_s": 0})
    real, written = os.fsync, []

    def full(handle):
        written.append(handle)
        if len(written) > 25 and str(tmp_path) in os.readlink(f"/proc/self/fd/{handle}"):
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StorageError, match=r"no space is left .*; checkpoint 00000\d is intact, and the run can continue"
    ):
        toys.learn(values)
    monkeypatch.setattr(os, "fsync", real)
    assert list((tmp_path / "target/run/checkpoints").glob(".*")) == []
    whole = toys.learn(toys.small(storage=str(tmp_path / "whole")))
    assert weights(toys.learn(values)) == weights(whole)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"run folder .* cannot be written"):
        RunFolder.create(RunConfig.model_validate(toys.small(storage=str(tmp_path / "file"))))


def test_a_run_that_never_began_leaves_no_folder_and_one_that_did_stays(tmp_path):
    values = toys.small(storage=str(tmp_path))
    folder = tmp_path / "target" / "run"
    with pytest.raises(ClusterError, match="is not auto or host:port"):
        driver.train(RunConfig.model_validate(values), address="http://here", quiet=True)
    assert not folder.exists()
    toys.learn(values, stop_after=1)
    with pytest.raises(ClusterError):
        driver.train(RunConfig.model_validate(values), address="http://here", resume=str(folder), quiet=True)
    assert (folder / "checkpoints" / "000001").is_dir()


def test_what_makes_another_run_cannot_be_changed_when_one_is_continued(tmp_path):
    values = toys.small(storage=str(tmp_path))
    toys.learn(values, stop_after=1)
    folder = tmp_path / "target" / "run"
    other = RunConfig.model_validate({**values, "seed": 4, "algorithm": {**values["algorithm"], "network": [9]}})
    with pytest.raises(ConfigError, match=r"seed \(3 to 4\), algorithm.network \(\(8,\) to \(9,\)\)"):
        RunFolder.reopen(folder, other)
    more = RunConfig.model_validate({**values, "stop": {**values["stop"], "steps": 640}})
    RunFolder.reopen(folder, more)
    assert RunConfig.load(folder / "config.yaml") == more
    with pytest.raises(ConfigError, match="exists already; continue it with --resume"):
        RunFolder.create(more)
    with pytest.raises(CheckpointError, match="no run folder"):
        RunFolder.reopen(tmp_path, more)


PLAIN = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("physai", "physai_envs", "toys", "ray", "pybullet"):
            raise ImportError(name + " is not there")
sys.meta_path.insert(0, Blocker())
import gymnasium as gym, numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
folder, rows, out = sys.argv[1:]
model = PPO.load(folder + "/model.zip", device="cpu")
class Spaces(gym.Env):
    observation_space, action_space = model.observation_space, model.action_space
normalize = VecNormalize.load(folder + "/vecnormalize.pkl", DummyVecEnv([Spaces]))
np.save(out, model.predict(normalize.normalize_obs(np.load(rows)), deterministic=True)[0])
"""


def test_a_checkpoint_loads_in_plain_stable_baselines3_and_predicts_the_same(tmp_path):
    values = toys.small(storage=str(tmp_path), stop={"steps": 256, "every_steps": 10_000})
    toys.learn(values)
    run = tmp_path / "target" / "run"
    newest = max((run / "checkpoints").glob("0*"))
    assert {p.name for p in newest.iterdir()} == {
        "model.zip", "vecnormalize.pkl", "normalizer.npz", "policy.json", "state.npz", "manifest.json",
    }  # fmt: skip
    rows = (np.random.default_rng(0).standard_normal((20, 3)) * [60, 1, 1] + [0, 0, 500]).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    code = [sys.executable, "-I", "-c", PLAIN, str(newest), str(tmp_path / "rows.npy"), str(tmp_path / "out.npy")]
    subprocess.run(code, check=True, capture_output=True, text=True)
    plain = np.load(tmp_path / "out.npy")
    ours = load_policy(newest)
    np.testing.assert_allclose(plain, ours.act(rows), atol=1e-6)
    assert np.ptp(plain, axis=0).min() > 1e-3  # it does look at the observation
    best = json.loads((run / "checkpoints" / "best.json").read_text())
    assert Path(load_policy(run).source).name == best["checkpoint"]
    with np.load(newest / "normalizer.npz", allow_pickle=False) as arrays:
        assert arrays["mean"].shape == (3,) and arrays["mean"][2] == pytest.approx(500.0, rel=1e-3)


def test_rows_after_the_checkpoint_come_again_and_are_not_there_twice(tmp_path):
    figures = Figures(tmp_path)
    for iteration in range(1, 4):
        figures.add({"iteration": iteration, "steps": 10 * iteration, "success": None})
    figures.close()
    with (tmp_path / "progress.csv").open("a") as file:
        file.write("4,4")  # killed in the middle of a line
    figures = Figures(tmp_path, iteration=2)
    figures.add({"iteration": 3, "steps": 30, "success": 0.5, "new": 1.0})
    figures.close()
    assert (tmp_path / "progress.csv").read_text().splitlines() == [
        "iteration,steps,success,new", "1,10,,", "2,20,,", "3,30,0.5,1.0",
    ]  # fmt: skip
