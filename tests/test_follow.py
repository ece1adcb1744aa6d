"""A window that follows a training gets its newest checkpoint, whatever the training removes meanwhile."""

import shutil
import time

import numpy as np
import pytest
import toys

from physai.errors import CheckpointError
from physai.view.follow import Follower


@pytest.fixture
def run(tmp_path):
    toys.learn(toys.small(storage=str(tmp_path)))
    return tmp_path / "target" / "run"


def test_the_newest_checkpoint_acts_and_then_newer_ones(run):
    checkpoints = run / "checkpoints"
    names = sorted(path.name for path in checkpoints.iterdir() if path.name.isdigit())
    with Follower(run, every_s=0.05) as follower:
        policy = follower.first()
        assert follower.name == names[-1] and follower.fresh() is None
        shutil.move(checkpoints / names[-1], checkpoints / "000099")  # the training goes on, and removes the old one
        observation = np.zeros((1, policy.spec.observation_size), np.float32)
        assert np.isfinite(policy.act(observation)).all()
        (checkpoints / "000100").mkdir()  # half written: not taken
        ends = time.monotonic() + 30
        while (newer := follower.fresh()) is None:
            assert time.monotonic() < ends
            (checkpoints / "000100").rmdir() if (checkpoints / "000100").exists() else None
            time.sleep(0.05)
        assert follower.name == "000099"
        np.testing.assert_array_equal(newer.act(observation), policy.act(observation))


def test_what_is_no_run_is_one_sentence(tmp_path):
    with pytest.raises(CheckpointError, match="is no run; give the folder of a run"):
        Follower(tmp_path)
