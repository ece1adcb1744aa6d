"""What a policy has to meet: rules such as ``success >= 0.95`` or ``p95(peak_force) < 30``, and whether it does."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from physai.errors import ConfigError, nearest
from physai.evaluate.figures import COLLISION, COMMON, SUCCESS, declared
from physai.spec import PolicySpec

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
AGGREGATIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": lambda values: float(np.mean(values)),
    "median": lambda values: float(np.median(values)),
    "min": lambda values: float(np.min(values)),
    "max": lambda values: float(np.max(values)),
    "std": lambda values: float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
}
ALLOWED = f"{', '.join(AGGREGATIONS)}, and p1 to p99 (percentiles, linear between episodes)"
FORM = re.compile(r"\s*(?:(\w+)\s*\(\s*([\w.]+)\s*\)|([\w.]+))\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Rule:
    """One thing that a policy has to meet.

    Attributes:
        aggregation: how the values of the episodes become one: a key of `AGGREGATIONS`, or ``p1`` to ``p99``.
        figure: which figure of an episode.
        comparison: a key of `OPERATORS`.
        bar: in the unit of the figure.
    """

    aggregation: str
    figure: str
    comparison: str
    bar: float

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Reads ``peak_force<30`` (the mean) or ``p95(peak_force) <= 30``.

        Raises:
            ConfigError: if it is no such rule.
        """
        match = FORM.fullmatch(text)
        if match is None:
            raise ConfigError(f"requirement {text!r} cannot be read; write FIGURE<NUMBER or p95(FIGURE)>=NUMBER")
        aggregation, inside, bare, comparison, number = match.groups()
        aggregation = aggregation or "mean"
        if aggregation not in AGGREGATIONS and not re.fullmatch(r"p[1-9]\d?", aggregation):
            raise ConfigError(f"requirement {text!r} asks for {aggregation!r}; allowed are {ALLOWED}")
        try:
            bar = float(number)
        except ValueError:
            raise ConfigError(f"requirement {text!r} compares with {number!r}; give a number") from None
        if not np.isfinite(bar):
            raise ConfigError(f"requirement {text!r} compares with {number!r}; give a finite number")
        return cls(aggregation, inside or bare, comparison, bar)

    def __str__(self) -> str:
        figure = self.figure if self.aggregation == "mean" else f"{self.aggregation}({self.figure})"
        return f"{figure} {self.comparison} {self.bar:g}"

    @property
    def better(self) -> int:
        """1 if larger values are better, -1 if smaller ones are."""
        return 1 if self.comparison in (">", ">=") else -1

    def check(self, figures: Mapping[str, Sequence[float]]) -> Check:
        """Judges the figures of the episodes."""
        values = figures.get(self.figure, ())
        if not values:
            return Check(str(self), None, False)
        value = self.value(values)
        return Check(str(self), value, OPERATORS[self.comparison](value, self.bar))

    def value(self, values: Sequence[float]) -> float:
        """Makes one number of the values of the episodes."""
        if self.aggregation in AGGREGATIONS:
            return AGGREGATIONS[self.aggregation](values)
        return float(np.percentile(values, int(self.aggregation[1:])))


@dataclass(frozen=True)
class Check:
    """What became of a rule; `value` is None where no episode has the figure, which is not met."""

    rule: str
    value: float | None
    passed: bool

    def __str__(self) -> str:
        found = "no episode has it" if self.value is None else f"it is {self.value:.4g}"
        return f"{self.rule}: {found}, which is {'met' if self.passed else 'not met'}"


@dataclass(frozen=True)
class Gate:
    """All rules of an evaluation."""

    rules: tuple[Rule, ...] = ()
    max_collision: float | None = None

    @classmethod
    def of(
        cls,
        min_success: float | None = None,
        max_collision: float | None = None,
        requirements: Sequence[str] = (),
    ) -> Gate:
        """Collects what a command line says.

        Raises:
            ConfigError: if a requirement cannot be read.
        """
        first = () if min_success is None else (Rule("mean", SUCCESS, ">=", min_success),)
        return cls((*first, *map(Rule.parse, requirements)), max_collision)

    @property
    def min_success(self) -> float | None:
        """The highest success rate that a rule demands; None if none does."""
        bars = [r.bar for r in self.rules if (r.aggregation, r.figure, r.comparison) == ("mean", SUCCESS, ">=")]
        return max(bars, default=None)

    def bound_to(self, spec: PolicySpec, seen: Sequence[str] = ()) -> tuple[Rule, ...]:
        """Returns the rules for a task, after checking that it has what they ask for.

        Args:
            spec: of the policy.
            seen: figures that its episodes had, for an environment that declares none.

        Raises:
            ConfigError: if it has not, naming the nearest figure.
        """
        names = declared(spec)
        if names is None:
            if not seen:
                return self.rules
            names = (*(name for name in COMMON if name != SUCCESS), *seen)
        rules = self.rules
        if self.max_collision is not None:
            counts = [name for name in names if name.startswith(COLLISION)]
            if not counts:
                raise ConfigError(f"{spec.task} has no metric of collisions; leave out --max-collision")
            rules += (Rule("mean", counts[0], "<=", self.max_collision),)
        for rule in rules:
            if rule.figure == SUCCESS and SUCCESS not in names:
                raise ConfigError(f"{spec.task} does not report is_success: there is no success rate to judge it by")
            if rule.figure not in names:
                raise ConfigError(f"{spec.task} has no figure {rule.figure!r}; {nearest(rule.figure, names)}")
        return rules
