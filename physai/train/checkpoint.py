"""Checkpoints: a folder is there whole and as it was written, or it is not there.

How that is so on a disk and in an object store, `physai.storage` says. A manifest holds the digest of each file; what
does not agree with it is passed over for the checkpoint before, never for a fresh start.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.deploy.files import MANIFEST, canonical_json, describe, read_described
from physai.errors import CheckpointError, StorageError
from physai.storage import Storage, place, reason
from physai.train.fragment import EnvState, GroupState

BEST = "best.json"
log = logging.getLogger("physai")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose digests agree, with the contents of its files."""

    folder: Path | Storage
    files: Mapping[str, bytes]

    @property
    def iteration(self) -> int:
        """Iterations that were complete when it was written."""
        return int(self.folder.name)


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: ``checkpoints`` of the run, anywhere; made when the first one is saved.
        keep: how many of the newest stay, besides the best.
    """

    def __init__(self, folder: str | Path | Storage, keep: int) -> None:
        self.storage, self.keep = Storage.at(folder), keep
        self.folder = place(self.storage)

    def names(self) -> list[str]:
        """Names of all checkpoints, the newest first.

        Raises:
            StorageError: if nobody can tell.
        """
        try:
            return sorted((name for name in self.storage.sealed(MANIFEST) if name.isdigit()), reverse=True)
        except OSError as error:
            raise StorageError(f"checkpoints in {self.folder} cannot be listed: {reason(error)}") from error

    def save(self, iteration: int, files: Mapping[str, bytes]) -> Path | Storage:
        """Writes a checkpoint; one of the same iteration is replaced.

        Raises:
            StorageError: if it cannot be written; the ones before are untouched.
        """
        name = f"{iteration:06d}"
        manifest = canonical_json({"files": describe(files)})
        try:
            self.storage.tidy(MANIFEST)
            (self.storage / name).write_folder({**files, MANIFEST: manifest}, MANIFEST)
        except OSError as error:
            where = self.folder / name
            raise StorageError(f"checkpoint {where} cannot be written: {reason(error)}{self._before()}") from error
        return self.folder / name

    def prune(self) -> None:
        """Removes all but the newest and the best.

        Raises:
            StorageError: if the store does not answer; the next call tries again.
        """
        best = self.best()
        try:
            for name in self.names()[self.keep :]:
                if best is None or name != best.get("checkpoint"):
                    (self.storage / name).remove(MANIFEST)
        except OSError as error:
            raise StorageError(f"old checkpoints in {self.folder} cannot be removed: {reason(error)}") from error

    def newest(self) -> Checkpoint | None:
        """Returns the newest checkpoint that is intact; None if none was ever written.

        Raises:
            CheckpointError: if there are some, and all are damaged.
            StorageError: if an object store does not answer: that is no damage.
        """
        names, damage = self.names(), []
        for name in names:
            folder = self.folder / name
            try:
                table = json.loads((folder / MANIFEST).read_bytes())["files"]
                return Checkpoint(folder, read_described(folder, table))  # type: ignore[arg-type]
            except (OSError, ValueError, KeyError, TypeError) as problem:
                missing = isinstance(problem, FileNotFoundError) or isinstance(self.folder, Path)
                if isinstance(problem, OSError) and not missing:
                    raise StorageError(f"checkpoint {folder} cannot be read: {reason(problem)}") from problem
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
        try:
            (self.storage / BEST).write(canonical_json(dict(entry)))
        except OSError as error:
            raise StorageError(f"{self.folder / BEST} cannot be written: {reason(error)}") from error

    def _before(self) -> str:
        try:
            names = self.names()
        except StorageError:
            return ""
        return f"; checkpoint {names[0]} is intact, and the run can continue from it" if names else ""


def pack_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Returns a numpy archive without pickle."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def unpack_arrays(data: bytes) -> dict[str, NDArray[Any]]:
    """Restores what `pack_arrays` returned."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def pack_state(state: Mapping[str, Any], groups: Mapping[int, GroupState]) -> bytes:
    """Returns counters (JSON) and the states of groups as a numpy archive without pickle.

    What all environments have is one array, one after the other: an entry for each would be thousands in a large run,
    and the learner waits for them.
    """
    envs = [env for group in groups.values() for env in group]
    described: dict[str, Any] = {**state, "groups": {}}
    for group, members in groups.items():
        described["groups"][str(group)] = [
            {"episode": env.episode, "seed": env.seed, "options": dict(env.options), "length": len(env.actions)}
            for env in members
        ]
    arrays: dict[str, NDArray[Any]] = {}
    if envs:
        arrays["actions"] = np.concatenate([env.actions for env in envs])
        arrays["observation"] = np.stack([env.observation for env in envs])
        memories = [env.memory for env in envs if env.memory is not None]
        if memories:
            arrays["memory"] = np.stack(memories)
    return pack_arrays({"json": np.frombuffer(json.dumps(described).encode(), np.uint8), **arrays})


def unpack_state(data: bytes) -> tuple[dict[str, Any], dict[int, GroupState]]:
    """Restores what `pack_state` returned."""
    arrays = unpack_arrays(data)
    state = json.loads(arrays["json"].tobytes())
    described = state.pop("groups")
    lengths = [env.pop("length") for group in described.values() for env in group]
    pieces = iter(np.split(arrays["actions"], np.cumsum(lengths)[:-1]) if lengths else ())
    observations, memories = iter(arrays.get("observation", ())), iter(arrays.get("memory", ()))
    groups = {
        int(group): tuple(
            EnvState(**env, actions=next(pieces), observation=next(observations), memory=next(memories, None))
            for env in envs
        )
        for group, envs in described.items()
    }
    return state, groups
