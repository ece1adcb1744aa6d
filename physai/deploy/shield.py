"""What stands between a policy and the motors: whatever comes in, what goes out is inside every limit.

Nothing here is safety-rated. Every element of a command is a number whose value, change and change of the change are
limited. The shield never goes where it could not brake any more: it keeps the state in the largest set from which the
limits can be held for ever (for a chain of integrators that set has a closed form). Where a position is observed and
its velocity commanded, a command is accepted only if full braking after it still ends inside the workspace; the plan
to brake that was valid a tick ago is always there to fall back on. Comparisons are written so that NaN fails them.

Plain floats: on a few numbers, numpy is several times slower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntFlag

from physai.deploy.safety import FLOAT32, Box, Safety
from physai.spec import PolicySpec

SCALES = (1.0, 0.75, 0.5, 0.25)  # of the way from braking to what is wanted, tried in this order
LONGEST_BRAKE = 1000  # ticks; a stop that takes longer is not accepted
SMALL = 1e-12  # of a unit: at rest


class Reason(IntFlag):
    """Why a command was changed."""

    FINITE = 1
    RANGE = 2
    RATE = 4
    RATE_CHANGE = 8
    BRAKING = 16
    WORKSPACE = 32
    KEEP_OUT = 64


def largest_step(room: float, change: float) -> float:
    """Returns the largest step from which one can come to a halt within `room`, if steps shrink by `change` a tick.

    A step s is followed by s - change, s - 2 change, ...: n + 1 steps that add up to (n + 1) s - change n (n + 1) / 2.
    """
    if not room > 0.0:
        return 0.0
    if math.inf in (change, room):
        return room
    n = math.floor((math.sqrt(1.0 + 8.0 * room / change) - 1.0) / 2.0)
    return min(room, (room + change * n * (n + 1) / 2.0) / (n + 1))


class _Element:
    """One number of a command: its limits a tick, and its state."""

    __slots__ = ("change", "high", "last", "low", "rate", "rest", "rounding", "step")

    def __init__(self, low: float, high: float, rate: float, change: float) -> None:
        self.low, self.high, self.rate, self.change = low, high, rate, change
        self.rest = min(max(0.0, low), high)
        self.last, self.step = self.rest, 0.0
        self.rounding = FLOAT32 * max(abs(v) for v in (low, high, 0.0) if v - v == 0.0)

    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest step that are allowed now."""
        low = max(self.step - self.change, -self.rate, -largest_step(self.last - self.low, self.change))
        high = min(self.step + self.change, self.rate, largest_step(self.high - self.last, self.change))
        return low, high

    def towards_rest(self, last: float, step: float) -> float:
        """The step that brings it to rest the fastest, without passing it if that is possible."""
        gap = self.rest - last
        wanted = math.copysign(largest_step(abs(gap), self.change), gap)
        return min(max(wanted, step - self.change, -self.rate), step + self.change, self.rate)

    def excursion(self, step: float, period_s: float) -> tuple[float, float]:
        """How far a position goes, down and up, if this velocity changes by `step` now and then comes to rest."""
        velocity, position, lowest, highest = self.last + step, 0.0, 0.0, 0.0
        for _ in range(LONGEST_BRAKE):
            position += velocity * period_s
            lowest, highest = min(lowest, position), max(highest, position)
            if abs(velocity - self.rest) < SMALL and abs(step) < SMALL:
                return lowest, highest
            step = self.towards_rest(velocity, step)
            velocity += step
        return -math.inf, math.inf


