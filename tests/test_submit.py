"""A run elsewhere is a command line: it says the same as the configuration, and warns of what would be lost."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import toys

from physai.config import RunConfig
from physai.train import nodes, submit

SHIPPED = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))
ODD = {"reset_options": {"wind": [1, "a b's"], "on": True}, "warm_start": {}, "stop": {"success": None}}


def told(config: RunConfig) -> RunConfig:
    """What the command line on the cluster would load."""
    program, command, *words, option, address = shlex.split(submit.command(submit.overrides(config)))
    assert (program, command, option, address) == ("physai", "train", "--address", "auto")
    return RunConfig.load(None, words)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_command_line_says_what_the_configuration_says(path):
    assert told(RunConfig.load(path)) == RunConfig.load(path)


@pytest.mark.parametrize(
    "more", [{}, ODD, {"algorithm": {"learning_rate": 1e-5, "network": [8, 4]}}, {"name": "15289_00001"}]
)
def test_whatever_is_in_it(more):
    config = RunConfig.model_validate(toys.small(**more))
    assert told(config) == config


@pytest.mark.parametrize(
    ("storage", "warned"), [("runs", True), ("./a", True), ("/mnt/shared", False), ("s3://bucket/runs", False)]
)
def test_a_folder_that_only_one_machine_has_is_warned_of(storage, warned):
    config = RunConfig.model_validate(toys.small(storage=storage))
    assert bool(submit.warnings(config)) == warned
    assert all(f"storage={storage}" in warning for warning in submit.warnings(config))


@pytest.mark.parametrize(("count", "warned"), [(1, False), (2, True)])
def test_a_relative_folder_is_warned_of_where_there_are_several_nodes(monkeypatch, count, warned):
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True}] * count + [{"Alive": False}])
    assert bool(nodes.check_storage("runs")) == warned
    assert nodes.check_storage("/mnt/runs") is None
