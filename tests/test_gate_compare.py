"""Comparing two policies: exact McNemar and paired bootstrap, whose error rates are checked over 10,000 comparisons."""

from __future__ import annotations

from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_toys import SPEC

from physai.errors import ConfigError
from physai.evaluate import Report
from physai.evaluate.baseline import compared, read
from physai.evaluate.compare import (
    BETTER,
    NO_EVIDENCE,
    WORSE,
    Comparison,
    bootstrap_interval,
    compare,
    flip_p_value,
    mcnemar,
)
from physai.evaluate.episodes import EpisodeRecord
from physai.evaluate.gate import Gate

POLICIES, EPISODES = 10_000, 200


def episodes(success: Any, **figures: Any) -> list[EpisodeRecord]:
    columns = {name: np.broadcast_to(values, len(success)) for name, values in figures.items()}
    return [
        EpisodeRecord(
            1_000_000 + i, 10, float(won), None if won is None else bool(won), 10 if won else None, {},
            {name: float(values[i]) for name, values in columns.items()}, 0.0, 0.0, 0.0,
        )
        for i, won in enumerate(success)
    ]  # fmt: skip


def found(new: Any, old: Any, **settings: Any) -> Comparison:
    return compare(new, old, baseline="old", control_hz=10.0, **settings)


def test_mcnemar_is_a_sign_test_of_the_odd_pairs() -> None:
    # 2 * (C(12,0) + C(12,1) + C(12,2)) / 2^12
    assert mcnemar(10, 2) == pytest.approx(2 * (1 + 12 + comb(12, 2)) / 2**12)
    assert mcnemar(2, 10) == mcnemar(10, 2)
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1.0


def test_equal_policies_are_called_different_as_rarely_as_stated() -> None:
    """Two policies of the same quality, whose successes depend on the episode that both play."""
    rng = np.random.default_rng(0)
    hardness = rng.random((POLICIES, EPISODES))
    quality = rng.uniform(0.6, 1.0, (POLICIES, 1))
    new, old = ((0.7 * hardness + 0.3 * rng.random((POLICIES, EPISODES))) < quality for _ in range(2))
    odd = np.stack([(new & ~old).sum(axis=1), (old & ~new).sum(axis=1)], axis=1)
    p_values = np.asarray([mcnemar(int(b), int(c)) for b, c in odd])
    false_alarms = p_values <= 0.05
    assert false_alarms.mean() <= 0.05 + 4 * (0.05 * 0.95 / POLICIES) ** 0.5
    assert false_alarms.mean() > 0.01, "or it would see nothing"
    worse = false_alarms & (odd[:, 1] > odd[:, 0])
    assert worse.mean() <= 0.025 + 4 * (0.025 * 0.975 / POLICIES) ** 0.5


def test_a_real_regression_is_seen() -> None:
    """From 97 % to 90 %: 200 episodes see it in at least 80 of 100 comparisons."""
    rng = np.random.default_rng(1)
    old = rng.random((POLICIES, EPISODES)) < 0.97
    new = old & (rng.random((POLICIES, EPISODES)) < 0.9 / 0.97)
    odd = (old & ~new).sum(axis=1)
    assert np.mean([mcnemar(0, int(count)) <= 0.05 for count in odd]) > 0.8


