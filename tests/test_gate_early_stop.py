"""Stopping early: the stated error rates hold, by computation and over 10,000 synthetic policies."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from physai.errors import ConfigError
from physai.evaluate.early_stop import EarlyStop, _Lot, early_stop

POLICIES = 10_000
EPISODES = 200


def lots(failures: int, rng: np.random.Generator) -> np.ndarray:
    """Outcomes of `POLICIES` evaluations of which each has so many failures, in random order."""
    outcomes = np.ones((POLICIES, EPISODES), dtype=bool)
    outcomes[:, :failures] = False
    return rng.permuted(outcomes, axis=1)


def at_most(rate: float) -> float:
    """What a share with this expectation stays below in all but one in 30,000 simulations (4 standard deviations)."""
    return rate + 4.0 * (rate * (1.0 - rate) / POLICIES) ** 0.5


@pytest.mark.parametrize("risk", [0.01, 0.05])
@pytest.mark.parametrize("bar", [0.8, 0.95])
def test_the_stated_error_rates_hold_where_it_is_hardest(bar: float, risk: float) -> None:
    test = early_stop(bar, EPISODES, risk)
    rng = np.random.default_rng(0)
    _, passed = test.stops_after(lots(test.allowed_failures + 1, rng))
    assert passed.mean() == pytest.approx(test.false_pass, abs=at_most(risk) - risk)
    _, passed = test.stops_after(lots(test.allowed_failures, rng))
    assert (~passed).mean() == pytest.approx(test.false_fail, abs=at_most(risk) - risk)
    assert 0.5 * risk < test.false_pass <= risk
    assert 0.5 * risk < test.false_fail <= risk


def test_the_stated_error_rates_hold_over_policies_of_every_quality() -> None:
    test = early_stop(0.95, EPISODES, 0.01)
    rng = np.random.default_rng(1)
    outcomes = rng.random((POLICIES, EPISODES)) < rng.uniform(0.85, 1.0, (POLICIES, 1))
    full = outcomes.sum(axis=1) >= 190
    played, passed = test.stops_after(outcomes)
    assert 2_000 < full.sum() < 8_000
    assert passed[~full].mean() <= at_most(0.01)
    assert (~passed)[full].mean() <= at_most(0.01)
    assert played.mean() < 0.75 * EPISODES, "or it would save nothing"
    assert played.max() <= EPISODES


def test_away_from_the_hardest_lots_errors_are_rarer() -> None:
    test = early_stop(0.95, EPISODES, 0.05)
    false_passes = [_Lot(EPISODES, failures).stopped(test.pass_at, test.fail_at)[0] for failures in range(11, 20)]
    assert false_passes == sorted(false_passes, reverse=True)
    false_fails = [_Lot(EPISODES, failures).stopped(test.pass_at, test.fail_at)[1] for failures in range(11)]
    assert false_fails == sorted(false_fails)


def test_a_lot_is_hypergeometric() -> None:
    row = _Lot(20, 5).table()[8]
    assert row == pytest.approx([comb(5, f) * comb(15, 8 - f) / comb(20, 8) for f in range(6)])


def test_what_no_episode_can_change_ends_at_once_and_without_error() -> None:
    test = early_stop(1.0, 50, 0.01)
    assert test.verdict([True] * 30 + [False]) is False
    assert test.certain([True] * 30 + [False])
    assert not test.certain([True] * 49)
    assert test.verdict([True] * 49) is None
    assert test.verdict([True] * 50) is True
    assert (test.false_pass, test.false_fail) == (0.0, 0.0)
    nothing_asked = early_stop(0.0, 50, 0.01)
    assert nothing_asked.verdict([]) is None
    assert nothing_asked.verdict([False]) is True


def test_the_loop_and_the_vectorised_form_agree() -> None:
    test = early_stop(0.9, 60, 0.02)
    outcomes = np.random.default_rng(2).random((200, 60)) < 0.9
    played, passed = test.stops_after(outcomes)
    for row, count, verdict in zip(outcomes, played, passed, strict=True):
        assert stepped(test, row.tolist()) == (count, verdict)


def stepped(test: EarlyStop, outcomes: list[bool]) -> tuple[int, bool]:
    for count in range(1, len(outcomes) + 1):
        verdict = test.verdict(outcomes[:count])
        if verdict is not None:
            return count, verdict
    raise AssertionError("the test has not ended")


@pytest.mark.parametrize(("bar", "episodes"), [(0.95, 1), (0.5, 2), (0.95, 200), (0.07, 100), (0.95, 2_000)])
def test_it_always_ends_with_the_verdict_of_all_episodes_at_the_latest(bar: float, episodes: int) -> None:
    test = early_stop(bar, episodes, 0.01)
    assert (test.pass_at < test.fail_at).all(), "never both"
    assert test.pass_at[episodes] == test.allowed_failures
    assert test.fail_at[episodes] == test.allowed_failures + 1


def test_impossible_designs_are_refused() -> None:
    with pytest.raises(ConfigError, match="risk of stopping early is"):
        early_stop(0.9, 100, 0.5)
    with pytest.raises(ConfigError, match="plan at most 2,000"):
        early_stop(0.9, 2_001, 0.01)
