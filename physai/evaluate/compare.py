"""Whether one policy is better than another, on the same episodes: exact McNemar test, sign flips, paired bootstrap.

Both play the same seeds, so what makes an episode hard is the same for both and falls out of the difference. Only what
has a known direction is judged: success (or the return, where there is no success), success over a grid of
perturbations, and figures for which a requirement says which way is better. Bonferroni keeps the chance of calling two
equal policies different at `alpha` for all of them together.

How large a difference of means is, a bootstrap interval says. Whether there is one, a sign-flip test decides: if two
policies are equal, what they did in an episode might as well be exchanged, so its error rate is exact. The bootstrap's
is not: of 60 pairs with heavy tails, its intervals of 95 % missed zero in 8 of 100 comparisons of equal policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.evaluate import figures
from physai.evaluate.episodes import EpisodeRecord

BETTER, WORSE, NO_EVIDENCE = "better", "worse", "no evidence"
ALPHA = 0.05
RESAMPLES = 9_999
BATCH = 100  # resamples that are in memory at once
SEED = 0  # of the resampling, so that the same reports always compare alike
OVER_GRID = "success over the grid"
TABLES = 10_000  # different tables of a McNemar test that are remembered


@dataclass(frozen=True)
class Difference:
    """A figure of both policies.

    Attributes:
        name: of the figure.
        old, new: means over the episodes that both have.
        difference: new minus old.
        interval: of the difference, by bootstrap; None for a single pair.
        p_value: of the sign-flip test; for success, of the exact McNemar test.
        verdict: better or worse, if its direction is known and the p-value is small enough.
    """

    name: str
    old: float
    new: float
    difference: float
    interval: tuple[float, float] | None
    p_value: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """What a paired comparison found.

    Attributes:
        baseline: the other policy, as the caller named it.
        episodes: pairs.
        only_new, only_old: episodes in which one succeeds and the other does not; None without success.
        p_value: of the exact McNemar test, two-sided; None without success.
        alpha: chance of calling two equal policies different, over all that is judged.
        judged: names of what is judged.
        points: at each point of the grid of perturbations, both success rates.
    """

    baseline: str
    episodes: int
    only_new: int | None
    only_old: int | None
    p_value: float | None
    alpha: float
    judged: tuple[str, ...]
    differences: tuple[Difference, ...]
    verdict: str
    points: tuple[Mapping[str, Any], ...] = ()

    @property
    def sentence(self) -> str:
        """Says it to a person."""
        head = {
            BETTER: f"better than {self.baseline}",
            WORSE: f"worse than {self.baseline}",
            NO_EVIDENCE: f"no evidence that it is better or worse than {self.baseline}",
        }[self.verdict]
        told = []
        if self.p_value is not None:
            told.append(
                f"of {self.episodes} episodes it alone succeeds in {self.only_new}, the other alone in {self.only_old} "
                f"(exact McNemar p = {self.p_value:.2g})"
            )
        told += [
            f"{d.verdict} in {d.name} ({d.new:.4g} against {d.old:.4g}, difference {span(d)})"
            for d in self.differences
            if d.verdict != NO_EVIDENCE and d.name != figures.SUCCESS
        ]
        return f"{head}: {'; '.join(told)}" if told else head

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {**asdict(self), "sentence": self.sentence}


def compare(
    new: Sequence[EpisodeRecord],
    old: Sequence[EpisodeRecord],
    *,
    baseline: str,
    control_hz: float,
    directions: Mapping[str, int] | None = None,
    alpha: float = ALPHA,
    grids: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None,
) -> Comparison:
    """Compares two policies on the episodes that both have played.

    Args:
        new: episodes of the one policy.
        old: episodes of the other, with the same seeds.
        baseline: name of the old one.
        control_hz: of the task.
        directions: 1 for figures of which more is better, -1 for those of which less is.
        alpha: allowed chance of calling two equal policies different.
        grids: both reports' ``robustness``, if they have one.
    """
    before, after = ({r.seed: figures.of_episode(r, control_hz) for r in records} for records in (old, new))
    seeds = [seed for seed in after if seed in before]
    known = {name: None for seed in seeds for name in after[seed] if name in before[seed]}
    main = figures.SUCCESS if figures.SUCCESS in known else figures.RETURN
    better = {main: 1, **{name: way for name, way in (directions or {}).items() if name in known}}
    level = alpha / (len(better) + (grids is not None))
    pairs = {
        name: [(before[s][name], after[s][name]) for s in seeds if name in before[s] and name in after[s]]
        for name in known
    }
    found = {name: _difference(name, np.asarray(values), better.get(name, 0), level) for name, values in pairs.items()}
    only_new = only_old = p_value = None
    if main == figures.SUCCESS:
        values = np.asarray(pairs[main]) > 0.5
        only_new, only_old = int((values[:, 1] & ~values[:, 0]).sum()), int((values[:, 0] & ~values[:, 1]).sum())
        p_value = mcnemar(only_new, only_old)
        verdict = _verdict(only_new - only_old, significant=p_value <= level)
        found[main] = replace(found[main], p_value=p_value, verdict=verdict)
    points: tuple[Mapping[str, Any], ...] = ()
    if grids is not None:
        found[OVER_GRID] = _difference(OVER_GRID, _per_seed(*grids), 1, level)
        points = _points(*grids)
    judged = (*better, *([OVER_GRID] if grids is not None else []))
    verdicts = {found[name].verdict for name in judged}
    return Comparison(
        baseline, len(seeds), only_new, only_old, p_value, alpha, judged, tuple(found.values()),
        WORSE if WORSE in verdicts else BETTER if BETTER in verdicts else NO_EVIDENCE, points,
    )  # fmt: skip


@lru_cache(TABLES)
def mcnemar(only_new: int, only_old: int) -> float:
    """Returns the two-sided p-value of the exact McNemar test (Psychometrika 12, 1947): a sign test of odd pairs."""
    from scipy.stats import binomtest  # here, because it takes a second to import and workers have no use for it

    odd = only_new + only_old
    return 1.0 if odd == 0 else float(binomtest(only_new, odd, 0.5).pvalue)


def bootstrap_interval(differences: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    """Returns the bias-corrected and accelerated bootstrap interval (Efron, 1987) of means of paired differences.

    Args:
        differences: (rows, pairs).
        confidence: such as 0.95.

    Returns:
        (2, rows): lower and upper ends; both are the mean where all differences are equal.
    """
    from scipy.stats import bootstrap

    means = differences.mean(axis=-1)
    varied = np.ptp(differences, axis=-1) > 0.0
    ends = np.stack([means, means])
    if varied.any():
        interval = bootstrap(
            (differences[varied],), np.mean, axis=-1, n_resamples=RESAMPLES, confidence_level=confidence, method="BCa",
            batch=BATCH, rng=np.random.default_rng(SEED),
        ).confidence_interval  # fmt: skip
        ends[:, varied] = np.stack([interval.low, interval.high])
    return ends


def flip_p_value(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the two-sided p-values of sign-flip permutation tests of "the mean is zero".

    Args:
        differences: (rows, pairs).

    Returns:
        (rows,): 1 where all differences are zero.
    """
    from scipy.stats import permutation_test

    found = permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, axis=-1, n_resamples=RESAMPLES,
        batch=BATCH, rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return np.atleast_1d(found.pvalue)


