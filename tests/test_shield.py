"""The shield: for any input, the output is inside every limit and braking fits; a limit that is gone is missed."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from physai.deploy.safety import Box, Safety, Workspace
from physai.deploy.shield import Reason, Shield, largest_step
from physai.spec import ActionSpec, ObservationSpec, PolicySpec

HZ = 20.0
LIMIT = 0.5  # m/s
SPEC = PolicySpec(
    "Shielded-v0", HZ,
    (ObservationSpec("tip_position", (3,), "m", (-2.0,) * 3, (2.0,) * 3),),
    (ActionSpec("tip_velocity", ("x", "y", "z"), "m/s", (-LIMIT,) * 3, (LIMIT,) * 3),
     ActionSpec("gripper", ("width",), "m", (-0.02,), (0.08,))),
)  # fmt: skip
WAITING = 2
SPACE = Workspace(slice(0, 3), slice(0, 3), Box("inside", (-0.3,) * 3, (0.3,) * 3), (), WAITING / HZ)
ROOM = 1e-9  # of rounding

anything = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True), st.floats(-1.0, 1.0), st.sampled_from([-LIMIT, LIMIT, 0.0, 1e30])
)
commands = st.lists(st.tuples(anything, anything, anything, anything), min_size=1, max_size=60)
rates = st.sampled_from([0.3, 1.0, 3.0, 20.0, math.inf])
changes = st.sampled_from([0.5, 3.0, 20.0, 200.0, math.inf])


def limited(rate: float = 3.0, change: float = 30.0, workspace: Workspace | None = None) -> Safety:
    low, high = SPEC.command_low.astype(float), SPEC.command_high.astype(float)
    return Safety(low, high, np.full(4, rate), np.full(4, change), workspace)


def broken_limits(safety: Safety, sent: list[list[float]]) -> list[str]:
    """Names of the limits that a sequence of commands, from rest on, does not keep."""
    rest = [0.0] * 4
    values = np.array([rest, rest, *sent])
    steps = np.diff(values, axis=0)
    broken = []
    if not np.isfinite(values).all():
        broken.append("finite")
    if not ((values >= safety.low) & (values <= safety.high)).all():
        broken.append("range")
    if not (np.abs(steps) <= safety.rate / HZ + ROOM).all():
        broken.append("rate")
    if not (np.abs(np.diff(steps, axis=0)) <= safety.rate_change / HZ**2 + ROOM).all():
        broken.append("rate_change")
    return broken


@settings(max_examples=150, deadline=None)
@given(commands, rates, changes)
def test_whatever_is_wanted_every_limit_is_kept(wanted: list[Any], rate: float, change: float) -> None:
    safety = limited(rate, change)
    shield = Shield(safety, SPEC)
    sent = [shield(values) for values in wanted]
    assert broken_limits(safety, sent) == []
    while not shield.resting:  # and from wherever it is, it comes to rest within the limits
        sent.append(shield.stop())
        assert len(sent) < 5000
    assert broken_limits(safety, sent) == []
    assert sent[-1] == pytest.approx([0.0] * 4, abs=ROOM)


@settings(max_examples=150, deadline=None)
@given(commands, rates, changes)
def test_what_is_within_the_limits_passes_unchanged(wanted: list[Any], rate: float, change: float) -> None:
    first, second = Shield(limited(rate, change), SPEC), Shield(limited(rate, change), SPEC)
    for values in wanted:
        sent = first(values)
        assert second(sent) == pytest.approx(sent, abs=ROOM)


def motion(shield: Shield, wanted: list[Any], delay: int, start: tuple[float, ...]) -> np.ndarray:
    """Positions of an ideal robot that obeys `delay` ticks late: while it does what is wanted, then while it stops."""
    position, path, underway = np.array(start), [np.array(start)], [[0.0] * 3] * delay

    def go(command: list[float]) -> None:
        nonlocal position
        underway.append(command[:3])
        position = position + np.array(underway.pop(0)) / HZ
        path.append(position)

    for values in wanted:
        go(shield(values, position.tolist()))
    while not shield.resting:
        go(shield.stop())
    for _ in range(delay):
        go([0.0] * 4)
    return np.array(path)


pushes = st.lists(st.tuples(*[st.sampled_from([-LIMIT, LIMIT, math.nan, 0.1])] * 4), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(pushes, rates, changes, st.integers(0, WAITING), st.tuples(*[st.floats(-0.3, 0.3)] * 3))
def test_braking_always_ends_inside(wanted: list[Any], rate: float, change: float, delay: int, start: Any) -> None:
    shield = Shield(limited(rate, change, SPACE), SPEC)
    path = motion(shield, [values for values in wanted for _ in range(12)], delay, start)
    assert (np.abs(path) <= 0.3 + ROOM).all()


BLOCK = Box("a column", (0.1, -0.1, -1.0), (0.2, 0.1, 1.0))


@settings(max_examples=100, deadline=None)
@given(pushes, rates, changes, st.integers(0, WAITING))
def test_what_is_to_be_kept_out_of_is_never_entered(wanted: list[Any], rate: float, change: float, delay: int) -> None:
    shield = Shield(limited(rate, change, replace(SPACE, keep_out=(BLOCK,))), SPEC)
    path = motion(shield, [values for values in wanted for _ in range(12)], delay, (0.0, 0.0, 0.0))
    inside = ((path > np.array(BLOCK.low) + ROOM) & (path < np.array(BLOCK.high) - ROOM)).all(axis=1)
    assert not inside.any()


FORTH_AND_BACK = [(LIMIT,) * 3 + (1.0,)] * 15 + [(-9.0, math.nan, -LIMIT, -math.inf)] * 15


@pytest.mark.parametrize("limit", ["range", "rate", "rate_change"])
def test_a_limit_that_is_gone_is_missed(limit: str) -> None:
    """Mutation: the same limits less one do not pass the checks above, so the checks see that one."""
    endless = {"range": {"low": np.full(4, -math.inf), "high": np.full(4, math.inf)}}.get(
        limit, {limit: np.full(4, math.inf)}
    )  # fmt: skip
    safety = limited(rate=1.0, change=10.0)
    whole, mutant = Shield(safety, SPEC), Shield(replace(safety, **endless), SPEC)
    assert broken_limits(safety, [whole(values) for values in FORTH_AND_BACK]) == []
    assert limit in broken_limits(safety, [mutant(values) for values in FORTH_AND_BACK])


@pytest.mark.parametrize("without", ["workspace", "keep_out", "reaction_s"])
def test_a_place_that_is_not_limited_is_left_or_entered(without: str) -> None:
    space = {"workspace": None, "keep_out": SPACE, "reaction_s": replace(SPACE, reaction_s=0.0)}[without]
    push = [(LIMIT, 0.0, 0.0, 0.0)] * 40
    path = motion(Shield(limited(workspace=space), SPEC), push, WAITING, (0.0, 0.0, 0.0))
    assert path.max() > (0.1 if without == "keep_out" else 0.3) + 1e-3


def test_finite_is_checked_first() -> None:
    shield = Shield(limited(math.inf, math.inf), SPEC)
    assert shield((math.nan, math.inf, 0.2, -math.inf)) == [0.0, 0.0, 0.2, 0.0]
    assert shield.reasons == Reason.FINITE


def test_it_says_what_it_changed_and_by_how_much() -> None:
    shield = Shield(limited(rate=2.0, change=1e6), SPEC)
    assert shield((0.1, 0.0, 0.0, 0.0)) == [0.1, 0.0, 0.0, 0.0]
    assert (shield.reasons, shield.correction) == (0, 0.0)
    assert shield((0.4, 0.0, 0.0, 0.0)) == pytest.approx([0.2, 0.0, 0.0, 0.0])  # 2 / 20 Hz a tick
    assert shield.reasons == Reason.RATE
    assert shield.correction == pytest.approx(0.2)  # 0.2 of 1.0 m/s
    shield((9.0, 0.0, 0.0, 0.0))
    assert shield.reasons == Reason.RANGE | Reason.RATE


def test_it_stays_at_the_wall_and_comes_back() -> None:
    shield = Shield(limited(workspace=SPACE), SPEC)
    path = motion(shield, [(LIMIT, 0.0, 0.0, 0.0)] * 80, 0, (0.0, 0.0, 0.0))
    assert 0.25 < path[-1, 0] <= 0.3, "close to it"
    assert shield.reasons == 0 or shield.last[0] == 0.0
    path = motion(shield, [(-LIMIT, 0.0, 0.0, 0.0)] * 20, 0, (0.31, 0.0, 0.0))
    assert path[-1, 0] < 0.25, "from outside, one may return"
    assert np.diff(path[:, 0]).max() <= ROOM, "and never go further out"


def test_an_unknown_position_means_braking() -> None:
    for position in ((), (math.nan, 0.0, 0.0)):
        shield = Shield(limited(workspace=SPACE), SPEC)
        shield((LIMIT, 0.0, 0.0, 0.01), (0.0, 0.0, 0.0))
        sent = [shield((LIMIT, 0.0, 0.0, 0.01), position) for _ in range(6)][-1]
        assert sent == pytest.approx([0.0, 0.0, 0.0, 0.01])
        assert shield.reasons & Reason.WORKSPACE


@pytest.mark.parametrize(("room", "change"), [*itertools.product([0.0, 0.3, 1.0, 7.77], [0.05, 0.3, 2.0, math.inf])])
def test_the_largest_step_uses_the_whole_room(room: float, change: float) -> None:
    step = largest_step(room, change)
    total, following = 0.0, step
    while following > 0.0:
        total, following = total + following, following - change
    assert total == pytest.approx(room, abs=1e-9)


def test_a_held_command_is_a_rate_of_zero() -> None:
    shield = Shield(limited(rate=3.0, change=10.0), SPEC)
    for _ in range(4):
        shield((LIMIT, 0.0, 0.0, 0.0))
    before = shield.last[0]
    shield.held()
    assert shield((LIMIT, 0.0, 0.0, 0.0))[0] - before == pytest.approx(10.0 / HZ**2)


def test_choices_are_choices() -> None:
    action = ActionSpec(
        "choice", ("choice",), "", (0.0,), (2.0,), policy_low=(0.0,), policy_high=(2.0,), kind="discrete"
    )
    spec = PolicySpec("Choice-v0", HZ, SPEC.observations, (action,))
    endless = np.full(1, math.inf)
    shield = Shield(Safety(np.zeros(1), np.full(1, 2.0), endless, endless), spec)
    assert [shield((v,))[0] for v in (1.0, 2.0, 7.0, math.nan, -3.0)] == [1.0, 2.0, 2.0, 0.0, 0.0]
