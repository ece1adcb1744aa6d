"""The result of an evaluation, and its JSON, which ``schema.json`` beside this file describes."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from physai.errors import StorageError
from physai.evaluate import figures
from physai.evaluate.compare import WORSE, Comparison
from physai.evaluate.early_stop import EarlyStop
from physai.evaluate.episodes import EpisodeFailure, EpisodeRecord
from physai.evaluate.gate import Check, Gate, Rule
from physai.evaluate.perturb import Grid
from physai.evaluate.provenance import hardware, physics_digest, versions
from physai.evaluate.statistics import CONFIDENCE, spread, tail, wilson_interval
from physai.spec import PolicySpec

SCHEMA = "physai-evaluation/1"
WORST = 5  # how many of the worst episodes are named
PASSED, BELOW, FAILED = 0, 1, 2  # exit codes


@dataclass(frozen=True)
class Stopped:
    """How an evaluation was cut short: by which test, after how many episodes, with which verdict."""

    test: EarlyStop
    played: int
    passed: bool
    certain: bool

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types."""
        return {
            "method": "exact sequential test of a finite lot (hypergeometric), with curtailment",
            "bar": self.test.bar,
            "planned": self.test.episodes,
            "played": self.played,
            "passed": self.passed,
            "certain": self.certain,
            "risk": self.test.risk,
            "false_pass": self.test.false_pass,
            "false_fail": self.test.false_fail,
        }


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        source: as the caller named the policy.
        task: name that was asked for; None where the policy named its own.
        policy: kind of source, algorithm and digest.
        records: one for each finished episode, in the order of the seeds.
        seed: of the evaluation.
        first_seed: seed of the first environment episode.
        timing: wall time and workers; all that may differ from run to run.
        planned: episodes that were asked for; None if as many as there are records.
        failures: episodes that could not be played.
        stopped: how the evaluation was cut short, if it was.
        grid: of perturbations; `at_points` has the records at each of its points.
        rules: what the policy has to meet.
        comparison: with another policy.
    """

    source: str
    task: str | None
    spec: PolicySpec
    policy: Mapping[str, Any]
    records: tuple[EpisodeRecord, ...]
    seed: int
    first_seed: int
    difficulty: float | None
    timing: Mapping[str, Any]
    planned: int | None = None
    failures: tuple[EpisodeFailure, ...] = ()
    stopped: Stopped | None = None
    grid: Grid | None = None
    at_points: tuple[tuple[EpisodeRecord, ...], ...] = ()
    rules: tuple[Rule, ...] = ()
    comparison: Comparison | None = None

    @property
    def successes(self) -> int | None:
        """Number of episodes that succeeded; None if the environment does not say."""
        return _successes(self.records)

    @property
    def success_rate(self) -> float | None:
        """Share of episodes that succeeded; None if the environment does not say."""
        return None if self.successes is None else self.successes / len(self.records)

    def judged(self, gate: Gate) -> Report:
        """Returns the same report with what `gate` asks for.

        Raises:
            ConfigError: if it asks for something that the task does not have.
        """
        seen = tuple(figures.by_name(self.records, self.spec.control_hz))
        return replace(self, rules=gate.bound_to(self.spec, seen))

    def passed(self, min_success: float) -> bool:
        """Whether everything could be played and the success rate is at least `min_success`.

        Raises:
            ConfigError: if the environment does not report success.
        """
        return self.judged(Gate.of(min_success)).exit_code == PASSED

    @property
    def checks(self) -> tuple[Check, ...]:
        """What became of each rule."""
        values = figures.by_name(self.records, self.spec.control_hz)
        return tuple(rule.check(values) for rule in self.rules)

    @property
    def exit_code(self) -> int:
        """0 passed, 1 below a bar or significantly worse than the policy it is compared with, 2 not all evaluated."""
        if self.failures or not self.records:
            return FAILED
        worse = self.comparison is not None and self.comparison.verdict == WORSE
        return BELOW if worse or not all(check.passed for check in self.checks) else PASSED

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types; all but ``timing`` are a function of policy, task, seeds, difficulty and rules."""
        records = self.records
        return {
            "schema": SCHEMA,
            "task": self.spec.task,
            "source": self.source,
            "policy": dict(self.policy),
            "episodes": len(records),
            "planned": len(records) if self.planned is None else self.planned,
            "seeds": {"evaluation": self.seed, "start": self.first_seed, "count": len(records)},
            "difficulty": self.difficulty,
            "verdict": ("passed", "below", "failed")[self.exit_code],
            "checks": [asdict(check) for check in self.checks],
            "failed": [self._failed(failure) for failure in self.failures],
            "success": success(records),
            "return": spread([record.episode_return for record in records]),
            "reward_terms": _each("reward_terms", records, spread),
            "steps": spread([float(record.steps) for record in records]),
            "time_to_success_s": self._time_to_success(),
            "metrics": _each("metrics", records, tail),
            "action_change": tail([record.action_change for record in records]),
            "worst": [self._brief(record) for record in sorted(records, key=_merit)[:WORST]],
            "early_stop": None if self.stopped is None else self.stopped.to_dict(),
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            "robustness": None if self.grid is None else _robustness(self.grid, self.at_points),
            "records": [_row(record) for record in records],
            "command": self._command(),
            "versions": versions(),
            "hardware": hardware(),
            "physics": {"sha256": physics_digest(self.spec), **self.spec.physics},
            "timing": dict(self.timing),
        }

    def write(self, path: str | Path) -> None:
        """Writes the JSON to a file, whole or not at all; ``-`` means stdout.

        Raises:
            StorageError: if the file cannot be written.
        """
        write_text(path, to_text(self.to_dict()))

    def _time_to_success(self) -> dict[str, float] | None:
        return tail(figures.by_name(self.records, self.spec.control_hz).get(figures.TIME, []))

    def _brief(self, record: EpisodeRecord) -> dict[str, Any]:
        return {
            "seed": record.seed, "success": record.success, "return": record.episode_return, "steps": record.steps,
            "replay": self._replay(record.seed),
        }  # fmt: skip

    def _failed(self, failure: EpisodeFailure) -> dict[str, Any]:
        at = None if self.grid is None or failure.point < 0 else self.grid.points[failure.point]
        return {"seed": failure.seed, "error": failure.error, "at": at}

    def _replay(self, seed: int) -> str:
        named = [self.source, *self._named()]
        if self.difficulty in (None, 1.0):  # which is what a view shows
            return shlex.join(["physai", "view", *named, "--seed", str(seed)])
        return shlex.join(["physai", "eval", *named, "--episodes", "1", "--seed", str(seed), *self._level()])

    def _command(self) -> str:
        episodes = len(self.records) if self.planned is None else self.planned
        words = ["physai", "eval", self.source, *self._named(), "--episodes", str(episodes), "--seed", str(self.seed)]
        for rule in self.rules:
            words += ["--require", str(rule).replace(" ", "")]
        for axis in self.grid.axes if self.grid else ():
            words += ["--perturb", f"{axis.name}={axis.values[0]:g}:{axis.values[-1]:g}:{len(axis.values)}"]
        if self.stopped is not None:
            words += ["--early-stop", "--risk", f"{self.stopped.test.risk:g}"]
        return shlex.join(words + self._level())

    def _named(self) -> list[str]:
        return [] if self.task is None else ["--task", self.task]

    def _level(self) -> list[str]:
        return [] if self.difficulty is None else ["--difficulty", f"{self.difficulty:g}"]


