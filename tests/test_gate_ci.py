"""What other people's CI uses: workflow files, by the tools' own schemas and as they run; and the pytest fixture."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import junitparser
import pytest
import yaml
from evaluation_policies import save_bundle

from physai_configs import __path__ as configs

pytest_plugins = "pytester"

ROOT = Path(__file__).resolve().parent.parent
GITHUB, GITLAB = (Path(configs[0]) / "ci" / name for name in ("github-actions.yaml", "gitlab-ci.yaml"))
SCHEMAS = {GITHUB: "vendor.github-workflows", GITLAB: "vendor.gitlab-ci"}
PLUGIN = ("-p", "no:physai", "-p", "physai.pytest_plugin", "-p", "no:cacheprovider", "-p", "no:xdist")


def valid(path: Path, schema: str) -> bool:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_workflow_is_valid_by_the_schema_of_its_tool(path: Path, tmp_path: Path) -> None:
    assert valid(path, SCHEMAS[path])
    broken = tmp_path / path.name
    broken.write_text(path.read_text().replace("runs-on:", "runs_on:").replace("image:", "images:"))
    assert not valid(broken, SCHEMAS[path]), "the schema looks at it"


def scripts() -> dict[str, str]:
    """The lines with which each file evaluates."""
    steps = yaml.safe_load(GITHUB.read_text())["jobs"]["evaluate"]["steps"]
    (github,) = [step["run"] for step in steps if step.get("name") == "Evaluate"]
    (gitlab,) = yaml.safe_load(GITLAB.read_text())["evaluate"]["script"]
    return {GITHUB.name: github, GITLAB.name: gitlab}


@pytest.mark.parametrize("name", scripts())
def test_a_workflow_does_what_it_says(name: str, tmp_path: Path) -> None:
    (tmp_path / "physai").write_text(
        f"#!{sys.executable}\nfrom physai.cli import main\nif __name__ == '__main__':\n    main()\n"
    )
    (tmp_path / "physai").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "POLICY": "reach", "EPISODES": "2"}
    done = subprocess.run(
        ["bash", "-e", "-c", scripts()[name]], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "passed" in (tmp_path / "evaluation.md").read_text()
    assert junitparser.JUnitXml.fromfile(str(tmp_path / "evaluation.xml")).tests == 1
    assert (tmp_path / "evaluation.html").exists()


def test_no_workflow_gives_more_than_it_has_to() -> None:
    github = yaml.safe_load(GITHUB.read_text())
    assert github["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert "pull_request_target" not in GITHUB.read_text(), "it would give strangers' code a token that may write"


def test_a_bundle_is_evaluated_without_torch_and_ray(tmp_path: Path) -> None:
    """Which is what the extra [eval] leaves out."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("torch", "ray", "stable_baselines3", "sb3_contrib", "onnx", "pyarrow"):
        (blocked / f"{name}.py").write_text("raise ImportError('left out')")
    code = "from physai.cli import main; main()"
    words = ["eval", "reach", "--episodes", "2", "--workers", "1", "--html", "a.html", "--json", "a.json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(blocked)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_pytest_finds_the_fixture_by_itself() -> None:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module = importlib.import_module(project["entry-points"]["pytest11"]["physai"])
    assert hasattr(module, "assert_policy_succeeds")


def test_the_fixture_passes_and_fails(pytester: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the toy's episodes succeed."""
    bundle = save_bundle(pytester.path / "bundle")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    pytester.makepyfile(
        f"""
        def test_good(assert_policy_succeeds):
            report = assert_policy_succeeds({str(bundle)!r}, min_success=0.5, episodes=4, workers=1)
            assert report.success_rate == 0.5

        def test_bad(assert_policy_succeeds):
            assert_policy_succeeds({str(bundle)!r}, episodes=4, workers=1, require=["p95(last_digit)<1"])
        """
    )
    result = pytester.runpytest_subprocess(*PLUGIN, "--junit-xml=out.xml")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*EvaluationToy-v0: below the bar, success 50.0% *of 4 episodes",
            "success >= 0.95: it is 0.5, which is not met",
            "p95(last_digit) < 1: it is *, which is not met",
            "to see the worst episode: physai view * --seed 1000001",
        ]
    )
    cases = ElementTree.parse(pytester.path / "out.xml").iter("testcase")
    (good,) = [case for case in cases if case.get("name") == "test_good"]
    properties = {p.get("name"): p.get("value") for p in good.iter("property")}
    assert properties["success"] == "0.5"


def test_the_fixture_costs_nothing_where_it_is_not_used() -> None:
    code = "import physai.pytest_plugin, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "gymnasium", "pybullet", "torch", "onnxruntime"} & set(loaded)
