"""The folder that a run leaves: its configuration, versions, figures and checkpoints."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physai.config import RunConfig
from physai.errors import CheckpointError, ConfigError, StorageError
from physai.evaluate.provenance import hardware, versions
from physai.train.checkpoint import CheckpointStore, reason
from physai_envs import registry

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CONFIG, VERSIONS, PROGRESS, CHECKPOINTS = "config.yaml", "versions.json", "progress.csv", "checkpoints"

# What a run cannot change when it is continued: the checkpoint would not fit, or it would be another run.
FIXED = ("task", "goal_env", "seed", "algorithm.name", "algorithm.network", "algorithm.activation", "normalizer")


class RunFolder:
    """A run's place on the disk.

    Args:
        path: ``storage/<task>/<name>``.
        keep: how many checkpoints stay.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        self.checkpoints = CheckpointStore(path / CHECKPOINTS, keep)

    @classmethod
    def create(cls, config: RunConfig) -> RunFolder:
        """Makes the folder of a new run.

        Raises:
            ConfigError: if a run of that name is there already.
            StorageError: if the folder cannot be written.
        """
        above = Path(config.storage).absolute() / registry.slug(config.task)
        name = config.name or _free_name(above)
        run = cls(above / name, config.checkpoint.keep)
        if run.checkpoints.names() or (run.path / PROGRESS).exists():  # one that never came to that may be begun anew
            raise ConfigError(
                f"run {run.path} exists already; continue it with --resume {run.path}, or give another name="
            )
        run.write(CONFIG, config.to_yaml())
        run.write(VERSIONS, json.dumps({**_git(), "packages": versions(), "hardware": hardware()}, indent=2) + "\n")
        return run

    @classmethod
    def reopen(cls, path: str | Path, config: RunConfig) -> RunFolder:
        """Opens the folder of a run that is continued, with a configuration that may differ where that makes sense.

        Raises:
            CheckpointError: if it is no run.
            ConfigError: if the configuration is that of another run.
        """
        run = cls(Path(path).absolute(), config.checkpoint.keep)
        if not (run.path / CONFIG).is_file():
            raise CheckpointError(f"{path} is no run folder: there is no {CONFIG} in it")
        before = RunConfig.load(run.path / CONFIG)
        changed = [
            f"{key} ({_at(before, key)} to {_at(config, key)})" for key in FIXED if _at(before, key) != _at(config, key)
        ]
        if changed:
            raise ConfigError(
                f"run {run.path} cannot be continued with other values of {', '.join(changed)}; start a new run"
            )
        if before != config:
            run.write(CONFIG, config.to_yaml())
        return run

    def write(self, name: str, text: str) -> None:
        """Writes a file of the run, whole or not at all.

        Raises:
            StorageError: if it cannot be written.
        """
        partial = self.path / f".{name}.partial"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(self.path / name)
        except OSError as error:
            raise StorageError(f"run folder {self.path} cannot be written: {reason(error)}") from error


def _free_name(above: Path) -> str:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{n}" for n in range(2, 1000))]
    return next(name for name in names if not (above / name).exists())


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = getattr(config, part)
    return config


def _git() -> dict[str, Any]:
    """Commit of the source tree, if it is one."""
    here, git = Path(__file__).resolve().parents[2], shutil.which("git")
    if git is None or not (here / ".git").exists():
        return {"git": None}
    try:
        commit = subprocess.run(
            [git, "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
        changes = subprocess.run(
            [git, "-C", str(here), "status", "--porcelain"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {"git": None}
    return {"git": commit.stdout.strip(), "git_changed": bool(changes.stdout.strip())}


class Figures:
    """One row an iteration, in ``progress.csv`` and as TensorBoard events.

    Args:
        folder: of the run.
        iteration: rows of later iterations are removed: they were not kept by a checkpoint and come again.
    """

    def __init__(self, folder: Path, iteration: int = 0) -> None:
        self._path = folder / PROGRESS
        self._folder, self._writer = folder, None
        self._columns, rows = self._read()
        rows = [row for row in rows if int(row["iteration"]) <= iteration]
        self._rewrite(rows)

    def add(self, row: Mapping[str, float | int | None]) -> None:
        """Adds a row; figures that are not known are empty.

        Raises:
            StorageError: if it cannot be written.
        """
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._rewrite(self._read()[1])
        try:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns).writerow(_plain(row))
            self._draw(row)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {reason(error)}") from error

    def close(self) -> None:
        """Writes what is still held back."""
        if self._writer is not None:
            self._writer.close()

    def _draw(self, row: Mapping[str, float | int | None]) -> None:
        writer = self._tensorboard()
        for name, value in row.items():
            if value is not None and name not in ("iteration", "steps"):
                writer.add_scalar(name if "/" in name else f"run/{name}", value, global_step=int(row["steps"] or 0))
        writer.flush()

    def _tensorboard(self) -> SummaryWriter:
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder))
        return self._writer

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        if not self._path.exists():
            return [], []
        with self._path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            # The last line may be half written; it has no last column then.
            rows = [row for row in reader if None not in row.values() and str(row["iteration"]).isdigit()]
            return list(reader.fieldnames or []), rows

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO()
        if self._columns:
            writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        partial = self._path.with_name(f".{PROGRESS}.partial")
        try:
            with partial.open("w", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {reason(error)}") from error


def _plain(row: Mapping[str, float | int | None]) -> dict[str, Any]:
    return {
        name: ""
        if value is None or not math.isfinite(value)
        else round(value, 6)
        if isinstance(value, float)
        else value
        for name, value in row.items()
    }