def success(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """Returns the success rate with its interval, as plain JSON types."""
    found: dict[str, Any] = {
        "rate": None, "count": None, "interval": None, "confidence": CONFIDENCE, "method": "wilson"
    }  # fmt: skip
    count = _successes(records)
    if count is not None:
        found |= {"rate": count / len(records), "count": count, "interval": [*wilson_interval(count, len(records))]}
    return found


def _successes(records: Sequence[EpisodeRecord]) -> int | None:
    if not records or any(record.success is None for record in records):
        return None
    return sum(bool(record.success) for record in records)


def _robustness(grid: Grid, at_points: Sequence[Sequence[EpisodeRecord]]) -> dict[str, Any]:
    points = [
        {
            "at": at,
            "success": success(records),
            "return": spread([record.episode_return for record in records]),
            "metrics": _each("metrics", records, tail),
            "successes": {str(record.seed): record.success for record in records},
        }
        for at, records in zip(grid.points, at_points, strict=True)
    ]
    played = [point for point in points if point["return"] is not None]
    worst = min(played, key=lambda p: (p["success"]["rate"] or 0.0, p["return"]["mean"]), default=None)
    return {
        "axes": [asdict(axis) for axis in grid.axes],
        "points": points,
        "worst": None if worst is None else {name: worst[name] for name in ("at", "success", "return")},
    }


def _each(
    field: str, records: Sequence[EpisodeRecord], summary: Callable[[list[float]], Mapping[str, float] | None]
) -> dict[str, Mapping[str, float] | None]:
    names = dict.fromkeys(name for record in records for name in getattr(record, field))
    return {name: summary([getattr(r, field)[name] for r in records if name in getattr(r, field)]) for name in names}


def _merit(record: EpisodeRecord) -> tuple[bool, float, int]:
    return bool(record.success), record.episode_return, record.seed


def _row(record: EpisodeRecord) -> dict[str, Any]:
    row = asdict(record)
    for name in ("seconds", "physics_seconds"):  # the rest is the same in every run
        del row[name]
    return row


def record_of(row: Mapping[str, Any]) -> EpisodeRecord:
    """Returns the episode that a row of a report's ``records`` describes."""
    return EpisodeRecord(**row, seconds=0.0, physics_seconds=0.0)


def to_text(document: Mapping[str, Any]) -> str:
    """Returns the JSON of a report as it is written to a file."""
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def write_text(path: str | Path, text: str) -> None:
    """Writes a file, whole or not at all; ``-`` means stdout.

    Raises:
        StorageError: if the file cannot be written.
    """
    if str(path) == "-":
        sys.stdout.write(text)
        return
    part = Path(f"{path}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as problem:
        with suppress(OSError):
            part.unlink()
        raise StorageError(f"{path} cannot be written ({problem.strerror}); name another file") from problem


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of a report."""
    found: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))
    return found
