"""A run that is killed at any moment and resumed ends with the bits of one that was not."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import toys
from test_checkpoint import everything, figures
from test_storage import server  # noqa: F401 - a fixture

from physai.storage import Storage
from physai.train.checkpoint import CheckpointStore

TESTS = str(Path(__file__).parent)
KILLS = 2
CHANGES = {"stop": {"steps": 64 * 12, "every_steps": 64 * 4}, "checkpoint": {"every_iterations": 2}}
RUN = """
import sys, time
sys.path.insert(0, sys.argv[1])
import toys
from physai.train.learner import Learner
learn = Learner._learn
def slowly(self, fragments, told):  # long enough to be killed in
    time.sleep(0.1)
    learn(self, fragments, told)
    time.sleep(0.1)
Learner._learn = slowly
values = toys.small(storage=sys.argv[2], rollout={"max_policy_lag": int(sys.argv[3])}, **eval(sys.argv[4]))
toys.learn(values, beside=True)
"""


def killed(storage: str, lag: int, rng: random.Random) -> None:
    """Starts or continues the run and kills it, with all that it started, some time after a new checkpoint."""
    store = CheckpointStore(Storage.at(storage) / "target" / "run" / "checkpoints", 3)
    before = store.names()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, TESTS, storage, str(lag), repr(CHANGES)], start_new_session=True
    )
    ends = time.monotonic() + 120
    while process.poll() is None and store.names() == before:
        assert time.monotonic() < ends
        time.sleep(0.05)
    time.sleep(rng.uniform(0.0, 0.6))
    with contextlib.suppress(ProcessLookupError):  # it was faster
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)


@pytest.mark.parametrize(
    ("where", "lag"),
    [("disk", 0), pytest.param("disk", 1, marks=pytest.mark.slow), pytest.param("s3", 0, marks=pytest.mark.slow)],
)
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(server, tmp_path, where, lag):  # noqa: F811
    seed = random.SystemRandom().randrange(10**6)  # training seeds the usual generator
    print("kills with seed", seed)
    storage = str(tmp_path / "killed") if where == "disk" else f"s3://bucket/killed?{server}"
    rng = random.Random(seed)
    for _ in range(KILLS):
        killed(storage, lag, rng)
    changes = {**CHANGES, "rollout": {"max_policy_lag": lag}}
    resumed = toys.learn(toys.small(storage=storage, **changes))
    assert "continuing from" in resumed.board.lines[0]
    whole = toys.learn(toys.small(storage=str(tmp_path / "whole"), **changes))
    assert everything(resumed) == everything(whole)
    runs = [Storage.at(place) / "target" / "run" for place in (storage, tmp_path / "whole")]
    assert figures(runs[0]) == figures(runs[1]) and len(figures(runs[0])) == 12
    ends = [CheckpointStore(run / "checkpoints", 3).newest() for run in runs]
    for name in ("state.npz", "normalizer.npz"):  # groups, counters, best, episodes of the curves; statistics
        assert ends[0].files[name] == ends[1].files[name], name
    assert ends[0].iteration == ends[1].iteration == 12
