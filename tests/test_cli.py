"""The command line as a person meets it: what it prints, one sentence for each mistake, and the exit codes."""

from __future__ import annotations

import builtins
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from physai import __version__, cli
from physai.cli import find
from physai.doctor import Finding, cluster, differing, packages
from physai.errors import BundleError
from physai.evaluate import Report
from physai.evaluate.episodes import EpisodeRecord
from physai.spec import ActionSpec, PolicySpec


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture
def physai(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Runs a command line in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["physai", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), captured.out, captured.err)

    return call


def refused(outcome: Outcome, *words: str) -> None:
    """One sentence on stderr, nothing on stdout, no traceback, exit code 2."""
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err


def make_run(folder: Path, task: str, name: str, age_s: int) -> Path:
    run = folder / "runs" / task / name
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("task: Pendulum-v1\n")
    os.utime(run / "config.yaml", (1_700_000_000 - age_s,) * 2)
    return run


def fake_report(successes: int) -> Report:
    """Ten episodes of one step, of which the first `successes` succeed."""
    spec = PolicySpec("physai/Reach-v0", 20.0, (), (ActionSpec("a", ("x",), "1", (-1.0,), (1.0,)),))
    records = tuple(
        EpisodeRecord(
            seed=1_000_000 + i, success=i < successes, success_at=1, episode_return=float(i), steps=1, action_change=0,
            reward_terms={"near": 0.5}, metrics={"final_error": 0.01}, seconds=1.0, physics_seconds=0.5,
        )
        for i in range(10)
    )  # fmt: skip
    timing = {"wall_s": 1.0, "workers": 2, "steps_per_s": 10.0}
    return Report("some/bundle", None, spec, {}, records, 0, 1_000_000, 1.0, timing)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replaces the evaluation by one that succeeds nine times in ten; returns what it was asked to evaluate."""
    asked: list[str] = []

    def fake(source: str, **_: Any) -> Report:
        asked.append(source)
        return fake_report(9)

    monkeypatch.setattr("physai.evaluate.evaluate", fake)
    return asked


def test_help_names_every_command(physai: Call) -> None:
    outcome = physai("--help")
    assert outcome.code == 0
    for command in ("train", "tune", "eval", "view", "export", "deploy", "submit", "jobs", "tasks", "runs", "doctor"):
        assert f"\n  {command} " in outcome.out


def test_version(physai: Call) -> None:
    assert physai("--version") == Outcome(0, f"{__version__}\n", "")


def test_a_mistyped_command_names_the_nearest(physai: Call) -> None:
    outcome = physai("trian")
    assert outcome.code == 2
    assert "train" in outcome.err
    assert "Traceback" not in outcome.err


def test_tasks_lists_and_shows_units(physai: Call) -> None:
    listed = physai("tasks", "--markdown")
    assert listed.code == 0
    assert "| reach | home | panda |" in listed.out
    shown = physai("tasks", "reach", "--markdown")
    assert "| joint_positions |" in shown.out
    assert "rad" in shown.out


def test_tasks_json_is_the_declaration(physai: Call) -> None:
    from physai_envs import registry

    data = json.loads(physai("tasks", "reach", "--json").out)
    task = registry.task("reach")
    assert data["id"] == task.full_id
    assert [term["name"] for term in data["spec"]["observations"]] == [term.name for term in task.observations]
    assert {row["name"]: row["weight"] for row in data["rewards"]} == {term.name: term.weight for term in task.rewards}


def test_a_wrong_task_name_names_the_nearest(physai: Call) -> None:
    refused(physai("tasks", "Raech"), "Raech", "did you mean 'reach'?")


def test_a_wrong_config_name_names_the_nearest(physai: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "shipped_configs", lambda: {"peg_insertion": Path("x"), "reach": Path("y")})
    refused(physai("train", "peg_insertoin"), "peg_insertoin", "did you mean 'peg_insertion'?")


def test_a_config_file_that_is_not_there(physai: Call) -> None:
    refused(physai("train", "my/own.yaml"), "my/own.yaml")


def test_train_without_a_configuration(physai: Call) -> None:
    refused(physai("train"), "no configuration given")


def test_a_wrong_config_key_names_the_nearest(physai: Call) -> None:
    refused(physai("train", "task=Pendulum-v1", "algorithm.gama=0.9"), "gama", "gamma")


def test_two_configurations_are_one_too_many(physai: Call) -> None:
    refused(physai("train", "a.yaml", "b.yaml"), "a.yaml", "b.yaml")


def test_train_passes_overrides_on(physai: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("physai.train.driver.train", lambda config, **rest: seen.update(config=config, **rest))
    assert physai("train", "task=Pendulum-v1", "algorithm.gamma=0.5", "--address", "auto").code == 0
    assert seen["config"].algorithm.gamma == 0.5
    assert (seen["address"], seen["resume"]) == ("auto", None)


def test_continue_finds_the_run_of_the_same_name(physai: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("physai.train.driver.train", lambda config, **rest: seen.append(rest["resume"]))
    words = ("train", "task=Pendulum-v1", "name=night", "--continue")
    assert physai(*words).code == 0
    run = make_run(tmp_path, "pendulum", "night", age_s=1)
    assert physai(*words).code == 0
    assert seen == [None, str(run.relative_to(tmp_path))]
    refused(physai("train", "task=Pendulum-v1", "--continue"), "give name=NAME")


def test_resume_of_something_that_is_no_run(physai: Call) -> None:
    refused(physai("train", "--resume", "nothing"), "nothing", "physai runs")


def test_the_newest_run_is_the_default(physai: Call, evaluated: list[str], tmp_path: Path) -> None:
    make_run(tmp_path, "pendulum", "old", age_s=100)
    newest = make_run(tmp_path, "reach", "new", age_s=1)
    assert physai("eval").code == 0
    assert evaluated == [str(newest.relative_to(tmp_path))]
    assert json.loads((newest / "evaluation.json").read_text())["episodes"] == 10


def test_what_is_recorded_in_a_run_is_in_its_report(
    physai: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run, told = make_run(tmp_path, "reach", "new", age_s=1), []
    monkeypatch.setattr("physai.view.record.record", lambda source, out, **_: out)
    monkeypatch.setattr("physai.train.run_report.refreshed", lambda run: told.append(run) or "")
    assert physai("view", str(run)).out.strip() == str(run / "rollout.mp4")
    assert physai("view", str(run), "--record", str(run / "rollout.html")).code == 0
    assert told == [run, run]
    assert physai("view", str(run), "--record", "elsewhere.mp4").code == 0
    assert len(told) == 2


def test_without_any_run_a_name_is_asked_for(physai: Call) -> None:
    refused(physai("eval"), "no run in runs/")


def test_runs_lists_the_newest_first(physai: Call, tmp_path: Path) -> None:
    assert "no runs" in physai("runs").out
    old = make_run(tmp_path, "pendulum", "old", age_s=100)
    new = make_run(tmp_path, "reach", "new", age_s=1)
    assert [run.name for run in find.find_runs()] == ["new", "old"]
    (new / "progress.csv").write_text("steps,success,validation/success\n1024,0.1,0.75\n2048,0.2,\n")
    fake_report(9).write(new / "evaluation.json")
    (old / "evaluation.json").write_text("{")
    outcome = physai("runs", "--markdown")
    assert outcome.code == 0
    first, second = outcome.out.splitlines()[2:]
    for words in ("runs/reach/new", "2048", "75.0%", "90.0% of 10 episodes"):
        assert words in first
    assert "runs/pendulum/old" in second
    assert "cannot be read" in second


@pytest.mark.parametrize(("bar", "code"), [("0.9", 0), ("0.95", 1)])
def test_eval_exits_1_below_the_bar(physai: Call, evaluated: list[str], bar: str, code: int) -> None:
    outcome = physai("eval", "some/bundle", "--min-success", bar)
    assert outcome.code == code
    assert ("success >= 0.95: it is 0.9, which is not met" in outcome.err) == bool(code)
    for words in ("90.0% of 10 episodes", "final_error", "near", "physai eval some/bundle"):
        assert words in outcome.out


def test_eval_json_on_stdout_is_nothing_but_json(physai: Call, evaluated: list[str]) -> None:
    outcome = physai("eval", "some/bundle", "--json", "-")
    assert json.loads(outcome.out)["success"]["rate"] == 0.9


def test_a_failure_of_ours_is_one_sentence(physai: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, trust: object) -> None:
        raise BundleError(f"{path}: policy.onnx is damaged; export it again")

    monkeypatch.setattr("physai.deploy.bundle.load_bundle", broken)
    refused(physai("deploy", "verify", "bundle"), "bundle: policy.onnx is damaged; export it again")


def test_a_missing_extra_is_named(physai: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def base_install(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("physai_envs"):
            raise ModuleNotFoundError("No module named 'gymnasium'", name="gymnasium")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", base_install)
    refused(physai("tasks"), "[eval]", "gymnasium", "pip install 'physai[eval]'")


def test_ctrl_c_exits_130(physai: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path, trust: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("physai.deploy.bundle.load_bundle", interrupted)
    assert physai("deploy", "verify", "bundle").code == 130


def test_doctor_exits_2_when_something_essential_is_missing(physai: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    well = Finding("python", "3.11.7")
    monkeypatch.setattr("physai.doctor.examine", lambda quick: [well, Finding("disk", "little", good=False)])
    outcome = physai("doctor")
    assert outcome.code == 0
    assert outcome.out.splitlines()[1].startswith("note")
    monkeypatch.setattr("physai.doctor.examine", lambda quick: [well, Finding("ray", "gone", good=False, usable=False)])
    outcome = physai("doctor")
    assert outcome.code == 2
    assert outcome.out.splitlines()[1].startswith("PROBLEM")


def test_doctor_looks_at_this_machine(physai: Call) -> None:
    outcome = physai("doctor", "--quick")
    assert outcome.code == 0
    for what in ("python", "[train]", "versions", "cores", "memory", "disk", "cluster"):
        assert f" {what} " in outcome.out


def test_doctor_says_what_a_cluster_needs(tmp_path: Path) -> None:
    file = tmp_path / "token"
    environment = {"RAY_AUTH_TOKEN_PATH": str(file)}
    assert "ray get-auth-token --generate" in cluster(environment).detail
    file.write_text("secret")
    file.chmod(0o644)
    assert cluster(environment).mark == "note"
    assert f"chmod 600 {file}" in cluster(environment).detail
    file.chmod(0o600)
    assert "RAY_AUTH_MODE is not set" in cluster(environment).detail
    told = cluster({**environment, "RAY_AUTH_MODE": "token"})
    assert told.detail.startswith("a token is there, and is shown")
    assert "secret" not in told.detail


@pytest.mark.parametrize(("missing", "mark"), [([], "OK"), (["a"], "PROBLEM"), (["a", "b"], "note")])
def test_half_an_extra_is_a_problem_and_none_of_it_a_choice(
    monkeypatch: pytest.MonkeyPatch, missing: list[str], mark: str
) -> None:
    monkeypatch.setattr("physai.doctor.DISTRIBUTIONS", {"train": ("a", "b")})
    finding = next(iter(packages({"train": missing})))
    assert finding.mark == mark
    for name in missing:
        assert name in finding.detail


def test_doctor_compares_versions_with_the_tested_ones() -> None:
    lines = 'numpy==0.1\nnot-installed==3\n# a remark\ntyper==0.1; python_version < "3.0"\n'
    found = [text for text in differing(lines) if text.startswith("numpy ")]
    assert len(found) == 1
    assert found[0].endswith("(tested: 0.1)")
