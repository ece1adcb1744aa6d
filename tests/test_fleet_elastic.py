"""Nodes join and leave while a run goes on, and no bit of its result changes; with none left it waits, then says so."""

from __future__ import annotations

import csv

import pytest
import toys
from clusters import Beside, Stall, add, cluster, remove, until
from test_checkpoint import everything

from physai.config import RunConfig
from physai.errors import ClusterError
from physai.train import driver
from physai.train.driver import train
from physai.train.progress import TerminalBoard

pytestmark = pytest.mark.ray
TASK = "toys:Staged-v0"
MANY = {"groups": 4, "actors": "auto"}


@pytest.fixture(scope="module")
def nodes():
    with cluster(0, 1) as running:
        yield running


@pytest.fixture
def heard(monkeypatch):
    """What the board was told."""
    told: list[str] = []

    class Board(TerminalBoard):
        def say(self, text):
            told.append(text)

        def phase(self, text):
            told.append(text)

    monkeypatch.setattr(driver, "TerminalBoard", Board)
    return told


def test_one_two_one_nodes_give_the_bits_of_an_undisturbed_run(nodes, heard, tmp_path):
    (first,) = nodes.worker_nodes
    values = toys.small(TASK, storage=str(tmp_path / "elastic"), rollout=MANY, stop={"steps": 128 * 30})
    checkpoints = tmp_path / "elastic" / "staged" / "run" / "checkpoints"
    joins = Stall(nodes.folder, "collecting", checkpoints / "000001")
    training = Beside(lambda: train(RunConfig.model_validate(values), quiet=True))
    joins.reached(training)
    add(nodes, 2)
    until(lambda: any("a rollout actor joined; there are 3" in line for line in heard), "actors on the new node")
    joins.go()
    until(lambda: (checkpoints / "000003").exists(), "an iteration with all")
    leaves = Stall(nodes.folder, "collecting", checkpoints)
    leaves.reached(training)
    remove(nodes, first)
    leaves.go()
    run = training.result()
    rows = list(csv.DictReader((run / "progress.csv").open(newline="", encoding="utf-8")))
    assert {1, 3} <= {int(row["actors"]) for row in rows} and int(rows[-1]["actors"]) == 2
    undisturbed = toys.learn({**values, "storage": str(tmp_path / "alone")})
    values["stop"]["steps"] = 1
    assert everything(toys.learn(values)) == everything(undisturbed)


def lose_all(nodes, stall, training, heard) -> None:
    stall.reached(training)
    for node in list(nodes.worker_nodes):
        remove(nodes, node)
    stall.go()
    until(lambda: any("no rollout actor is left; waiting up to" in line for line in heard), "the phrase")


@pytest.mark.slow
def test_with_no_node_left_it_waits_and_goes_on_when_one_joins_and_ends_when_none_does(nodes, heard, tmp_path):
    values = toys.small(TASK, storage=str(tmp_path), rollout=MANY, stop={"steps": 128 * 5})
    checkpoints = tmp_path / "staged" / "run" / "checkpoints"
    stall = Stall(nodes.folder, "collecting", checkpoints / "000001")
    training = Beside(lambda: train(RunConfig.model_validate(values), quiet=True))
    lose_all(nodes, stall, training, heard)
    add(nodes, 1)
    run = training.result()
    assert (run / "checkpoints" / "000005").exists()
    heard.clear()
    stall = Stall(nodes.folder, "collecting", run / "checkpoints" / "000005")
    values["stop"]["steps"] *= 2
    values["rollout"]["patience_s"] = 5.0
    training = Beside(lambda: train(RunConfig.model_validate(values), resume=str(run), quiet=True))
    lose_all(nodes, stall, training, heard)
    with pytest.raises(ClusterError, match=r"no rollout actor has been there for \d+ s; bring nodes back and continue"):
        training.result()
    assert any(f"--resume {run}" in line for line in heard)
    with pytest.raises(ClusterError, match=r"rollout.actors is auto and Ray has 0 CPUs for them; give it a larger clu"):
        train(RunConfig.model_validate(values), resume=str(run), quiet=True)
