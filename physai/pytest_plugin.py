"""A pytest fixture that evaluates a policy and fails the test if it misses its bar. pytest finds it by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from physai.evaluate import Report


@pytest.fixture
def assert_policy_succeeds(record_property: Callable[[str, object], None]) -> Callable[..., Report]:
    """A function that evaluates a policy, and fails the test below a bar or if an episode cannot be played.

    Its arguments: the policy (a run, checkpoint, bundle, zip, or a task whose policy ships); `min_success`, 0.95 if it
    is not said; `require`, rules such as ``p95(peak_force)<30``; `max_collision`; `compare`, a policy or JSON report
    that it must not be significantly worse than; and whatever else `physai.evaluate.evaluate` takes, such as
    `episodes`, `task`, `seed` and `workers`. It returns the report.
    """

    def check(
        policy: str | Path,
        *,
        min_success: float | None = 0.95,
        require: Sequence[str] = (),
        max_collision: float | None = None,
        compare: str | Path | None = None,
        **settings: Any,
    ) -> Report:
        __tracebackhide__ = True
        from physai.evaluate import evaluate  # here: pytest starts in every project, and most tests evaluate nothing
        from physai.evaluate.baseline import compared
        from physai.evaluate.gate import Gate

        asked = {"progress": False, **settings}
        report = evaluate(policy, gate=Gate.of(min_success, max_collision, require), **asked)
        if compare is not None:
            report = compared(report, str(compare), lambda other: evaluate(other, **asked))
        for name, value in (("policy", policy), ("success", report.success_rate), ("episodes", len(report.records))):
            record_property(name, value)
        if report.exit_code:
            pytest.fail(_why(report), pytrace=False)
        return report

    return check


def _why(report: Report) -> str:
    from physai.evaluate import words

    document = report.to_dict()
    told = [words.headline(document)]
    told += [str(check) for check in report.checks if not check.passed]
    told += [failure.error for failure in report.failures[:1]]
    told += [f"to see the worst episode: {document['worst'][0]['replay']}"] if document["worst"] else []
    return "\n".join(told + words.sentences(document)[:-1])
