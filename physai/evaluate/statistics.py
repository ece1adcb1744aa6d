"""Numbers about samples, as plain floats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Returns the 95 % Wilson score interval of a proportion (JASA 22, 1927), which holds for few trials too."""
    from scipy.stats import binomtest  # here, because it takes a second to import and workers have no use for it

    interval = binomtest(successes, trials).proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Returns mean, standard deviation (of the sample, 0 for one value), least and largest value; None of nothing."""
    if not values:
        return None
    sample = np.asarray(values, dtype=np.float64)
    deviation = float(sample.std(ddof=1)) if len(sample) > 1 else 0.0
    return {"mean": float(sample.mean()), "std": deviation, "min": float(sample.min()), "max": float(sample.max())}


def tail(values: Sequence[float]) -> dict[str, float] | None:
    """Returns mean, 95th percentile (linear between samples) and largest value; None of nothing."""
    if not values:
        return None
    sample = np.asarray(values, dtype=np.float64)
    return {"mean": float(sample.mean()), "p95": float(np.percentile(sample, 95)), "max": float(sample.max())}
