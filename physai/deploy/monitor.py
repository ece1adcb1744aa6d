"""Looks at what comes in: is it fresh by the receiver's clock, alive, finite, and like what training showed?"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

from physai.deploy.interface import Interface
from physai.deploy.io import Reading
from physai.spec import PolicySpec

FORGET = 0.2  # weight of the newest reading in the score of novelty
LONGEST_HOLD = 10.0  # times its maximum age: no value is held for longer
LEAST_DEVIATION = 1e-3  # of a term's declared range: what never varied in training would be infinitely novel


class Verdict(IntEnum):
    """What a reading is good for; the larger, the worse."""

    FRESH = 0
    FALLBACK = 1
    STOP = 2


class Monitor:
    """Judges readings.

    Args:
        interface: ages and statistics.
        spec: of the policy.

    Attributes:
        values: the reading, within the declared limits and with held values, as the policy takes it: (1, m) float32.
        novelty: how far the worst element lies outside what training showed, in deviations, smoothed over time.
        worst: name of the term that decided, or what was wrong with it; empty if all is well.
        oldest_s: age of the oldest term.
    """

    def __init__(self, interface: Interface, spec: PolicySpec) -> None:
        self._terms, self._limit = interface.terms, interface.control.ood_limit
        self._rules = [
            (
                term.name, round(term.max_age_s * 1e9), ("hold", "fallback", "stop").index(term.on_stale),
                None if term.frozen_after_s is None else round(term.frozen_after_s * 1e9),
            )
            for term in interface.terms
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
        self._changed_ns = [0] * len(self._terms)
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
        for index, (name, max_age, on_stale, frozen_after) in enumerate(self._rules):
            received = reading.received_ns[index]
            oldest = min(oldest, received)
            age, what = now_ns - received, "old"
            if age <= max_age:
                if frozen_after is None or received - self._changed_ns[index] < frozen_after:
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
        """Notes when each term last changed; one that rests at its declared limit counts as alive."""
        if reading.sequence == self._newest:
            return
        np.not_equal(raw, self._before, out=self._differs)
        np.less_equal(raw, self._low, out=self._inside)
        np.greater_equal(raw, self._high, out=self._more)
        np.logical_or(self._differs, self._inside, out=self._differs)
        np.logical_or(self._differs, self._more, out=self._differs)
        alive = np.logical_or.reduceat(self._differs, self._starts).tolist()
        for index, moved in enumerate(alive):
            if moved and reading.sequence[index] != self._newest[index]:
                self._changed_ns[index] = reading.received_ns[index]
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