@pytest.mark.parametrize("shape", ["normal", "heavy tails", "counts"])
def test_figures_of_equal_policies_are_called_different_as_rarely_as_stated(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over 10,000 comparisons of 60 episodes."""
    monkeypatch.setattr("physai.evaluate.compare.RESAMPLES", 199)  # for speed; the test is exact with any number
    rng = np.random.default_rng(2)
    draw = {
        "normal": rng.standard_normal,
        "heavy tails": lambda size: rng.exponential(size=size) ** 2,
        "counts": lambda size: rng.poisson(0.3, size=size).astype(float),
    }[shape]
    new, old = (draw((POLICIES, 60)) for _ in range(2))
    p_values = np.concatenate([flip_p_value(block) for block in np.split(new - old, 20)])
    assert (p_values <= 0.05).mean() <= 0.05 + 4 * (0.05 * 0.95 / POLICIES) ** 0.5
    assert (p_values <= 0.05).mean() > 0.02, "or it would see nothing"


def test_a_bootstrap_interval_covers_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("physai.evaluate.compare.RESAMPLES", 499)
    rows = np.random.default_rng(3).normal(1.0, 2.0, (2_000, EPISODES))
    low, high = np.concatenate([bootstrap_interval(block, 0.95) for block in np.split(rows, 10)], axis=1)
    assert ((low < 1.0) & (high > 1.0)).mean() == pytest.approx(0.94, abs=0.02)


def test_a_constant_difference_is_a_point() -> None:
    assert bootstrap_interval(np.full((1, 10), 2.0), 0.95).tolist() == [[2.0], [2.0]]
    both = bootstrap_interval(np.stack([np.full(10, 2.0), np.arange(10.0)]), 0.95)
    assert both[:, 0].tolist() == [2.0, 2.0]
    assert both[0, 1] < 4.5 < both[1, 1]


def test_better_worse_and_no_evidence() -> None:
    good, bad = episodes([True] * 40), episodes([True] * 30 + [False] * 10)
    assert found(good, bad).verdict == BETTER
    assert found(bad, good).verdict == WORSE
    same = found(good, good)
    assert same.verdict == NO_EVIDENCE
    assert same.sentence.startswith(
        "no evidence that it is better or worse than old: of 40 episodes it alone succeeds in 0"
    )
    worse = found(bad, good)
    assert (worse.only_new, worse.only_old) == (0, 10)
    assert worse.sentence == (
        "worse than old: of 40 episodes it alone succeeds in 0, the other alone in 10 (exact McNemar p = 0.002)"
    )


def test_a_figure_is_judged_where_a_requirement_says_which_way_is_better() -> None:
    rng = np.random.default_rng(3)
    force = rng.normal(20.0, 2.0, 60)
    old = episodes([True] * 60, force=force)
    new = episodes([True] * 60, force=force + rng.normal(3.0, 1.0, 60))
    assert found(new, old).verdict == NO_EVIDENCE, "nobody has said that force is bad"
    judged = found(new, old, directions={"force": -1})
    assert judged.verdict == WORSE
    assert judged.judged == ("success", "force")
    assert "worse in force" in judged.sentence
    assert found(new, old, directions={"force": 1}).verdict == BETTER


def test_more_judgements_need_more_evidence() -> None:
    """Six odd pairs are enough for one test at 5 %, and not for two."""
    new, old = episodes([False] * 6 + [True] * 30, steps_=1.0), episodes([True] * 36, steps_=1.0)
    assert mcnemar(0, 6) == pytest.approx(0.03125)
    assert found(new, old).verdict == WORSE
    assert found(new, old, directions={"steps_": -1}).verdict == NO_EVIDENCE


def test_without_success_the_return_is_judged() -> None:
    rng = np.random.default_rng(4)
    old = [replace(record, success=None, episode_return=float(rng.normal())) for record in episodes([True] * 50)]
    new = [replace(record, episode_return=record.episode_return - 1.0 - 0.1 * i % 0.3) for i, record in enumerate(old)]
    judged = found(new, old)
    assert (judged.verdict, judged.judged, judged.p_value) == (WORSE, ("return",), None)


def test_points_of_a_grid_are_compared_by_seed() -> None:
    def grid(rates: list[float]) -> dict[str, Any]:
        points = []
        for index, rate in enumerate(rates):
            successes = {str(seed): seed % 10 < 10 * rate for seed in range(100)}
            points.append({"at": {"noise_scale": float(index)}, "success": {"rate": rate}, "successes": successes})
        return {"points": points}

    new = old = episodes([True] * 100)
    judged = found(new, old, grids=(grid([1.0, 0.5]), grid([1.0, 0.9])))
    assert judged.verdict == WORSE
    assert "worse in success over the grid (0.75 against 0.95" in judged.sentence
    assert judged.points[1] == {"at": {"noise_scale": 1.0}, "new": 0.5, "old": 0.9}


def report(records: list[EpisodeRecord], **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "source": "new", "task": None, "spec": SPEC, "policy": {}, "records": tuple(records), "seed": 0,
        "first_seed": 1_000_000, "difficulty": None, "timing": {"wall_s": 1.0, "workers": 1},
    }  # fmt: skip
    return Report(**{**fields, **changes})


def never(policy: str) -> Report:
    raise AssertionError(f"{policy} was evaluated though its report is at hand")


def test_a_report_on_disk_saves_the_other_evaluation(tmp_path: Path) -> None:
    report(episodes([True] * 40)).write(tmp_path / "old.json")
    new = report(episodes([True] * 30 + [False] * 10)).judged(Gate())
    assert compared(new, str(tmp_path / "old.json"), never).exit_code == 1
    asked: list[str] = []

    def play(policy: str) -> Report:
        asked.append(policy)
        return report(episodes([True] * 30 + [False] * 10))

    assert compared(new, "old/run", play).exit_code == 0
    assert asked == ["old/run"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"first_seed": 1_100_000}, "other seeds"),
        ({"difficulty": 0.5}, "other difficulty"),
        ({"spec": replace(SPEC, task="Other-v0")}, "other task, physics"),
    ],
)
def test_other_episodes_are_not_compared(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    report(episodes([True] * 4), **changes).write(tmp_path / "old.json")
    with pytest.raises(ConfigError, match=words):
        compared(report(episodes([True] * 4)), str(tmp_path / "old.json"), never)


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no report to compare with"):
        read(str(tmp_path / "none.json"))
    (tmp_path / "old.json").write_text('{"schema": "physai-evaluation/1"}')
    with pytest.raises(ConfigError, match="holds no episodes to compare with; write it again"):
        read(str(tmp_path / "old.json"))
