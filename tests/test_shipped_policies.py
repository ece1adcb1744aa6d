"""The policies that ship: one for every task, trained by the shipped configuration, as good as its record says."""

import json
import re

import pytest
import yaml

from physai import catalog
from physai.config import RunConfig
from physai.deploy.bundle import load_bundle
from physai.evaluate import evaluate
from physai.policy import shipped_policy
from physai_assets import __path__ as assets
from physai_configs import __path__ as configs
from physai_envs import registry

NAMES = [registry.slug(task.id) for task in registry.tasks()]
MINE = ("name", "storage")  # where a run is kept is not part of what it is


@pytest.mark.parametrize("name", NAMES)
def test_it_is_intact_and_for_this_task(name):
    bundle = load_bundle(shipped_policy(name))
    assert bundle.spec == registry.task(name).policy_spec()


@pytest.mark.parametrize("name", NAMES)
def test_it_was_trained_by_the_configuration_that_ships_and_nothing_else(name):
    record = yaml.safe_load((shipped_policy(name) / "evidence" / "config.yaml").read_text())
    shipped = RunConfig.load(f"{configs[0]}/{name}.yaml", []).model_dump(mode="json")
    for config in (record, shipped):
        for key in MINE:
            config.pop(key)
        config["rollout"].pop("actors")  # the result does not depend on them
    assert record == shipped
    assert json.loads((shipped_policy(name) / "evidence" / "versions.json").read_text())["git_changed"] is False


@pytest.mark.parametrize("name", NAMES)
def test_its_record_tells_steps_wall_time_and_seed_and_how_it_was_started(name):
    record = shipped_policy(name) / "evidence"
    told = catalog.trained(record)
    assert re.search(r"; [1-9][0-9,]* steps, [1-9][0-9]* s on 2 cores; seed 0$", told), told
    warm = yaml.safe_load((record / "config.yaml").read_text())["warm_start"]
    assert told.startswith("DAgger from the scripted expert" if warm else "PPO from scratch")


@pytest.mark.parametrize("name", NAMES)
def test_the_first_episodes_of_its_record_come_out_again(name):
    record = json.loads((shipped_policy(name) / "evidence" / "evaluation.json").read_text())
    assert record["episodes"] >= 200
    assert record["seeds"]["start"] == 1_000_000
    command = f"physai eval assets/policies/{name} --episodes 200 --seed 0 --difficulty 1"
    assert record["command"] == command  # which anybody can type
    report = evaluate(shipped_policy(name), episodes=20, workers=1, progress=False)
    failed = {row["seed"] for row in record["worst"] if not row["success"]}
    again = {episode.seed for episode in report.records if not episode.success}
    assert again <= failed
    assert again == {seed for seed in failed if seed < 1_000_020}


def test_nothing_that_could_run_code_ships():
    from pathlib import Path

    suffixes = {path.suffix for path in Path(assets[0], "policies").rglob("*") if path.is_file()}
    assert suffixes <= {".onnx", ".npz", ".json", ".yaml", ".csv"}
