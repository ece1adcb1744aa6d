"""Stops an evaluation whose verdict on the success rate is already clear, with error rates that are known exactly.

The planned episodes are a lot, of which those played so far are a random sample: seeds are drawn independently, so
every order of the outcomes is equally likely. Given how many of the lot fail, the failures seen after n episodes are
hypergeometric, whatever the policy's true success rate. So the chance that stopping early says something else than all
episodes would have said can be computed, and be bounded, without assuming anything about the policy; this is inspection
of a finite lot, as in ISO 28590. A verdict that no further episode can change (curtailment) has no error at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from physai.errors import ConfigError

MOST_EPISODES = 2_000  # the exact computation takes memory and time with the square of it
RISK = 0.01
HALVINGS = 30  # of the bracket in which a boundary's level lies
SLACK = 1e-9  # of products such as 0.95 * 200, which are not quite whole

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class EarlyStop:
    """Boundaries of a sequential test of "at least `bar` of `episodes` succeed".

    Attributes:
        risk: allowed chance, each way, of saying something else than all episodes would.
        pass_at: with so many failures or fewer after n episodes the test is passed, (episodes + 1,); -1 is never.
        fail_at: with so many or more it is failed, (episodes + 1,).
        false_pass: largest chance of passing what all episodes would fail, computed exactly.
        false_fail: largest chance of failing what all episodes would pass.
    """

    bar: float
    episodes: int
    risk: float
    pass_at: Ints
    fail_at: Ints
    false_pass: float
    false_fail: float

    @property
    def allowed_failures(self) -> int:
        """How many of all episodes may fail."""
        return allowed_failures(self.bar, self.episodes)

    def stops_after(self, successes: NDArray[np.bool_]) -> tuple[Ints, NDArray[np.bool_]]:
        """Returns after how many episodes, and with which verdict, each policy is stopped.

        Args:
            successes: (policies, episodes).
        """
        failures = np.cumsum(~successes, axis=1)
        passed = failures <= self.pass_at[1:]
        stopped = passed | (failures >= self.fail_at[1:])
        first = stopped.argmax(axis=1)
        return first + 1, passed[np.arange(len(first)), first]

    def verdict(self, successes: Sequence[bool]) -> bool | None:
        """Returns whether the episodes so far pass or fail; None as long as more are needed."""
        failures = len(successes) - sum(successes)
        if failures <= self.pass_at[len(successes)]:
            return True
        return False if failures >= self.fail_at[len(successes)] else None

    def certain(self, successes: Sequence[bool]) -> bool:
        """Whether no further episode could change the verdict."""
        failures = len(successes) - sum(successes)
        return failures > self.allowed_failures or failures + self.episodes - len(successes) <= self.allowed_failures


def allowed_failures(bar: float, episodes: int) -> int:
    """Returns how many of the episodes may fail when at least `bar` of them have to succeed."""
    return episodes - ceil(bar * episodes - SLACK)


@cache
def early_stop(bar: float, episodes: int, risk: float = RISK) -> EarlyStop:
    """Designs the test.

    Args:
        bar: success rate to be reached, in [0, 1].
        episodes: how many are planned.
        risk: allowed chance, each way, of saying something else than all episodes would.

    Raises:
        ConfigError: if a number is out of range.
    """
    if not 0.0 < risk < 0.5:
        raise ConfigError(f"the risk of stopping early is {risk:g}; it must lie between 0 and 0.5")
    if episodes > MOST_EPISODES:
        raise ConfigError(f"episodes is {episodes}; to stop early, plan at most {MOST_EPISODES:,}")
    allowed = allowed_failures(bar, episodes)
    played = np.arange(episodes + 1)
    pass_at, fail_at = np.where(played > 0, played, -1), np.full(episodes + 1, episodes + 1)
    # The lots that are hardest to tell apart: with one failure too many, and with as many as are allowed.
    if allowed < episodes:
        pass_at = _boundary(_Lot(episodes, allowed + 1), risk, passing=True)
        fail_at = _boundary(_Lot(episodes, allowed), risk, passing=False)
    false_pass = _Lot(episodes, allowed + 1).stopped(pass_at, fail_at)[0] if allowed < episodes else 0.0
    false_fail = _Lot(episodes, allowed).stopped(pass_at, fail_at)[1]
    return EarlyStop(bar, episodes, risk, pass_at, fail_at, false_pass, false_fail)


@dataclass(frozen=True)
class _Lot:
    """Episodes of which some fail, in random order."""

    episodes: int
    failures: int

    def step(self, chances: Floats, played: int) -> Floats:
        """Chances of 0, 1 ... failures after one more episode, from those after `played`."""
        fails = (self.failures - np.arange(self.failures + 1)) / (self.episodes - played)
        after = chances * (1.0 - fails)
        after[1:] += (chances * fails)[:-1]
        return after

    def start(self) -> Floats:
        """Chances of 0, 1 ... failures before the first episode."""
        return np.eye(1, self.failures + 1)[0]

    def table(self) -> Floats:
        """Chances of 0, 1 ... failures after 0, 1 ... episodes, (episodes + 1, failures + 1): hypergeometric."""
        rows = [self.start()]
        for played in range(self.episodes):
            rows.append(self.step(rows[-1], played))
        return np.asarray(rows)

    def stopped(self, pass_at: Ints, fail_at: Ints) -> tuple[float, float]:
        """Chances that the test ends as passed and as failed."""
        failures, chances, passed, failed = np.arange(self.failures + 1), self.start(), 0.0, 0.0
        for played in range(self.episodes):
            chances = self.step(chances, played)
            passes, fails = failures <= pass_at[played + 1], failures >= fail_at[played + 1]
            passed += float(chances[passes].sum())
            failed += float(chances[fails].sum())
            chances[passes | fails] = 0.0
        return passed, failed


def _boundary(lot: _Lot, risk: float, *, passing: bool) -> Ints:
    """Returns the widest boundary of constant level that `lot` crosses with a chance of at most `risk`."""
    table, never, always = lot.table(), np.full(lot.episodes + 1, -1), np.full(lot.episodes + 1, lot.failures + 1)
    tail = np.cumsum(table, axis=1) if passing else np.cumsum(table[:, ::-1], axis=1)

    def at(level: float) -> Ints:
        inside = (tail <= level).sum(axis=1)
        return inside - 1 if passing else lot.failures + 1 - inside

    low, high = 0.0, risk  # at level 0 stands what is certain
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        crossed = lot.stopped(at(middle), always)[0] if passing else lot.stopped(never, at(middle))[1]
        low, high = (middle, high) if crossed <= risk else (low, middle)
    return at(low)
