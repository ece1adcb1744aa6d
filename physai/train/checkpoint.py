"""Checkpoints: a folder is there whole and as it was written, or it is not there.

How that is so on a disk and in an object store, `physai.storage` says. A manifest holds the digest of each file; what
does not agree with it is passed over for the checkpoint before, never for a fresh start. What several checkpoints have
in common is written once, under its digest, into a folder beside them.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.deploy.files import MANIFEST, canonical_json, describe, read_described, sha256
from physai.errors import CheckpointError, StorageError
from physai.storage import Storage, place, reason
from physai.train.fragment import EnvState, GroupState

BEST, SHARED = "best.json", "shared"
log = logging.getLogger("physai")


class Shared:
    """A file that several checkpoints have in common. Its contents are forgotten when they are in the storage.

    Args:
        data: the contents.
        again: makes them once more while it can, for another place; else returns None.
    """

    def __init__(self, data: bytes, again: Callable[[Shared], bytes | None]) -> None:
        self.digest, self.size = sha256(data), len(data)
        self._data: bytes | None = data
        self._again = again

    @property
    def described(self) -> dict[str, Any]:
        """Its entry in a manifest."""
        return {"sha256": self.digest, "size": self.size}

    def contents(self) -> bytes | None:
        """Returns the contents, if they are still to be had."""
        return self._data or self._again(self)

    def forget(self) -> None:
        """Makes room: the contents are in the storage."""
        self._data = None


Files = Mapping[str, bytes | Shared]


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
        self._whole: set[str] = set()  # digests of shared files that were written or read here: they are as they were

    def names(self) -> list[str]:
        """Names of all checkpoints, the newest first.

        Raises:
            StorageError: if nobody can tell.
        """
        try:
            return sorted((name for name in self.storage.sealed(MANIFEST) if name.isdigit()), reverse=True)
        except OSError as error:
            raise StorageError(f"checkpoints in {self.folder} cannot be listed: {reason(error)}") from error

    def save(self, iteration: int, files: Files) -> Path | Storage:
        """Writes a checkpoint; one of the same iteration is replaced.

        Raises:
            StorageError: if it cannot be written; the ones before are untouched.
        """
        name = f"{iteration:06d}"
        own = {key: file for key, file in files.items() if isinstance(file, bytes)}
        shared = {key: file for key, file in files.items() if isinstance(file, Shared)}
        manifest: dict[str, Any] = {"files": describe(own)}
        if shared:
            manifest["shared"] = {key: file.described for key, file in shared.items()}
        try:
            self.storage.tidy(MANIFEST, spare=SHARED)
            for file in shared.values():
                self._share(file)
            (self.storage / name).write_folder({**own, MANIFEST: canonical_json(manifest)}, MANIFEST)
        except OSError as error:
            where = self.folder / name
            raise StorageError(f"checkpoint {where} cannot be written: {reason(error)}{self._before()}") from error
        for file in shared.values():
            file.forget()
        return self.folder / name

    def _share(self, file: Shared) -> None:
        if file.digest not in self._whole:
            (self.storage / SHARED / file.digest).write(self.contents(file))
            self._whole.add(file.digest)

    def contents(self, file: Shared) -> bytes:
        """Returns the contents of a shared file, from memory or from where it was written.

        Raises:
            OSError: if they are in neither.
        """
        return file.contents() or (self.folder / SHARED / file.digest).read_bytes()

    def prune(self) -> None:
        """Removes all but the newest and the best, and what only the others shared.

        Raises:
            StorageError: if the store does not answer; the next call tries again.
        """
        best = self.best()
        try:
            for name in self.names()[self.keep :]:
                if best is None or name != best.get("checkpoint"):
                    (self.storage / name).remove(MANIFEST)
            if self._whole:
                self._prune_shared()
        except OSError as error:
            raise StorageError(f"old checkpoints in {self.folder} cannot be removed: {reason(error)}") from error

    def _prune_shared(self) -> None:
        needed: set[str] = set()
        for name in self.names():
            try:
                table = json.loads((self.folder / name / MANIFEST).read_bytes()).get("shared", {})
                needed |= {entry["sha256"] for entry in table.values()}
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # damaged: nobody can go on from it
        for file in (self.storage / SHARED).iterdir():
            if file.name not in needed:
                file.unlink()
                self._whole.discard(file.name)

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
                manifest = json.loads((folder / MANIFEST).read_bytes())
                files = read_described(folder, manifest["files"])  # type: ignore[arg-type]
                return Checkpoint(folder, {**files, **self._read_shared(manifest.get("shared", {}))})
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
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

    def _read_shared(self, table: Mapping[str, Any]) -> dict[str, bytes]:
        if not table:
            return {}
        by_digest = {entry["sha256"]: entry for entry in table.values()}
        found = read_described(self.folder / SHARED, by_digest)  # type: ignore[arg-type]
        self._whole |= found.keys()
        return {name: found[entry["sha256"]] for name, entry in table.items()}

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
