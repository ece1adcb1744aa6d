"""Requirements: how they are read, what they are checked against, and what becomes of them."""

from __future__ import annotations

import re

import pytest

from physai.errors import ConfigError
from physai.evaluate import figures
from physai.evaluate.episodes import EpisodeRecord
from physai.evaluate.gate import Check, Gate, Rule
from physai.spec import PolicySpec
from physai_envs import registry

PEG: PolicySpec = registry.task("peg_insertion").policy_spec()
AMR: PolicySpec = registry.task("amr_navigation").policy_spec()
FORCES = {"peak_force": [float(force) for force in range(101)]}


@pytest.mark.parametrize(
    ("text", "value", "passed"),
    [
        ("peak_force<50.1", 50.0, True),
        ("peak_force < 50", 50.0, False),
        ("peak_force<=50", 50.0, True),
        ("mean(peak_force)>=50", 50.0, True),
        ("p95(peak_force)<95", 95.0, False),
        ("p95( peak_force ) <= 95", 95.0, True),
        ("p5(peak_force)>4.9", 5.0, True),
        ("median(peak_force)<1e3", 50.0, True),
        ("min(peak_force)>0", 0.0, False),
        ("max(peak_force)<=100", 100.0, True),
        ("std(peak_force)<29.4", pytest.approx(29.30017), True),  # sqrt(101 * 102 / 12)
    ],
)
def test_a_rule_is_what_it_says(text: str, value: float, passed: bool) -> None:
    check = Rule.parse(text).check(FORCES)
    assert check.value == value
    assert check.passed is passed
    assert Rule.parse(check.rule) == Rule.parse(text), "what is reported can be typed again"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("peak_force", "cannot be read"),
        ("peak_force=30", "cannot be read"),
        ("p95(peak_force<30", "cannot be read"),
        ("q95(peak_force)<30", "asks for 'q95'; allowed are mean, median, min, max, std, and p1 to p99"),
        ("p100(peak_force)<30", "asks for 'p100'"),
        ("peak_force<thirty", "compares with 'thirty'; give a number"),
        ("peak_force<nan", "give a finite number"),
    ],
)
def test_what_is_no_rule_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        Rule.parse(text)


def test_a_figure_that_no_episode_has_is_not_met() -> None:
    check = Rule.parse("time_to_success_s<3").check({})
    assert check == Check("time_to_success_s < 3", None, False)
    assert "no episode has it" in str(check)


def test_a_mistyped_figure_names_the_nearest_before_anything_is_played() -> None:
    with pytest.raises(ConfigError, match="PegInsertion-v0 has no figure 'peak_forse'; did you mean 'peak_force'"):
        Gate.of(None, None, ["peak_forse<30"]).bound_to(PEG)


def test_collisions_are_judged_where_there_are_any() -> None:
    (rule,) = Gate.of(max_collision=0.01).bound_to(AMR)
    assert str(rule) == "collided <= 0.01"
    with pytest.raises(ConfigError, match="PegInsertion-v0 has no metric of collisions; leave out --max-collision"):
        Gate.of(max_collision=0.01).bound_to(PEG)


def test_every_declared_figure_can_be_required() -> None:
    for name in figures.declared(PEG) or ():
        assert Gate.of(requirements=[f"{name}<1"]).bound_to(PEG)[0].figure == name


def test_the_success_rate_may_be_required_in_both_ways() -> None:
    assert Gate.of(0.9, None, ["success>=0.95", "p5(success)>=0.99"]).min_success == 0.95
    assert Gate.of(None, None, ["peak_force<3"]).min_success is None


def test_time_to_success_is_that_of_successes_alone() -> None:
    won = EpisodeRecord(1, 40, 1.0, True, 30, {"near": 2.0}, {"peak": 3.0}, 0.1, 0.0, 0.0)
    lost = EpisodeRecord(2, 40, 1.0, False, 30, {"near": 4.0}, {"peak": 5.0}, 0.1, 0.0, 0.0)
    found = figures.by_name([won, lost], control_hz=20.0)
    assert found["time_to_success_s"] == [1.5]
    assert (found["success"], found["reward.near"], found["peak"]) == ([1.0, 0.0], [2.0, 4.0], [3.0, 5.0])
