"""Learners that may change in number: one, three, one, two, and every fragment counts once."""

from __future__ import annotations

import csv
import io
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ray
import toys
from ranks import PATIENCE_S
from ray.cluster_utils import Cluster

from physai.config import RunConfig
from physai.train import learner_group
from physai.train.checkpoint import CheckpointStore
from physai.train.driver import train

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def cluster():
    """A head with two cores and a seat for one learner."""
    made = Cluster()
    made.add_node(num_cpus=2, resources={"seat": 1}, include_dashboard=False)
    ray.init(address=made.address, log_to_driver=False, configure_logging=False, logging_level="error")
    yield made
    ray.shutdown()
    made.shutdown()


def rows(run: Path) -> list[dict[str, str]]:
    if not (run / "progress.csv").exists():
        return []
    with (run / "progress.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("learners")]


def wait_for_learners(run: Path, count: int) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not (found := rows(run)) or int(float(found[-1]["learners"])) != count:
        assert time.monotonic() < ends, f"there are never {count} learners"
        time.sleep(0.1)


def test_learners_come_and_go_and_every_fragment_counts_once(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(learner_group, "RESOURCES", {"CPU": 0.05, "seat": 1})
    monkeypatch.setattr(learner_group, "RESIZE_EVERY_S", 3.0)
    # A node is added beside the main thread, which is in `train`, and only that one may handle signals.
    monkeypatch.setattr("ray._private.utils.set_sigterm_handler", lambda handler: None)
    values = toys.small(
        "toys:Leisurely-v0", storage=str(tmp_path),
        rollout={"groups": 6, "envs_per_group": 1, "steps": 16, "actors": 2},
        learner={"workers": [1, 3], "max_failures": 5}, stop={"steps": 10_000_000, "every_steps": 10_000_000},
    )  # fmt: skip
    run, seen = tmp_path / "leisurely" / "run", []

    def change() -> None:
        try:
            wait_for_learners(run, 1)
            node = cluster.add_node(num_cpus=1, resources={"seat": 2})
            wait_for_learners(run, 3)
            cluster.remove_node(node, allow_graceful=False)
            wait_for_learners(run, 1)
            cluster.add_node(num_cpus=1, resources={"seat": 1})
            wait_for_learners(run, 2)
            seen.append("all")
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=change, daemon=True).start()
    with pytest.raises(SystemExit):
        train(RunConfig.model_validate(values), quiet=True)
    assert seen == ["all"]
    told = rows(run)
    assert [int(row["iteration"]) for row in told] == list(range(1, len(told) + 1))
    assert [int(row["steps"]) for row in told] == [96 * n for n in range(1, len(told) + 1)]
    checkpoint = CheckpointStore(run / "checkpoints", 3).newest()
    with np.load(io.BytesIO(checkpoint.files["normalizer.npz"])) as arrays:
        assert float(arrays["count"]) == pytest.approx(96 * len(told), abs=0.01)
    assert checkpoint.iteration == len(told)
