"""Looks at what comes in: is it fresh by the receiver's clock, alive, finite, and like what training showed?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.deploy.interface import Freshness, Interface
from physai.deploy.io import Reading
from physai.spec import PolicySpec

FORGET = 0.2  # weight of the newest reading in the score of novelty
LONGEST_HOLD = 10.0  # times its maximum age: no value is held for longer
LEAST_DEVIATION = 1e-3  # of a term's declared range: what never varied in training would be infinitely novel
CHANCE = 1e-12  # of taking noise for a dead sensor, a reading: with 10 terms at 50 Hz once in 60 years
LEAST_REPEATS = 2  # a link may deliver a reading twice


class Verdict(IntEnum):
    """What a reading is good for; the larger, the worse."""

    FRESH = 0
    FALLBACK = 1
    STOP = 2


def repeats_of_a_freeze(
    term: Freshness, noise_std: float, largest: NDArray[np.float64], resolution: float, period_s: float
) -> int | None:
    """How often a term repeats itself to the last bit until its sensor is dead; None where that cannot be told.

    White noise of deviation s meets the same step of width r again with a chance of at most r / (s sqrt(2 pi)).

    Args:
        term: its `frozen_after_s` is for how long it may stay the same at most; what needs longer is too coarse.
        noise_std: of each of its elements.
        largest: magnitude of each element, which says how fine its single precision is.
        resolution: of the sensor, where that is coarser; 0 where it is not.
        period_s: between two readings.
    """
    if term.frozen_after_s is None:
        return None
    most = math.ceil(term.frozen_after_s / period_s)
    if not noise_std:
        return most
    steps = np.maximum(np.spacing(largest.astype(np.float32)), resolution)
    again = float(np.log(np.minimum(steps / (noise_std * math.sqrt(2.0 * math.pi)), 1.0)).sum())
    if math.log(CHANCE) < most * again:
        return None
    return max(LEAST_REPEATS, math.ceil(math.log(CHANCE) / again))


class Monitor:
    """Judges readings.

    Args:
        interface: ages and statistics.
        spec: of the policy.
        resolution: of terms whose sensors are coarser than single precision, in their units.

    Attributes:
        values: the reading, within the declared limits and with held values, as the policy takes it: (1, m) float32.
        novelty: how far the worst element lies outside what training showed, in deviations, smoothed over time.
        worst: name of the term that decided, or what was wrong with it; empty if all is well.
        oldest_s: age of the oldest term.
    """

    def __init__(self, interface: Interface, spec: PolicySpec, resolution: Mapping[str, float] | None = None) -> None:
        self._terms, self._limit = interface.terms, interface.control.ood_limit
        largest = np.maximum(np.abs(interface.seen["low"]), np.abs(interface.seen["high"]))
        self._rules = [
            (
                term.name, round(term.max_age_s * 1e9), ("hold", "fallback", "stop").index(term.on_stale),
                repeats_of_a_freeze(
                    term, declared.noise_std, largest[term.part], (resolution or {}).get(term.name, 0.0),
                    interface.control.period_s,
                ) or math.inf,
            )
            for term, declared in zip(interface.terms, spec.observations, strict=True)
        ]  # fmt: skip
        self._starts = [term.part.start for term in interface.terms]
        self._low, self._high = spec.observation_low, spec.observation_high
        span = np.subtract(self._high, self._low, dtype=np.float64)
        least = np.where(np.isfinite(span), LEAST_DEVIATION * span, LEAST_DEVIATION)
        self._seen_low = interface.seen["low"].astype(np.float32)
        self._seen_high = interface.seen["high"].astype(np.float32)
        self._weight = (1.0 / np.maximum(interface.seen["std"], np.maximum(least, 1e-9))).astype(np.float32)
        size = spec.observation_size
        self.values = np.zeros((1, size), np.float32)
        self._before, self._below, self._above = (np.zeros(size, np.float32) for _ in range(3))
        self._differs, self._inside, self._more = (np.zeros(size, np.bool_) for _ in range(3))
        self._ones = np.ones(size, np.float32)
        self.reset()

    def reset(self) -> None:
        """Forgets what came before."""
        self._newest = [-1] * len(self._terms)
        self._repeats = [0] * len(self._terms)
        self.novelty, self.worst, self.oldest_s = 0.0, "", 0.0
        self._before.fill(np.nan)

    def judge(self, reading: Reading, now_ns: int) -> Verdict:
        """Returns what the reading is good for, and keeps it in `values`."""
        raw, worst, verdict = reading.values, "", Verdict.FRESH
        total = float(raw.dot(self._ones))
        if total - total != 0.0:
            worst, verdict = self._not_finite(raw), Verdict.FALLBACK
        else:
            np.clip(raw, self._low, self._high, out=self.values[0])
        self._watch_for_change(reading, raw)
        oldest = now_ns
        for index, (name, max_age, on_stale, most_repeats) in enumerate(self._rules):
            received = reading.received_ns[index]
            oldest = min(oldest, received)
            age, what = now_ns - received, "old"
            if age <= max_age:
                if self._repeats[index] < most_repeats:
                    continue
                what = "frozen"
            found = on_stale
            if on_stale == 0 and (what == "frozen" or age > LONGEST_HOLD * max_age):
                found = 1
            if found > verdict:
                worst, verdict = f"{name} is {what}", Verdict(found)
        self.oldest_s = (now_ns - oldest) * 1e-9
        if verdict == Verdict.FRESH:
            novelty = self._novelty()
            if novelty > self._limit:
                worst, verdict = f"{self._strangest()} is far from anything seen in training", Verdict.FALLBACK
        self.worst = worst
        return verdict

    def _not_finite(self, raw: Any) -> str:
        bad = [term.name for term in self._terms if not np.isfinite(raw[term.part]).all()]
        return f"{bad[0] if bad else 'the observation'} is not finite"

    def _watch_for_change(self, reading: Reading, raw: Any) -> None:
        """Counts how often each term repeats itself; one that rests at its declared limit counts as alive."""
        if reading.sequence == self._newest:
            return
        np.not_equal(raw, self._before, out=self._differs)
        np.less_equal(raw, self._low, out=self._inside)
        np.greater_equal(raw, self._high, out=self._more)
        np.logical_or(self._differs, self._inside, out=self._differs)
        np.logical_or(self._differs, self._more, out=self._differs)
        alive = np.logical_or.reduceat(self._differs, self._starts).tolist()
        for index, moved in enumerate(alive):
            if reading.sequence[index] != self._newest[index]:
                self._repeats[index] = 0 if moved else self._repeats[index] + 1
        self._before[:] = raw
        self._newest[:] = reading.sequence

    def _novelty(self) -> float:
        values = self.values[0]
        np.subtract(self._seen_low, values, out=self._below)
        np.subtract(values, self._seen_high, out=self._above)
        np.maximum(self._below, self._above, out=self._below)
        np.multiply(self._below, self._weight, out=self._below)
        excess = max(0.0, float(self._below.max()))
        self.novelty += FORGET * (excess - self.novelty)
        return self.novelty

    def _strangest(self) -> str:
        at = int(self._below.argmax())
        return next(term.name for term in self._terms if term.part.start <= at < term.part.stop)
