"""The other side of a comparison: a policy that plays the same episodes, or the report of one that has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from physai.errors import ConfigError
from physai.evaluate.compare import ALPHA, compare
from physai.evaluate.report import SCHEMA, Report, record_of

Document = Mapping[str, Any]


def compared(report: Report, baseline: str, play: Callable[[str], Report], alpha: float = ALPHA) -> Report:
    """Returns the report with its comparison.

    Args:
        report: of the new policy, with its rules.
        baseline: a JSON report, or any policy.
        play: evaluates a policy in the same way as the new one.
        alpha: allowed chance of calling two equal policies different.

    Raises:
        ConfigError: if the baseline was evaluated otherwise, or could not be.
    """
    if not 0.0 < alpha < 1.0:
        raise ConfigError(f"the significance is {alpha:g}; it must lie between 0 and 1")
    new = report.to_dict()
    old = read(baseline) if baseline.endswith(".json") else play(baseline).to_dict()
    _check_alike(new, old, baseline)
    return replace(
        report,
        comparison=compare(
            report.records, [record_of(row) for row in old["records"]],
            baseline=baseline, control_hz=report.spec.control_hz, alpha=alpha,
            directions={rule.figure: rule.better for rule in report.rules},
            grids=(new["robustness"], old["robustness"]) if new["robustness"] else None,
        ),
    )  # fmt: skip


def read(path: str) -> Document:
    """Reads a report.

    Raises:
        ConfigError: if it is none, or one from before episodes were kept.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise ConfigError(
            f"{path} is no report to compare with ({problem}); write one with physai eval --json"
        ) from problem
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or not document.get("records"):
        raise ConfigError(f"{path} holds no episodes to compare with; write it again with physai eval --json")
    return document


def _check_alike(new: Document, old: Document, baseline: str) -> None:
    """Raises ConfigError if the two did not play the same episodes."""
    if old["failed"] or new["failed"]:
        who = baseline if old["failed"] else new["source"]
        first = (old["failed"] or new["failed"])[0]["error"]
        raise ConfigError(f"{who} could not be evaluated, so there is nothing to compare: {first}")

    def facts(document: Document) -> dict[str, Any]:
        grid = document["robustness"]
        return {
            "task": document["task"],
            "seeds": [document["seeds"]["start"], document["seeds"]["count"]],
            "difficulty": document["difficulty"],
            "grid": None if grid is None else grid["axes"],
            "physics": document["physics"]["sha256"],
        }

    mine, theirs = (json.loads(json.dumps(facts(document))) for document in (new, old))
    if differing := [name for name in mine if mine[name] != theirs[name]]:
        raise ConfigError(
            f"{baseline} was evaluated with other {', '.join(differing)}, so its episodes are not the same; "
            "evaluate it again with the options of this evaluation"
        )