def _difference(name: str, pairs: NDArray[np.float64], better: int, level: float) -> Difference:
    """Compares (pairs, 2) values; `better` is 0 where nobody says which way is better."""
    (old, new), change = pairs.mean(axis=0), pairs[:, 1] - pairs[:, 0]
    mean = float(change.mean())
    if len(pairs) < 2:
        return Difference(name, float(old), float(new), mean, None, 1.0, NO_EVIDENCE)
    low, high = (float(end) for end in bootstrap_interval(change[None], 1.0 - level)[:, 0])
    p_value = float(flip_p_value(change[None])[0])
    verdict = _verdict(better * mean, significant=p_value <= level)
    return Difference(name, float(old), float(new), mean, (low, high), p_value, verdict)


def span(difference: Difference) -> str:
    """Returns the interval of a difference in words."""
    if difference.interval is None:
        return "unknown"
    return "{:+.3g} to {:+.3g}".format(*difference.interval)


def _verdict(gain: float, *, significant: bool) -> str:
    if not significant or gain == 0:
        return NO_EVIDENCE
    return BETTER if gain > 0 else WORSE


def _per_seed(new: Mapping[str, Any], old: Mapping[str, Any]) -> NDArray[np.float64]:
    """Success of both over the points of the grid, for each seed, (seeds, 2): points of a seed are not independent."""
    found: dict[str, list[tuple[bool, bool]]] = {}
    for after, before in zip(new["points"], old["points"], strict=True):
        for seed in after["successes"].keys() & before["successes"].keys():
            found.setdefault(seed, []).append((before["successes"][seed], after["successes"][seed]))
    return np.asarray([np.mean(found[seed], axis=0) for seed in sorted(found)])


def _points(new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {"at": after["at"], "new": after["success"]["rate"], "old": before["success"]["rate"]}
        for after, before in zip(new["points"], old["points"], strict=True)
    )
