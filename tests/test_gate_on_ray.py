"""An evaluation whose workers are actors of a Ray cluster says what one of this machine says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from evaluation_policies import document, save_bundle
from gate_toys import CRASHES, FAULTY, HANGING, RAISES

from physai import cli
from physai.errors import ConfigError
from physai.evaluate import evaluate
from physai.evaluate.workers import Job, Seat
from physai.train.evaluators import Cluster, evaluators

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bundle(tmp_path_factory.mktemp("gate") / "bundle")


def test_the_command_takes_an_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["physai", "eval", "reach", "--episodes", "2", "--address", "127.0.0.1:1"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_a_grid_on_ray_is_the_grid_of_this_machine(one_ray: Path) -> None:
    settings: dict[str, Any] = {"episodes": 3, "perturbations": ["noise_scale=0:3:2"], "progress": False}
    with evaluators(None) as host:
        assert host.room() == 2
        there = evaluate("reach", host=host, **settings)
    assert there.timing["workers"] == 2
    assert document(there) == document(evaluate("reach", workers=1, **settings))


def test_what_crashes_raises_or_hangs_there_is_named(one_ray: Path, bundle: Path) -> None:
    settings: dict[str, Any] = {"episodes": 6, "workers": 2, "progress": False, "host": Cluster()}
    found = evaluate(bundle, task=FAULTY, **settings)
    crash, other = found.failures
    assert (crash.seed, other.seed) == (CRASHES, RAISES)
    assert "the process that plays it was lost, 2 times" in crash.error
    assert "ZeroDivisionError" in other.error
    found = evaluate(bundle, task=HANGING, timeout_s=6.0, **settings)
    assert [failure.seed for failure in found.failures] == [CRASHES, RAISES]
    assert len(found.records) == 4


def test_a_policy_that_is_another_there_is_refused(one_ray: Path, bundle: Path) -> None:
    with pytest.raises(ConfigError, match="changed while it was evaluated"):
        evaluate(bundle, episodes=2, workers=1, progress=False, host=Changing())


class Changing(Cluster):
    """A cluster on which the policy is another than here."""

    def hire(self, job: Job) -> Seat:
        return super().hire(replace(job, digest="another"))
