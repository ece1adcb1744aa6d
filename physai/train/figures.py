"""The figures of a run: one row an iteration, in ``progress.csv`` and as TensorBoard events."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physai.errors import StorageError
from physai.storage import Storage, reason

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PROGRESS = "progress.csv"
Values = Mapping[str, float | int | None]


class Figures:
    """Writes them into a folder of this machine. A disk that fails holds rows back, and loses none.

    Args:
        folder: of the run, or one whose files are copied to it.
        iteration: rows of later iterations are removed: they were not kept by a checkpoint and come again.
    """

    def __init__(self, folder: Path, iteration: int = 0) -> None:
        self._path, self._folder = folder / PROGRESS, folder
        self._writer: SummaryWriter | None = None
        self._late: list[dict[str, Any]] = []  # rows that are not on the disk yet
        self._undrawn: list[Values] = []
        self._columns, rows = self._read()
        kept = [row for row in rows if int(row["iteration"]) <= iteration]
        # TensorBoard is told to forget the points from here on: it, too, would show them twice.
        steps = int(float(kept[-1]["steps"])) + 1 if kept else 0
        self._purge = steps if self.events() else None
        self._whole = False  # whether the file holds all rows but the late ones, and nothing else
        self.problem = ""  # why rows are held back
        try:
            self._keep(kept)
        except OSError as error:
            self.problem, self._late = reason(error), kept

    def add(self, row: Values) -> None:
        """Adds a row, in place of one of the same iteration; figures that are not known are empty."""
        new = [name for name in row if name not in self._columns]
        self._columns += new
        self._whole = self._whole and not new
        self._late.append(_plain(row))
        self._undrawn.append(row)
        self._flush()

    def amend(self, iteration: int, values: Values) -> None:
        """Changes figures of a row that was written before the run was stopped."""
        rows = [row for row in self._read()[1] if int(row["iteration"]) == iteration]
        if rows:
            self._columns += [name for name in values if name not in self._columns]
            self._whole = False
            self._late.append({**rows[-1], **_plain(values)})
            self._flush()

    def text(self) -> bytes:
        """Returns ``progress.csv`` as it is to be, held back rows included."""
        return _csv(self._columns, self._rows())

    def events(self) -> list[Path]:
        """TensorBoard's files."""
        return sorted(self._folder.glob("events.out.tfevents.*"))

    def close(self) -> None:
        """Writes what is still held back.

        Raises:
            StorageError: if the disk does not take it.
        """
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self.problem:
            raise StorageError(f"{self._path} cannot be written: {self.problem}")

    def _flush(self) -> None:
        try:
            if self._whole:
                with self._path.open("a", newline="", encoding="utf-8") as file:
                    file.write(_csv(self._columns, self._late, head=False).decode())
                self._late = []
            else:
                self._keep(self._rows())
            self._draw()
            self.problem = ""
        except OSError as error:
            self.problem, self._whole = reason(error), False

    def _rows(self) -> list[dict[str, Any]]:
        """All rows, each iteration once."""
        return list({int(row["iteration"]): row for row in [*self._read()[1], *self._late]}.values())

    def _keep(self, rows: list[dict[str, Any]]) -> None:
        Storage.at(self._path).write(_csv(self._columns, rows))
        self._late, self._whole = [], True

    def _draw(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=self._purge)
            self._purge = None
        try:
            for row in self._undrawn:
                for name, value in row.items():
                    if value is not None and name not in ("iteration", "steps"):
                        shown = name if "/" in name else f"run/{name}"
                        self._writer.add_scalar(shown, value, global_step=int(row["steps"] or 0))
            self._writer.flush()
        except OSError:
            self._writer = None  # it would repeat this failure for ever
            raise
        self._undrawn = []

    def _read(self) -> tuple[list[str], list[dict[str, Any]]]:
        if not self._path.exists():
            return [], []
        with self._path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            # The last line may be half written; it has no last column then.
            rows = [row for row in reader if None not in row.values() and str(row["iteration"]).isdigit()]
            return list(reader.fieldnames or []), rows


def _csv(columns: list[str], rows: list[dict[str, Any]], *, head: bool = True) -> bytes:
    text = io.StringIO()
    if columns:
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        if head:
            writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode()


def _plain(row: Values) -> dict[str, Any]:
    return {
        name: ""
        if value is None or not math.isfinite(value)
        else round(value, 6)
        if isinstance(value, float)
        else value
        for name, value in row.items()
    }
