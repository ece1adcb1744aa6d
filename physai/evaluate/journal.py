"""Keeps the episodes of an evaluation as they end, so that one that was killed need not begin again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from physai.errors import ConfigError, StorageError
from physai.evaluate.episodes import EpisodeRecord

SUFFIX = ".journal"  # after the name of the JSON report beside which it lies


class Journal:
    """A line of JSON that says which evaluation this is, then one for each finished episode; a context manager.

    Args:
        path: of the file; None keeps none.
        identity: what makes an evaluation this one; another's episodes are refused.
        resume: read what is there, instead of beginning anew.

    Raises:
        ConfigError: if what is there belongs to another evaluation.
        StorageError: if the file cannot be read or written.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any], *, resume: bool) -> None:
        self.path, self.finished = path, {}
        self._file: IO[str] | None = None
        if path is None:
            return
        try:
            if resume and path.is_file():
                self.finished: dict[tuple[int, int], EpisodeRecord] = _read(path, identity)
            part = path.with_name(path.name + ".part")  # what is there stays until what replaces it is whole
            lines = [dict(identity), *(_line(point, record) for (point, _), record in self.finished.items())]
            part.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            part.replace(path)
            self._file = path.open("a", encoding="utf-8")
        except OSError as problem:
            raise StorageError(f"{path} cannot be written ({problem.strerror}); name another file") from problem

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, point: int, record: EpisodeRecord) -> None:
        """Keeps a finished episode.

        Raises:
            StorageError: if it cannot be written.
        """
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(_line(point, record)) + "\n")
            self._file.flush()  # so that a killed process loses nothing; against a power cut there is no need
        except OSError as problem:
            raise StorageError(f"{self.path} cannot be written ({problem.strerror}); make room for it") from problem


def journal_of(report: str | Path) -> Path:
    """Returns where the journal of an evaluation lies: beside its JSON report."""
    return Path(f"{report}{SUFFIX}")


def discard(report: str | Path | None) -> None:
    """Removes the journal of an evaluation that is done."""
    if report is not None:
        journal_of(report).unlink(missing_ok=True)


def _line(point: int, record: EpisodeRecord) -> dict[str, Any]:
    return {"point": point, **asdict(record)}


def _read(path: Path, identity: Mapping[str, Any]) -> dict[tuple[int, int], EpisodeRecord]:
    head, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    try:
        found = json.loads(head)
    except ValueError:
        return {}  # killed before the first line was whole
    differing = sorted(name for name in identity if found.get(name) != json.loads(json.dumps(identity[name])))
    if differing:
        raise ConfigError(
            f"{path} holds episodes of another evaluation (other {', '.join(differing)}); "
            "leave out --resume to begin anew"
        )
    finished = {}
    for line in lines:
        try:
            fields = json.loads(line)
        except ValueError:
            break  # killed while this line was written
        point = fields.pop("point")
        record = EpisodeRecord(**fields)
        finished[point, record.seed] = record
    return finished
