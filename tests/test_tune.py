"""Searching for a better configuration: what may be searched, and that a search ends, resumes and writes its best."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import toys

from physai import cli
from physai.config import RunConfig
from physai.errors import ConfigError
from physai.train import space, tune
from physai.train.space import Draw

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def written(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def refused(folder: Path, text: str, *, live: bool = False) -> str:
    with pytest.raises(ConfigError) as raised:
        space.load(written(folder, text), RunConfig.model_validate(toys.small()), live=live)
    return str(raised.value)


@pytest.mark.parametrize("path", sorted((CONFIGS / "tune").glob("*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("live", [False, True])
def test_the_spaces_that_ship_fit_the_configuration_of_their_name(path, live):
    assert space.load(path, RunConfig.load(CONFIGS / path.name), live=live)


def test_everything_that_is_wrong_with_a_space_comes_at_once(tmp_path):
    said = refused(
        tmp_path,
        "algorithm.gama: {uniform: [0.9, 0.99]}\n"
        "algorithm.learning_rate: {loguniform: [-1, 1]}\n"
        "algorithm.epochs: {chioce: [1, 2]}\n"
        "algorithm.gae_lambda: {uniform: [0.9, 1.5]}\n"
        "algorithm.clip_range: 0.2\n"
        "rollout.steps: {randint: [64, 16]}\n",
    )
    assert "has 6 problems" in said
    for line in (
        "algorithm.gama: no such key; did you mean 'gamma'?",
        "algorithm.learning_rate: loguniform takes numbers above 0, and not -1",
        "algorithm.epochs: nothing is drawn from 'chioce'; did you mean 'choice'?",
        "algorithm.gae_lambda: input should be less than or equal to 1, and not 1.5",
        "algorithm.clip_range: it should be one of uniform, loguniform, randint, choice with a list, and not 0.2",
        "rollout.steps: randint takes two numbers, the smaller first",
    ):
        assert line in said


def test_a_batch_size_may_be_searched_together_with_what_it_must_divide(tmp_path):
    found = space.load(
        written(tmp_path, "algorithm.batch_size: {choice: [32, 128]}\nrollout.steps: {choice: [16, 32]}\n"),
        RunConfig.model_validate(toys.small()),
    )
    assert found["algorithm.batch_size"] == Draw("choice", (32, 128))


def test_pbt_changes_only_what_can_change_while_a_run_goes_on(tmp_path):
    fixed = "rollout.steps: {choice: [16, 32]}\nalgorithm.network: {choice: [[8], [16]]}\n"
    said = refused(tmp_path, f"{fixed}algorithm.gamma: {{uniform: [0.9, 1]}}\n", live=True)
    assert "rollout.steps: pbt changes values while a run goes on" in said
    assert "algorithm.network: pbt" in said
    assert "has 2 problems" in said


@pytest.mark.parametrize("name", ["15289_00001", "1e5", "night", "0x1f"])
def test_a_trial_is_called_as_ray_tune_calls_it(name):
    assert space.varied(RunConfig.model_validate(toys.small()), {"name": name, "seed": 4}).name == name


def test_what_pbt_perturbs_stays_in_its_range():
    assert Draw("uniform", (0.9, 0.99)).clipped(1.188) == 0.99
    assert Draw("randint", (5, 20)).clipped(4.8) == 5
    assert Draw("choice", (1, 2)).clipped(2) == 2


def test_a_search_needs_a_space_and_a_folder_that_is_one(tmp_path, monkeypatch, capsys):
    for words, said in (
        (["task=a"], "a search needs --space FILE"),
        (["task=a", "--space", "x", "--resume", "y"], "give no configuration and no --space"),
        (["--resume", str(tmp_path)], "is no search (no search.json in it)"),
        (["task=Pendulum-v1", "--space", "missing.yaml"], "missing.yaml cannot be read: No such file"),
    ):
        monkeypatch.setattr(sys, "argv", ["physai", "tune", *words])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert stop.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert said in error


def toy(tmp_path: Path, steps: int = 256, task: str = "toys:Target-v0") -> RunConfig:
    values = toys.small(task, storage=str(tmp_path), name="search", rollout={"actors": 1}, stop={"steps": steps})
    return RunConfig.model_validate(values)


RATES = "algorithm.learning_rate: {choice: [0.01, 1.0e-12]}\nalgorithm.entropy: {uniform: [0.0, 0.001]}\n"


@pytest.mark.ray
def test_a_search_writes_a_table_and_a_configuration_that_trains(one_ray, tmp_path):
    search = tune.Search.create(toy(tmp_path), written(tmp_path, RATES), 2, "asha")
    found = tune.tune(search, quiet=True)
    assert found.head[5:] == ("algorithm.learning_rate", "algorithm.entropy")
    assert len(found.rows) == 2
    assert {row[1] for row in found.rows} <= {"done", "stopped"}
    assert "done" in {row[1] for row in found.rows}
    with (search.folder / "trials.csv").open(newline="") as file:
        assert [tuple(row) for row in csv.reader(file)] == [found.head, *found.rows]
    best = RunConfig.load(found.best)
    assert best.name is None
    assert f"{best.algorithm.learning_rate:.4g}" == found.rows[0][5]
    assert best.rollout == search.config.rollout
    for trial, how, *_ in found.rows:
        run = search.folder / "trials" / "target" / trial
        assert (run / "progress.csv").exists()
        assert RunConfig.load(run / "config.yaml").name == trial
        # the word to stop comes late on a busy machine: a trial that is stopped may have gone on
        assert how == "stopped" or (run / "progress.csv").read_text().splitlines()[-1].split(",")[1] == "256"
    with pytest.raises(ConfigError, match="exists already"):
        tune.Search.create(toy(tmp_path), written(tmp_path, RATES), 2, "asha")
    assert tune.tune(tune.Search.reopen(search.folder), quiet=True).rows == found.rows


@pytest.mark.slow
def test_a_search_that_was_cut_short_is_finished_by_resume(tmp_path):
    (tmp_path / "c.yaml").write_text(toy(tmp_path).to_yaml())
    words = [str(tmp_path / "c.yaml"), "stop.steps=64000", "--space", str(written(tmp_path, RATES)), "--trials", "2"]
    folder = tmp_path / "target" / "search"
    command = [sys.executable, "-c", "from physai.cli import main; main()", "tune"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    cut = subprocess.Popen(
        [*command, *words], env=environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while "trial " not in cut.stderr.readline():
        assert cut.poll() is None
    cut.send_signal(signal.SIGINT)
    _, said = cut.communicate(timeout=120)
    assert cut.returncode == 130, said
    assert f"physai tune --resume {folder}" in said
    assert not (folder / "best.yaml").exists()
    begun = {path.name for path in (folder / "trials" / "target").iterdir()}
    text = (folder / "base.yaml").read_text()
    (folder / "base.yaml").write_text(text.replace("steps: 64000", "steps: 1024"))  # else it would take minutes
    done = subprocess.run([*command, "--resume", str(folder)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "best configuration" in done.stdout
    assert begun <= {path.name for path in (folder / "trials" / "target").iterdir()}
    with (folder / "trials.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 2


@pytest.mark.ray
@pytest.mark.slow
def test_population_based_training_goes_on_from_the_best_with_other_values(one_ray, tmp_path):
    slow = toy(tmp_path, steps=1280, task="toys:Leisurely-v0")  # who has ended before the other began is no rival
    search = tune.Search.create(slow, written(tmp_path, RATES), 2, "pbt")
    found = tune.tune(search, quiet=True)
    assert [row[1] for row in found.rows] == ["done"] * 2
    runs = sorted(path for path in (search.folder / "trials" / "leisurely").iterdir())
    heirs = [run for run in runs if "-" in run.name]
    assert heirs, "nobody was replaced"
    assert len(runs) - len(heirs) == 2, "who was only paused began another run"
    for path in (search.folder / "ray_tune").glob("*/progress.csv"):
        with path.open(newline="") as file:
            assert all(int(row["steps"]) % 128 == 0 for row in csv.DictReader(file)), "it was not measured then"
    for run in heirs:
        first = (run / "progress.csv").read_text().splitlines()[1].split(",")
        assert int(first[0]) > 1, "it began anew"
        assert json.loads((run / "versions.json").read_text())
