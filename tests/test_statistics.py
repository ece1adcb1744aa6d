from __future__ import annotations

import pytest

from physai.evaluate.statistics import spread, tail, wilson_interval


def test_wilson_interval_of_half_is_symmetric() -> None:
    # z = 1.96, n = 10: centre 0.5, half width z / (2 sqrt(n + z^2)) = 1.96 / (2 * 3.7204) = 0.2634
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_wilson_interval_of_all_successes_does_not_claim_certainty() -> None:
    # low = n / (n + z^2) = 200 / 203.84
    low, high = wilson_interval(200, 200)
    assert low == pytest.approx(200 / 203.8415, abs=1e-5)
    assert high == pytest.approx(1.0)


def test_spread() -> None:
    # squared deviations 2.25 + 0.25 + 0.25 + 2.25 = 5, divided by 3
    expected = {"mean": 2.5, "std": pytest.approx((5 / 3) ** 0.5), "min": 1.0, "max": 4.0}
    assert spread([1.0, 2.0, 3.0, 4.0]) == expected
    assert spread([7.0])["std"] == 0.0


def test_tail() -> None:
    # 0 to 100: the 95th percentile is 95
    assert tail([float(v) for v in range(101)]) == {"mean": 50.0, "p95": 95.0, "max": 100.0}
