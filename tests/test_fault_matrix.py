"""Whatever is killed, whenever: the run ends with the same bits, and loses at most one checkpoint interval."""

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
from ranks import Ranks
from test_checkpoint import everything
from test_learners import run_together
from test_learners_on_ray import learners
from test_train_on_ray import processes_of

from physai.config import RunConfig
from physai.train.checkpoint import CheckpointStore
from physai.train.driver import train

pytestmark = pytest.mark.ray
TASK = "toys:Staged-v0"
PHASES = ("collecting", "updating", "checkpointing")
WHO = ("actor", "learner", "other rank", "node", "driver")
LEARNERS = {"learner": 1, "other rank": 2}
IN_MAKE_TEST = {("actor", "collecting"), ("driver", "checkpointing")}  # the others take minutes on a busy machine
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


@pytest.fixture(scope="module")
def undisturbed_by_two(tmp_path_factory):
    """What two learners end with: another rounding, so other bits."""
    with Ranks(2, tmp_path_factory.mktemp("ranks")) as two:
        values = toys.small(TASK, storage=str(tmp_path_factory.mktemp("undisturbed_by_two")))
        return two(run_together, values)[0]["everything"]


DRIVER = """
import os, sys, ray, toys
toys.stage()
ray.init(address=sys.argv[1], runtime_env={"worker_process_setup_hook": "toys.stage"}, log_to_driver=False)
from physai.config import RunConfig
from physai.train.driver import train
train(RunConfig.model_validate(toys.small("toys:Staged-v0", storage=sys.argv[2])), quiet=True)
"""


def disturb(nodes, who: str, process: int, run: Path) -> None:
    """Kills it; `process` is the one that is held in the phase."""
    if who == "node":
        remove(nodes, next(iter(nodes.worker_nodes)))
        add(nodes, 1)
        return
    if who == "other rank":
        victim = learners(nodes.folder, run)[1]
    else:
        living = processes_of(nodes.folder, {"actor": "RolloutActor", "learner": "RayTrainWorker"}[who])
        victim = process if process in living else living[0]
    os.kill(victim, signal.SIGKILL)


def run_and_disturb(nodes, who: str, phase: str, storage: Path) -> Path:
    run = storage / "staged" / "run"
    held = "updating beside the first" if (who, phase) == ("other rank", "updating") else phase
    stall = Stall(nodes.folder, held, run / "checkpoints" / BEFORE)
    values = toys.small(TASK, storage=str(storage), learner={"workers": LEARNERS.get(who, 0), "max_failures": 2})
    training = Beside(lambda: train(RunConfig.model_validate(values), quiet=True))
    try:
        disturb(nodes, who, stall.reached(training), run)
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
def test_a_run_survives(nodes, request, tmp_path, who, phase):
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
    undisturbed = "undisturbed_by_two" if LEARNERS.get(who) == 2 else "undisturbed"
    assert everything(toys.learn(values)) == request.getfixturevalue(undisturbed)


def test_nothing_of_the_runs_is_left_in_the_cluster(nodes):
    until(lambda: not processes_of(nodes.folder, "RolloutActor"), "the end of all actors")
    until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"], "free CPUs")
