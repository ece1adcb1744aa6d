"""Recorded demonstrations: complete, the same for any number of workers, and playable again."""

import json

import numpy as np
import pytest

from physai import demos
from physai.errors import ConfigError, StorageError
from physai.spec import PolicySpec
from physai_envs import registry


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("demos") / "tidy_up.npz"
    demos.record("tidy_up", path, episodes=3, seed=7, workers=2, progress=False)
    return path


def test_a_recording_holds_whole_episodes_and_says_what_its_columns_are(recording):
    with np.load(recording, allow_pickle=False) as data:
        spec = PolicySpec.from_dict(json.loads(str(data["spec"])))
        assert spec == registry.task("tidy_up").policy_spec()
        assert data["observations"].shape == (len(data["rewards"]), spec.observation_size)
        assert data["actions"].shape == (len(data["rewards"]), spec.action_size)
        assert data["seeds"].tolist() == [7, 8, 9]
        assert data["success"].all()
        assert (np.diff(data["starts"]) > 10).all()
        assert data["starts"][0] == 0


def test_its_actions_play_the_same_episodes_again(recording):
    env = registry.make("tidy_up").unwrapped
    with np.load(recording, allow_pickle=False) as data:
        first, last = data["starts"][1], data["starts"][2]
        observation, _ = env.reset(seed=int(data["seeds"][1]))
        for row in range(first, last):
            assert observation.tobytes() == data["observations"][row].tobytes()
            observation, reward, terminated, _, info = env.step(data["actions"][row])
            assert np.float32(reward) == data["rewards"][row]
        assert terminated
        assert info["is_success"]
    env.close()


def test_workers_do_not_change_it(recording, tmp_path):
    alone = tmp_path / "alone.npz"
    demos.record("tidy_up", alone, episodes=3, seed=7, workers=1, progress=False)
    with np.load(alone) as one, np.load(recording) as two:
        assert all(one[name].tobytes() == two[name].tobytes() for name in one.files)


@pytest.mark.parametrize(
    ("task", "arguments", "error", "message"),
    [
        ("peg_insertion", {}, ConfigError, "no scripted expert; those that have one: .*tidy_up"),
        ("tidy_up", {"seed": 999_999, "episodes": 2}, ConfigError, "not all of the training range"),
    ],
)
def test_what_cannot_be_recorded_is_explained(tmp_path, task, arguments, error, message):
    with pytest.raises(error, match=message):
        demos.record(task, tmp_path / "x.npz", progress=False, **arguments)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_played(tmp_path):
    with pytest.raises(StorageError, match="name a file in a folder that exists"):
        demos.record("tidy_up", tmp_path / "nowhere" / "x.npz", episodes=1)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    demo = demos.Demo(0, np.zeros((1, 17), np.float32), np.zeros((1, 5), np.float32), np.zeros(1, np.float32), True)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(StorageError, match="No space left"):
        demos.write(tmp_path / "x.npz", "tidy_up", [demo])
    assert not list(tmp_path.iterdir())
