"""Checkpoints: a folder is there whole and as it was written, or it is not there.

Written under another name, flushed to the disk, then renamed. A manifest holds the digest of each file; what does not
agree with it is passed over for the checkpoint before, never for a fresh start.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.deploy.files import MANIFEST, canonical_json, describe, read_described
from physai.errors import CheckpointError, StorageError
from physai.train.fragment import EnvState, GroupState

BEST = "best.json"
PARTIAL, REPLACED = ".partial-", ".replaced-"  # begin with a dot: no glob finds them
log = logging.getLogger("physai")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose digests agree, with the contents of its files."""

    folder: Path
    files: Mapping[str, bytes]

    @property
    def iteration(self) -> int:
        """Iterations that were complete when it was written."""
        return int(self.folder.name)


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: ``checkpoints`` of the run; made when the first one is saved.
        keep: how many of the newest stay, besides the best.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def names(self) -> list[str]:
        """Names of all checkpoints, the newest first."""
        if not self.folder.is_dir():
            return []
        return sorted((p.name for p in self.folder.iterdir() if p.is_dir() and p.name.isdigit()), reverse=True)

    def save(self, iteration: int, files: Mapping[str, bytes]) -> Path:
        """Writes a checkpoint; one of the same iteration is replaced.

        Raises:
            StorageError: if it cannot be written; the ones before are untouched.
        """
        name = f"{iteration:06d}"
        target, partial = self.folder / name, self.folder / f"{PARTIAL}{name}-{os.getpid()}"
        replaced = self.folder / f"{REPLACED}{name}-{os.getpid()}"
        try:
            self._remove_leftovers()
            partial.mkdir(parents=True)
            for file, data in {**files, MANIFEST: canonical_json({"files": describe(files)})}.items():
                write_durably(partial / file, data)
            _flush_folder(partial)
            if target.exists():
                target.rename(replaced)
            partial.rename(target)
            _flush_folder(self.folder)
        except OSError as error:
            if replaced.exists() and not target.exists():
                replaced.rename(target)
            shutil.rmtree(partial, ignore_errors=True)
            raise StorageError(f"checkpoint {target} cannot be written: {reason(error)}{self._before()}") from error
        shutil.rmtree(replaced, ignore_errors=True)
        return target

    def prune(self) -> None:
        """Removes all but the newest and the best."""
        best = self.best()
        for name in self.names()[self.keep :]:
            if best is None or name != best.get("checkpoint"):
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def newest(self) -> Checkpoint | None:
        """Returns the newest checkpoint that is intact; None if none was ever written.

        Raises:
            CheckpointError: if there are some, and all are damaged.
        """
        names, damage = self.names(), []
        for name in names:
            folder = self.folder / name
            try:
                return Checkpoint(folder, read_described(folder, json.loads((folder / MANIFEST).read_bytes())["files"]))
            except (OSError, ValueError, KeyError, TypeError) as problem:
                what = f"{problem} is missing" if isinstance(problem, KeyError) else str(problem)
                log.warning("checkpoint %s is damaged (%s); taking the one before", folder, what)
                damage.append(name)
        if damage:
            raise CheckpointError(
                f"none of the {len(damage)} checkpoints in {self.folder} is intact ({', '.join(damage)}); "
                "restore one from a backup, or start a new run"
            )
        return None

    def best(self) -> dict[str, Any] | None:
        """Returns what `mark_best` wrote; None before, or if it cannot be read."""
        try:
            found = json.loads((self.folder / BEST).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def mark_best(self, entry: Mapping[str, Any]) -> None:
        """Records which checkpoint the run hands on, and why.

        Raises:
            StorageError: if it cannot be written.
        """
        partial = self.folder / f"{PARTIAL}{BEST}"
        try:
            write_durably(partial, canonical_json(dict(entry)))
            partial.replace(self.folder / BEST)
        except OSError as error:
            raise StorageError(f"{self.folder / BEST} cannot be written: {reason(error)}") from error

    def _before(self) -> str:
        names = self.names()
        return f"; checkpoint {names[0]} is intact, and the run can continue from it" if names else ""

    def _remove_leftovers(self) -> None:
        """Clears away what a killed process left half done."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.name.startswith(REPLACED) and path.is_dir():
                target = self.folder / path.name.removeprefix(REPLACED).partition("-")[0]
                if not target.exists():  # killed between the two renames: the old one is still the checkpoint
                    path.rename(target)
            if path.name.startswith((PARTIAL, REPLACED)):
                shutil.rmtree(path, ignore_errors=True)


def write_durably(path: Path, data: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot; the rename is still atomic
            os.fsync(handle)
    finally:
        os.close(handle)


def reason(error: OSError) -> str:
    """Says in words why a file could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space is left on the disk; free some, or choose another place with storage="
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write there; choose another place with storage="
    return error.strerror or str(error)


def pack_state(state: Mapping[str, Any], groups: Mapping[int, GroupState]) -> bytes:
    """Returns counters (JSON) and the states of groups as a numpy archive without pickle."""
    described: dict[str, Any] = {**state, "groups": {}}
    arrays: dict[str, NDArray[Any]] = {}
    for group, envs in groups.items():
        described["groups"][str(group)] = [
            {"episode": env.episode, "seed": env.seed, "options": dict(env.options)} for env in envs
        ]
        for e, env in enumerate(envs):
            arrays[f"actions/{group}/{e}"], arrays[f"observation/{group}/{e}"] = env.actions, env.observation
            if env.memory is not None:
                arrays[f"memory/{group}/{e}"] = env.memory
    file = io.BytesIO()
    np.savez(file, json=np.frombuffer(json.dumps(described).encode(), np.uint8), **arrays)
    return file.getvalue()


def unpack_state(data: bytes) -> tuple[dict[str, Any], dict[int, GroupState]]:
    """Restores what `pack_state` returned."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        state = json.loads(arrays["json"].tobytes())
        groups = {
            int(group): tuple(
                EnvState(
                    **env,
                    actions=arrays[f"actions/{group}/{e}"],
                    observation=arrays[f"observation/{group}/{e}"],
                    memory=arrays.get(f"memory/{group}/{e}"),
                )
                for e, env in enumerate(envs)
            )
            for group, envs in state.pop("groups").items()
        }
    return state, groups
