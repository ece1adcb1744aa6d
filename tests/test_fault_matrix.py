"""Whatever is killed, whenever: the run finishes, loses at most one checkpoint interval, and ends with the same bits.

A row for a rank beside the first belongs into `WHO`, with the title of its process in `disturb`.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ray
import toys
from clusters import TESTS, Beside, Stall, add, cluster, remove, until
from test_checkpoint import everything
from test_train_on_ray import processes_of

from physai.config import RunConfig
from physai.train.checkpoint import CheckpointStore
from physai.train.driver import train

pytestmark = pytest.mark.ray
TASK = "toys:Staged-v0"
PHASES = ("collecting", "updating", "checkpointing")
WHO = ("actor", "learner", "node", "driver")
IN_MAKE_TEST = {("actor", "collecting"), ("node", "updating"), ("driver", "checkpointing")}
CELLS = [
    pytest.param(who, phase, marks=() if (who, phase) in IN_MAKE_TEST else pytest.mark.slow)
    for who in WHO
    for phase in PHASES
]
BEFORE = "000002"  # the run is disturbed after this checkpoint


@pytest.fixture(scope="module")
def nodes():
    """Two nodes of one core; the learner stalls in every process where `toys.stage` makes it."""
    toys.stage()
    with cluster(1, 1, hook="toys.stage") as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return everything(toys.learn(toys.small(TASK, storage=str(tmp_path_factory.mktemp("undisturbed")))))


DRIVER = """
import os, sys, ray, toys
toys.stage()
ray.init(address=sys.argv[1], runtime_env={"worker_process_setup_hook": "toys.stage"}, log_to_driver=False)
from physai.config import RunConfig
from physai.train.driver import train
train(RunConfig.model_validate(toys.small("toys:Staged-v0", storage=sys.argv[2])), quiet=True)
"""


def disturb(nodes, who: str, process: int) -> None:
    """Kills it; `process` is the one that is held in the phase."""
    if who == "node":
        remove(nodes, next(iter(nodes.worker_nodes)))
        add(nodes, 1)
        return
    title = {"actor": "RolloutActor", "learner": "RayTrainWorker"}[who]
    living = processes_of(nodes.folder, title)
    os.kill(process if process in living else living[0], signal.SIGKILL)


def run_and_disturb(nodes, who: str, phase: str, storage: Path) -> Path:
    stall = Stall(nodes.folder, phase, storage / "staged" / "run" / "checkpoints" / BEFORE)
    values = toys.small(TASK, storage=str(storage), learner={"workers": int(who == "learner"), "max_failures": 2})
    training = Beside(lambda: train(RunConfig.model_validate(values), quiet=True))
    try:
        disturb(nodes, who, stall.reached())
    finally:
        stall.go()
    return training.result()


def kill_driver(nodes, phase: str, storage: Path) -> Path:
    run = storage / "staged" / "run"
    stall = Stall(nodes.folder, phase, run / "checkpoints" / BEFORE)
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    command = [sys.executable, "-c", DRIVER, nodes.address, str(storage)]
    driver = subprocess.Popen(command, env=environment, cwd=TESTS, stderr=subprocess.PIPE, text=True)
    until(lambda: (nodes.folder / "reached").exists() or driver.poll() is not None, phase)
    assert driver.poll() is None, driver.stderr.read()
    driver.kill()
    driver.communicate()
    stall.go()
    before = CheckpointStore(run / "checkpoints", 3).newest().iteration
    assert before >= int(BEFORE)  # nothing older than one interval, and nothing half written
    config = RunConfig.model_validate(toys.small(TASK, storage=str(storage)))
    return train(config, resume=str(run), quiet=True)


@pytest.mark.parametrize(("who", "phase"), CELLS)
def test_a_run_survives(nodes, undisturbed, tmp_path, who, phase):
    run = kill_driver(nodes, phase, tmp_path) if who == "driver" else run_and_disturb(nodes, who, phase, tmp_path)
    assert not (nodes.folder / "stall").exists()  # the phase was reached, and something was killed in it
    rows = list(csv.DictReader((run / "progress.csv").open(newline="", encoding="utf-8")))
    assert [int(row["iteration"]) for row in rows] == [1, 2, 3, 4, 5]
    assert [int(row["steps"]) for row in rows] == [64, 128, 192, 256, 320]  # each fragment counts once
    if who in ("actor", "node"):
        assert sum(int(row["redone"]) for row in rows) + int(rows[-1]["restarts"]) >= (phase == "collecting")
    assert not list((run / "checkpoints").glob(".*"))
    values = toys.small(TASK, storage=str(tmp_path))
    values["stop"]["steps"] = 1  # nothing is left to do
    assert everything(toys.learn(values)) == undisturbed


def test_nothing_of_the_runs_is_left_in_the_cluster(nodes):
    until(lambda: not processes_of(nodes.folder, "RolloutActor"), "the end of all actors")
    until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"], "free CPUs")
