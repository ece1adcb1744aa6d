"""The folder that a run leaves, wherever it is: its configuration, versions, figures and checkpoints."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from physai.config import RunConfig
from physai.errors import CheckpointError, ConfigError, StorageError
from physai.evaluate.provenance import hardware, versions
from physai.storage import Storage, place, reason
from physai.train.checkpoint import CheckpointStore
from physai.train.figures import PROGRESS
from physai_envs import registry

CONFIG, VERSIONS, CHECKPOINTS, QUARANTINE = "config.yaml", "versions.json", "checkpoints", "quarantine.json"
WARM_START = "warm_start.json"

# What a run cannot change when it is continued: the checkpoint would not fit, or it would be another run.
FIXED = ("task", "goal_env", "seed", "algorithm.name", "algorithm.network", "algorithm.activation", "normalizer")


class RunFolder:
    """A run's place, on a disk or in an object store.

    Args:
        location: ``storage/<task>/<name>``.
        keep: how many checkpoints stay.
    """

    def __init__(self, location: str | Path | Storage, keep: int) -> None:
        self.storage = Storage.at(location)
        self.path = place(self.storage)
        self.checkpoints = CheckpointStore(self.storage / CHECKPOINTS, keep)

    @classmethod
    def create(cls, config: RunConfig) -> RunFolder:
        """Makes the folder of a new run.

        Raises:
            ConfigError: if a run of that name is there already.
            StorageError: if the folder cannot be written.
        """
        above = Storage.at(config.storage) / registry.slug(config.task)
        with _explained(above):
            run = cls(above / (config.name or _free_name(above)), config.checkpoint.keep)
            there = bool(run.checkpoints.names()) or (run.path / PROGRESS).exists()
        if there:  # one that never came to that may be begun anew
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
            StorageError: if it cannot be read.
            ConfigError: if the configuration is that of another run.
        """
        run = cls(path, config.checkpoint.keep)
        with _explained(run.storage):
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
        with _explained(self.storage, "written"):
            (self.storage / name).write(text.encode())

    def discard(self) -> None:
        """Removes the folder of a run that never began, so that it is not the newest one; if it cannot, it stays."""
        with suppress(OSError, StorageError):
            if {child.name for child in self.storage.iterdir()} <= {CONFIG, VERSIONS}:
                self.storage.remove(CONFIG)

    def can_continue(self) -> bool:
        """Whether there is a checkpoint, as far as anybody can tell now."""
        try:
            return bool(self.checkpoints.names())
        except StorageError:
            return False


@contextmanager
def _explained(storage: Storage, what: str = "read") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"run folder {storage} cannot be {what}: {reason(error)}") from error


def _free_name(above: Storage) -> str:
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
