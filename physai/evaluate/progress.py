"""Says how far a long job is: a bar in a terminal, a line every two seconds elsewhere, always on stderr."""

from __future__ import annotations

import sys
import threading
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 2.0


class Meter:
    """Counts to a total, and speaks by itself while the job is busy; used as a context manager.

    Args:
        what: one word for the job.
        total: how many steps it has; None if nobody knows.
        shown: False keeps it silent.
    """

    def __init__(self, what: str, total: int | None, *, shown: bool = True) -> None:
        self.what, self.total = what, total
        self.done, self.note = 0, ""
        self._bar: Progress | None = None
        self._speaker: threading.Thread | None = None
        self._ended = threading.Event()
        if shown and sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            words = TextColumn("{task.fields[words]}")
            self._bar = Progress(*columns, words, console=Console(stderr=True), transient=True)
            self._row = self._bar.add_task(what, total=total, words=self.words)
        elif shown:
            self._speaker = threading.Thread(target=self._speak, daemon=True)

    def __enter__(self) -> Meter:
        if self._bar is not None:
            self._bar.start()
        if self._speaker is not None:
            self._speaker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        if self._bar is not None:
            self._bar.stop()
        if self._speaker is not None:
            self._speaker.join()

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Counts steps; `note` says what goes on."""
        self.done += steps
        self.note = self.note if note is None else note
        if self._bar is not None:
            self._bar.update(self._row, completed=self.done, total=self.total, words=self.words)

    @property
    def words(self) -> str:
        """How far it is and what goes on; no count of a job that has none."""
        counted = "" if self.total is None else f"{self.done} of {self.total}"
        return f"{counted or self.done or ''} {self.note}".strip()

    def _speak(self) -> None:
        while not self._ended.wait(LINE_EVERY_S):
            sys.stderr.write(": ".join(filter(None, (self.what, self.words))) + "\n")
            sys.stderr.flush()