class Shield:
    """Turns what is wanted into what may be sent.

    Args:
        safety: the limits.
        spec: of the policy.

    Attributes:
        last: the command that was applied last.
        reasons: why the last call changed something; 0 if it did not.
        correction: by how much, as a share of the range of the element that was changed most.
    """

    def __init__(self, safety: Safety, spec: PolicySpec) -> None:
        period_s = self.period_s = 1.0 / spec.control_hz
        limits = zip(safety.low, safety.high, safety.rate, safety.rate_change, strict=True)
        self.elements = [
            _Element(float(low), float(high), float(rate) * period_s, float(change) * period_s**2)
            for low, high, rate, change in limits
        ]
        self.discrete, self.workspace = spec.discrete, safety.workspace
        self.last = [e.rest for e in self.elements]
        self.reasons, self.correction = 0, 0.0
        if self.workspace is not None:
            self._moved = self.elements[self.workspace.moved]
            self._waiting = math.ceil(self.workspace.reaction_s / period_s - 1e-9)
            self._reach = max(map(self._longest_way, self._moved))
        self.reset()

    def _longest_way(self, e: _Element) -> float:
        """A bound on how far the robot goes from any state until it rests; infinite where nothing bounds it [m]."""
        speed = max(abs(e.low), abs(e.high))
        if not e.rate < math.inf or not speed < math.inf:
            return math.inf
        ramp = 0.0 if e.change == math.inf else e.rate / e.change
        ticks = self._waiting + math.ceil(2.0 * speed / e.rate) + 3.0 * math.ceil(ramp) + 4.0
        return speed * ticks * self.period_s

    def reset(self) -> None:
        """The robot is at rest."""
        for e in self.elements:
            e.last, e.step = e.rest, 0.0
        self.last = [e.rest for e in self.elements]
        self._sent = [[e.rest for e in self._moved]] * self._waiting if self.workspace is not None else []

    def held(self) -> None:
        """The last command was held for longer than a tick, so that nothing changes any more."""
        for e in self.elements:
            e.step = 0.0

    @property
    def resting(self) -> bool:
        """Whether the last command was that of a robot at rest."""
        return all([abs(e.last - e.rest) < SMALL and abs(e.step) < SMALL for e in self.elements])

    def __call__(self, wanted: Sequence[float], position: Sequence[float] = ()) -> list[float]:
        """Returns the command that may be sent.

        Args:
            wanted: (k,) in the units of the command; anything, also NaN and infinities.
            position: (3,) [m], where the workspace is limited; NaN where it is not known.
        """
        reasons, steps = 0, []
        for value, e in zip(wanted, self.elements, strict=True):
            if value - value != 0.0:  # also true of NaN
                reasons, value = reasons | Reason.FINITE, e.rest
            inside = min(max(value, e.low), e.high)
            if abs(inside - value) > e.rounding:
                reasons |= Reason.RANGE
            step = inside - e.last
            low, high = e.bounds()
            if not low <= step <= high:
                kept = min(max(step, low), high)
                if abs(kept - step) > e.rounding:
                    reasons |= self._cause(e, step)
                step = kept
            steps.append(step)
        if self.discrete:
            return self._choose(wanted, reasons)
        if self.workspace is not None:
            reasons |= self._keep_inside(steps, position)
        return self._apply(steps, wanted, reasons)

    def stop(self) -> list[float]:
        """Returns the next command on the fastest way to rest."""
        steps = []
        for e in self.elements:
            low, high = e.bounds()
            steps.append(min(max(e.towards_rest(e.last, e.step), low), high))
        return self._apply(steps, self.last, 0)

    @staticmethod
    def _cause(e: _Element, step: float) -> int:
        size, before = (step, e.step) if step > 0.0 else (-step, -e.step)
        if size > e.rate:
            return Reason.RATE
        return Reason.RATE_CHANGE if size > before + e.change or size < before - e.change else Reason.BRAKING

    def _choose(self, wanted: Sequence[float], reasons: int) -> list[float]:
        """A choice has no rate: the index, if it is one of those that there are."""
        self.last = [
            float(round(min(max(v if v - v == 0.0 else e.rest, e.low), e.high)))
            for v, e in zip(wanted, self.elements, strict=True)
        ]
        self.reasons, self.correction = reasons & (Reason.FINITE | Reason.RANGE), 0.0
        return self.last

    def _apply(self, steps: Sequence[float], wanted: Sequence[float], reasons: int) -> list[float]:
        command, correction = [], 0.0
        for step, value, e in zip(steps, wanted, self.elements, strict=True):
            new = min(max(e.last + step, e.low), e.high)
            e.step, e.last = new - e.last, new
            command.append(new)
            if reasons:
                share = abs(new - value) / (e.high - e.low) if e.high > e.low else 0.0
                correction = max(correction, share if share - share == 0.0 else 1.0)
        if self._sent:
            self._sent = [*self._sent[1:], [e.last for e in self._moved]]
        self.last, self.reasons, self.correction = command, reasons, correction
        return command

    def _keep_inside(self, steps: list[float], position: Sequence[float]) -> int:
        """Changes the steps of the velocity so that braking after them ends inside; returns why, or 0."""
        space = self.workspace
        if space is None:
            return 0
        first, inside, reach = space.moved.start, space.inside, self._reach
        known = len(position) == len(self._moved) and all([p - p == 0.0 for p in position])
        if not known:
            for axis, e in enumerate(self._moved):
                steps[first + axis] = self._brake(e)
            return Reason.WORKSPACE
        reasons, near_box = 0, False
        for axis, e in enumerate(self._moved):
            place = position[axis]
            if not (inside.low[axis] <= place - reach and place + reach <= inside.high[axis]):
                step = self._within(e, axis, steps[first + axis], inside.low[axis] - place, inside.high[axis] - place)
                if step != steps[first + axis]:
                    steps[first + axis], reasons = step, Reason.WORKSPACE
        for box in space.keep_out:
            near_box = near_box or not self._far(box, position)
        return reasons | (self._around(steps, first, position) if near_box else 0)

    def _brake(self, e: _Element) -> float:
        low, high = e.bounds()
        return min(max(e.towards_rest(e.last, e.step), low), high)

    def _underway(self, axis: int) -> tuple[float, float]:
        """How far the robot may still go, down and up, by commands that have not taken effect yet [m]."""
        total = lowest = highest = 0.0
        for sent in reversed(self._sent):
            total += sent[axis] * self.period_s
            lowest, highest = min(lowest, total), max(highest, total)
        return lowest, highest

    def _sweep(self, e: _Element, axis: int, step: float) -> tuple[float, float]:
        (down, up), (lowest, highest) = self._underway(axis), e.excursion(step, self.period_s)
        return down + lowest, up + highest

    def _within(self, e: _Element, axis: int, step: float, low: float, high: float) -> float:
        """The step, or as much of it as leaves room to brake between `low` and `high` from here [m]."""
        brake = self._brake(e)
        for scale in SCALES:
            tried = brake + scale * (step - brake)
            down, up = self._sweep(e, axis, tried)
            # Somebody who stands outside may stay and may come back, but not go further.
            if down >= min(low, 0.0) and up <= max(high, 0.0):
                return tried
        return brake

    def _far(self, box: Box, position: Sequence[float]) -> bool:
        parts = zip(position, box.low, box.high, strict=True)
        return any([p + self._reach < low or p - self._reach > high for p, low, high in parts])

    def _around(self, steps: list[float], first: int, position: Sequence[float]) -> int:
        """All axes brake together where the box that is swept while braking would meet one that is kept out of."""
        space = self.workspace
        brakes = [self._brake(e) for e in self._moved]
        wanted = steps[first : first + len(brakes)]
        for scale in SCALES:
            tried = [b + scale * (w - b) for b, w in zip(brakes, wanted, strict=True)]
            sweeps = [self._sweep(e, axis, tried[axis]) for axis, e in enumerate(self._moved)]
            if space is not None and not any(_meets(box, position, sweeps) for box in space.keep_out):
                steps[first : first + len(brakes)] = tried
                return 0 if scale == 1.0 else Reason.KEEP_OUT
        steps[first : first + len(brakes)] = brakes
        return Reason.KEEP_OUT


def _meets(box: Box, position: Sequence[float], sweeps: Sequence[tuple[float, float]]) -> bool:
    parts = zip(position, sweeps, box.low, box.high, strict=True)
    return all([p + down <= high and p + up >= low for p, (down, up), low, high in parts])
