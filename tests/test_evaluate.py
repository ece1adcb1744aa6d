"""Evaluation: the same answer for any number of workers, from episodes that are counted right."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_policies import one_sentence, save_bundle, save_zip, untrained
from evaluation_toys import BROKEN, BROKEN_SEED, CHOICE, SPEC, STEPS, TASK, Toy
from numpy.typing import NDArray

from physai.errors import ConfigError, PhysaiError, SimulationError, StorageError
from physai.evaluate import Report, evaluate
from physai.evaluate.episodes import Actor, EpisodeRecord, play
from physai.evaluate.evaluation import first_seed
from physai.evaluate.gate import Gate
from physai.evaluate.progress import Meter
from physai.evaluate.provenance import physics_digest
from physai.export import export
from physai.policy import load_policy
from physai.spec import PolicySpec
from physai_envs import registry


class Alternating:
    """Acts 0, 1, 0, 1 in all elements."""

    def __init__(self, spec: PolicySpec = SPEC, high: float = 1.0) -> None:
        self.spec, self.high, self.calls = spec, high, 0

    def reset(self) -> None:
        self.calls = 0

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        self.calls += 1
        return np.full((1, self.spec.action_size), self.high * ((self.calls + 1) % 2), dtype=np.float32)


def played(actor: Actor, seeds: range) -> list[EpisodeRecord]:
    """Episodes of the toy, in this process."""
    env = registry.make(TASK)
    return [play(env, actor, seed) for seed in seeds]


def report(records: list[EpisodeRecord], **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "source": "some run", "task": None, "spec": SPEC, "policy": {}, "records": tuple(records), "seed": 0,
        "first_seed": 1_000_000, "difficulty": None, "timing": {"wall_s": 1.0},
    }  # fmt: skip
    return Report(**{**fields, **changes})


@pytest.fixture(scope="module")
def records() -> list[EpisodeRecord]:
    return played(Alternating(), range(1_000_000, 1_000_010))


def test_an_episode_is_counted_right(records: list[EpisodeRecord]) -> None:
    even, odd = records[0], records[1]
    assert (even.seed, even.steps, even.episode_return) == (1_000_000, STEPS, 0.5 * STEPS)
    assert even.reward_terms == {"half": 0.25 * STEPS, "step": sum(range(1, STEPS + 1))}
    assert (even.success, even.success_at) == (True, 5)
    assert (odd.success, odd.success_at) == (False, None)
    assert odd.metrics == {"last_digit": 1.0}
    assert even.action_change == pytest.approx(1.0), "from 0 to 1 and back in every step"


def test_smoothness_of_choices_counts_changes() -> None:
    env = registry.make(CHOICE)
    record = play(env, Alternating(registry.policy_spec(env)), 1_000_000)
    env.close()
    assert record.action_change == 1.0
    assert record.success is None


def test_the_report_adds_up(records: list[EpisodeRecord]) -> None:
    data = report(records).to_dict()
    assert data["success"]["rate"] == 0.5
    assert data["success"]["interval"] == pytest.approx([0.2366, 0.7634], abs=1e-4)
    assert data["return"] == {"mean": 6.0, "std": 0.0, "min": 6.0, "max": 6.0}
    assert data["time_to_success_s"]["mean"] == 0.5, "5 steps at 10 Hz"
    assert data["metrics"] == {"last_digit": {"mean": 4.5, "p95": pytest.approx(8.55), "max": 9.0}}
    assert data["reward_terms"]["half"]["mean"] == 3.0
    assert [episode["seed"] for episode in data["worst"]] == [1_000_001 + 2 * i for i in range(5)], "the failures"
    assert data["seeds"] == {"evaluation": 0, "start": 1_000_000, "count": 10}
    assert data["command"] == "physai eval 'some run' --episodes 10 --seed 0"


def test_the_bar_is_met_at_equality(records: list[EpisodeRecord]) -> None:
    assert report(records).judged(Gate.of(0.5)).exit_code == 0
    assert report(records).judged(Gate.of(0.51)).exit_code == 1
    silent = report([EpisodeRecord(1, 1, 0.0, None, None, {}, {}, 0.0, 0.1, 0.0)])
    assert silent.to_dict()["success"]["rate"] is None
    with pytest.raises(ConfigError, match="does not report is_success"):
        silent.judged(Gate.of(0.5))


def test_the_report_is_written_whole_or_not_at_all(
    records: list[EpisodeRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(records).write(tmp_path / "report.json")
    stored = json.loads((tmp_path / "report.json").read_text())
    report(records).write("-")
    assert json.loads(capsys.readouterr().out) == stored
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    with pytest.raises(StorageError, match="cannot be written"):
        report(records).write(tmp_path / "report.json" / "deeper")


def test_workers_play_what_one_process_plays(tmp_path: Path) -> None:
    path = save_zip(tmp_path)
    result = evaluate(path, task=TASK, episodes=9, seed=3, workers=2, progress=False)
    here = played(load_policy(path, TASK), range(1_300_000, 1_300_009))
    assert [without_times(record) for record in result.records] == [without_times(record) for record in here]
    assert result.to_dict()["seeds"] == {"evaluation": 3, "start": 1_300_000, "count": 9}
    assert result.successes == 5
    assert result.records[0].action_change > 0.0


def without_times(record: EpisodeRecord) -> EpisodeRecord:
    return replace(record, seconds=0.0, physics_seconds=0.0)


def test_the_report_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    """On real physics, with a policy as it is deployed."""
    untrained("reach").save(tmp_path / "model.zip")
    bundle = export(tmp_path / "model.zip", tmp_path / "bundle", task="reach")
    one, two = (evaluate(bundle, episodes=4, workers=workers, progress=False).to_dict() for workers in (1, 2))
    assert (one.pop("timing")["workers"], two.pop("timing")["workers"]) == (1, 2)
    assert one == two
    task = registry.task("reach")
    assert one["difficulty"] == 1.0
    assert one["physics"]["hz"] == task.physics.hz
    assert set(one["reward_terms"]) == {term.name for term in task.rewards}
    assert one["return"]["std"] > 0.0, "the episodes differ"


def test_a_broken_episode_is_named_by_its_seed(tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "bundle")
    found = evaluate(bundle, task=BROKEN, episodes=6, workers=2, progress=False)
    (failure,) = found.failures
    assert failure.seed == BROKEN_SEED
    assert re.search(f"the reward is not finite .* seed {BROKEN_SEED}, step 7", failure.error)
    assert one_sentence(failure.error)
    assert [record.seed for record in found.records] == [1_000_000, 1_000_001, 1_000_002, 1_000_004, 1_000_005]
    assert found.exit_code == 2


def test_a_reward_term_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    env, step = Toy(), Toy.step

    def broken(self: Toy, action: Any) -> Any:
        *rest, info = step(self, action)
        info["reward_terms"]["step"] = float("inf") if self._time == 3 else 1.0
        return *rest, info

    monkeypatch.setattr(Toy, "step", broken)
    with pytest.raises(SimulationError, match=r"reward term 'step' is not finite \(inf\) .* seed 5, step 3"):
        play(env, Alternating(), 5)


def test_an_action_that_is_no_number_is_named_by_its_seed() -> None:
    with pytest.raises(SimulationError, match=r"an action of the policy is not finite .* seed 17, step 0"):
        played(Alternating(high=float("nan")), range(17, 18))


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"episodes": 0}, "episodes is 0"),
        ({"episodes": 100_001}, "100,000"),
        ({"seed": -1}, "evaluation seed is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"difficulty": 1.5}, "difficulty is 1.5"),
        ({"difficulty": 0.5}, "knows no difficulty"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path: Path, numbers: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        evaluate(save_bundle(tmp_path / "bundle"), progress=False, **numbers)


def test_an_environment_seed_stands_for_itself() -> None:
    """So that `physai view --seed` shows the episode that a report names."""
    assert first_seed(1_000_146, 1) == 1_000_146
    with pytest.raises(ConfigError, match="or be an environment seed of 1,000,000 or more"):
        first_seed(999_999, 1)


def test_evaluations_never_share_an_episode() -> None:
    assert first_seed(0, 200) == 1_000_000
    assert first_seed(1, 100_000) - first_seed(0, 100_000) == 100_000
    assert first_seed(10_000, 100_000) + 100_000 < 2**31


def test_a_missing_policy_is_refused_before_anything_starts() -> None:
    with pytest.raises(PhysaiError, match="neither a path nor a task"):
        evaluate("nothing/here", progress=False)


def test_the_physics_digest_follows_the_declaration() -> None:
    spec = registry.task("reach").policy_spec()
    faster = PolicySpec.from_dict({**spec.to_dict(), "physics": {**spec.physics, "hz": 480}})
    assert physics_digest(spec) == physics_digest(PolicySpec.from_dict(spec.to_dict()))
    assert physics_digest(spec) != physics_digest(faster)


def test_a_meter_speaks_while_the_job_is_busy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("physai.evaluate.progress.LINE_EVERY_S", 0.05)
    with Meter("frames", 3) as meter:
        meter.advance(2, "busy")
        time.sleep(0.3)
    assert "frames: 2 of 3 busy\n" in capsys.readouterr().err
    with Meter("loading", None) as meter:
        time.sleep(0.3)
        meter.advance(0, "waiting for a checkpoint")
        time.sleep(0.3)
        meter.advance(7, "seed 3")
        time.sleep(0.3)
    lines = capsys.readouterr().err.splitlines()
    assert list(dict.fromkeys(lines)) == ["loading", "loading: waiting for a checkpoint", "loading: 7 seed 3"]
    with Meter("frames", 3, shown=False):
        time.sleep(0.15)
    assert capsys.readouterr().err == ""
