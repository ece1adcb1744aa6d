"""The result of an evaluation, and its JSON."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from physai.errors import ConfigError, StorageError
from physai.evaluate.episodes import EpisodeRecord
from physai.evaluate.provenance import hardware, physics_digest, versions
from physai.evaluate.statistics import CONFIDENCE, spread, tail, wilson_interval
from physai.spec import PolicySpec

SCHEMA = "physai-evaluation/1"
WORST = 5  # how many of the worst episodes are named


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes:
        source: as the caller named the policy.
        task: name that was evaluated.
        policy: kind of source, algorithm and digest.
        records: one for each episode, in the order of the seeds.
        first_seed: seed of the first environment episode.
        timing: wall time and workers; all that may differ from run to run.
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

    @property
    def successes(self) -> int | None:
        """Number of episodes that succeeded; None if the environment does not say."""
        if any(record.success is None for record in self.records):
            return None
        return sum(bool(record.success) for record in self.records)

    @property
    def success_rate(self) -> float | None:
        """Share of episodes that succeeded; None if the environment does not say."""
        return None if self.successes is None else self.successes / len(self.records)

    def passed(self, min_success: float) -> bool:
        """Whether the success rate is at least `min_success`.

        Raises:
            ConfigError: if the environment does not report success.
        """
        if self.success_rate is None:
            raise ConfigError(f"{self.spec.task} does not report is_success: there is no success rate to judge it by")
        return self.success_rate >= min_success

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON types; all but ``timing`` are a function of policy, task, seeds and difficulty."""
        records = self.records
        return {
            "schema": SCHEMA,
            "task": self.spec.task,
            "source": self.source,
            "policy": dict(self.policy),
            "episodes": len(records),
            "seeds": {"evaluation": self.seed, "start": self.first_seed, "count": len(records)},
            "difficulty": self.difficulty,
            "success": self._success(),
            "return": spread([record.episode_return for record in records]),
            "reward_terms": _each("reward_terms", records, spread),
            "steps": spread([float(record.steps) for record in records]),
            "time_to_success_s": self._time_to_success(),
            "metrics": _each("metrics", records, tail),
            "action_change": tail([record.action_change for record in records]),
            "worst": [_brief(record) for record in sorted(records, key=_merit)[:WORST]],
            "command": self._command(),
            "versions": versions(),
            "hardware": hardware(),
            "physics": {"sha256": physics_digest(self.spec), **self.spec.physics},
            "timing": dict(self.timing),
        }

    def _success(self) -> dict[str, Any]:
        if self.successes is None:
            return {"rate": None, "count": None, "interval": None, "confidence": CONFIDENCE, "method": "wilson"}
        interval = list(wilson_interval(self.successes, len(self.records)))
        return {
            "rate": self.success_rate, "count": self.successes, "interval": interval, "confidence": CONFIDENCE,
            "method": "wilson",
        }  # fmt: skip

    def _time_to_success(self) -> dict[str, float] | None:
        times = [r.success_at / self.spec.control_hz for r in self.records if r.success and r.success_at is not None]
        return tail(times) if times else None

    def _command(self) -> str:
        words = ["physai", "eval", self.source]
        words += [] if self.task is None else ["--task", self.task]
        words += ["--episodes", str(len(self.records)), "--seed", str(self.seed)]
        words += [] if self.difficulty is None else ["--difficulty", f"{self.difficulty:g}"]
        return shlex.join(words)

    def write(self, path: str | Path) -> None:
        """Writes the JSON to a file, whole or not at all; ``-`` means stdout.

        Raises:
            StorageError: if the file cannot be written.
        """
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
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


def _each(
    field: str, records: tuple[EpisodeRecord, ...], summary: Callable[[list[float]], dict[str, float]]
) -> dict[str, dict[str, float]]:
    names = dict.fromkeys(name for record in records for name in getattr(record, field))
    return {name: summary([getattr(r, field)[name] for r in records if name in getattr(r, field)]) for name in names}


def _merit(record: EpisodeRecord) -> tuple[bool, float, int]:
    return bool(record.success), record.episode_return, record.seed


def _brief(record: EpisodeRecord) -> dict[str, Any]:
    return {"seed": record.seed, "success": record.success, "return": record.episode_return, "steps": record.steps}
