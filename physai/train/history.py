"""A run as it lies on the disk: its configuration, figures, versions and evaluation, as far as they are there."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import yaml
from numpy.typing import NDArray

from physai.config import RunConfig
from physai.errors import CheckpointError, StorageError
from physai.storage import place, reason
from physai.train.figures import PROGRESS
from physai.train.run_dir import CONFIG, VERSIONS

EVALUATION, FILM, RECORDING = "evaluation.json", "rollout.mp4", "rollout.html"
NOT_COMPARED = ("seed", "name", "storage")  # runs that differ in these alone are repetitions of each other


@dataclass(frozen=True)
class History:
    """What a run left.

    Attributes:
        folder: of the run.
        config: as it was resolved.
        columns: figures by name, one for each iteration, NaN where they are not known.
        versions: packages and hardware; empty if they were not written.
        evaluation: report of ``physai eval``; None if it was not evaluated.
    """

    folder: Path
    config: dict[str, Any]
    columns: dict[str, NDArray[np.float64]]
    versions: dict[str, Any]
    evaluation: dict[str, Any] | None

    @classmethod
    def read(cls, location: str | Path) -> History:
        """Reads a run folder, wherever it is.

        Raises:
            CheckpointError: if it is none, or a file in it cannot be read as what it is.
            ConfigError: if its configuration is not one of this version.
            StorageError: if it cannot be read at all.
        """
        folder = cast(Path, place(location))
        try:
            if not (folder / CONFIG).is_file():
                raise CheckpointError(f"{location} is no run folder (no {CONFIG} in it); `physai runs` lists the runs")
            return cls(
                folder, yaml.safe_load(RunConfig.load(folder / CONFIG).to_yaml()), _columns(folder / PROGRESS),
                _json(folder / VERSIONS) or {}, _json(folder / EVALUATION),
            )  # fmt: skip
        except OSError as error:
            raise StorageError(f"run {location} cannot be read: {reason(error)}") from error
        except (ValueError, yaml.YAMLError) as error:
            raise CheckpointError(f"a file of run {location} is damaged: {error}") from error

    @property
    def name(self) -> str:
        """Last part of its folder."""
        return self.folder.name

    @property
    def iterations(self) -> int:
        """How many iterations have figures."""
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str) -> NDArray[np.float64]:
        """Returns a figure for each iteration, NaN where it is not known; older runs lack some."""
        return self.columns.get(name, np.full(self.iterations, np.nan))

    def named(self, prefix: str) -> list[str]:
        """Returns the names of columns that begin so."""
        return [name for name in self.columns if name.startswith(prefix)]

    def flat(self) -> dict[str, Any]:
        """Returns the configuration as one level of dotted keys."""
        found: dict[str, Any] = {}
        waiting = list(self.config.items())
        while waiting:
            key, value = waiting.pop(0)
            if isinstance(value, dict) and value:
                waiting[:0] = [(f"{key}.{name}", inner) for name, inner in value.items()]
            else:
                found[key] = value
        return found

    def repeats(self, other: History) -> bool:
        """Whether both runs do the same but for their seeds."""
        mine, theirs = ({k: v for k, v in run.flat().items() if k not in NOT_COMPARED} for run in (self, other))
        return mine == theirs


def groups(runs: Sequence[History]) -> list[list[History]]:
    """Returns the runs with those together that differ by their seed alone."""
    found: list[list[History]] = []
    for run in runs:
        same = next((group for group in found if group[0].repeats(run)), None)
        if same is None:
            found.append([run])
        else:
            same.append(run)
    return found


def _columns(path: Path) -> dict[str, NDArray[np.float64]]:
    if not path.is_file():
        return {}
    reader = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    # the last line of a run that goes on may be half written
    rows = [row for row in reader if None not in row.values() and str(row.get("iteration")).isdigit()]
    return {name: np.array([_number(row[name]) for row in rows]) for name in reader.fieldnames or ()}


def _number(text: str) -> float:
    return float(text) if text else math.nan


def _json(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
