"""Writes checkpoints and figures beside the learning: nothing waits for a disk or a network but the end of a run."""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from physai.config import RunConfig
from physai.errors import PhysaiError, StorageError
from physai.storage import Disk, reason
from physai.train.checkpoint import CheckpointStore, Files, Shared
from physai.train.figures import PROGRESS, Figures, Values
from physai.train.run_dir import CHECKPOINTS, CONFIG, RunFolder

FIRST_RETRY_S, LONGEST_RETRY_S = 1.0, 30.0  # doubled from one to the other while a storage does not take a snapshot
POLL_S = 0.25
# TensorBoard's files only grow, and an object store takes files only whole: so not with each checkpoint.
EVENTS_EVERY_S = 300.0


@dataclass(frozen=True)
class Snapshot:
    """A checkpoint to be written. `best` is what is recorded of it when it is the best so far."""

    iteration: int
    files: Files
    best: Mapping[str, Any] | None
    progress: bytes = field(repr=False)


def waiting_list(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Returns those that must still be written, oldest first: the newest, and the newest that was the best."""
    best = [snapshot for snapshot in snapshots[:-1] if snapshot.best is not None][-1:]
    return [*(best if snapshots and snapshots[-1].best is None else []), *snapshots[-1:]]


class Writer:
    """Writes snapshots in order, in a thread of its own. At most two wait: the newest and the best.

    Args:
        write: writes one; raises StorageError.
        patience_s: how long it tries before it gives up.
        first_retry_s: until the second attempt.
    """

    def __init__(
        self, write: Callable[[Snapshot], None], patience_s: float, first_retry_s: float = FIRST_RETRY_S
    ) -> None:
        self._write, self._patience_s, self._first_retry_s = write, patience_s, first_retry_s
        self._changed = threading.Condition()
        self._waiting: list[Snapshot] = []
        self._writing: Snapshot | None = None
        self._notes: list[str] = []
        self._thread: threading.Thread | None = None
        self._ended = False
        self.error: Exception | None = None

    def submit(self, snapshot: Snapshot) -> None:
        """Takes a snapshot and returns; one that waits for its turn is replaced."""
        with self._changed:
            self._waiting = waiting_list([*self._waiting, snapshot])
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
            self._thread.start()

    def note(self, text: str) -> None:
        """Keeps something to tell; only the learner itself speaks."""
        with self._changed:
            self._notes.append(text)

    def notes(self) -> list[str]:
        """Hands out what there is to tell since the last time."""
        with self._changed:
            notes, self._notes = self._notes, []
        return notes

    def idle(self, within_s: float) -> bool:
        """Waits until everything is written or it gave up; returns whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self.error is not None or not self.unwritten(), within_s)

    def unwritten(self) -> list[Snapshot]:
        """Snapshots that are not in the storage yet, oldest first."""
        return [*([self._writing] if self._writing else []), *self._waiting]

    def end(self) -> None:
        """Ends the thread as soon as it does not write."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _work(self) -> None:
        failing_since: float | None = None
        retry_s = self._first_retry_s
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if self._ended:
                    return
                snapshot = self._writing = self._waiting.pop(0)
            failure: Exception | None = None
            try:
                self._write(snapshot)
            except Exception as error:  # handed to the learner, which raises it
                failure = error
            with self._changed:
                self._writing = None
                now = time.monotonic()
                if failure is None:
                    if failing_since is not None:
                        self._notes.append(f"checkpoint {snapshot.iteration:06d} is written: the storage works again")
                    failing_since, retry_s = None, self._first_retry_s
                    self._changed.notify_all()
                    continue
                self._waiting = waiting_list([snapshot, *self._waiting])
                failing_since = failing_since or now
                left = failing_since + self._patience_s - now
                if left <= 0 or not isinstance(failure, StorageError):
                    self.error = failure
                    self._changed.notify_all()
                    return
                pause, retry_s = min(retry_s, left), min(2 * retry_s, LONGEST_RETRY_S)
                self._notes.append(f"note: {failure}. Trying again for {left:.0f} s; training goes on")
                self._changed.wait_for(lambda: self._ended, pause)


class Recorder:
    """What a run writes while it learns. Made by the one learner that writes.

    Args:
        run: its folder.
        config: of the run.
        say: shows a line that stays.
    """

    def __init__(self, run: RunFolder, config: RunConfig, say: Callable[[str], None]) -> None:
        self._run, self._config, self._say = run, config, say
        self._writer = Writer(self._write, config.checkpoint.patience_s)
        self._figures: Figures | None = None
        self._spool: Path | None = None
        self._copied_at, self._told, self._given_up = -math.inf, "", False

    def open(self, iteration: int) -> None:
        """Continues the figures after an iteration.

        Raises:
            StorageError: if those before cannot be read.
        """
        if not isinstance(self._run.storage, Disk):
            # An object store cannot be appended to: figures are written here, and copied with the checkpoints.
            self._spool = Path(tempfile.mkdtemp(prefix="physai-figures-"))
            try:
                (self._spool / PROGRESS).write_bytes((self._run.storage / PROGRESS).read_bytes())
            except FileNotFoundError:
                pass  # a new run
            except OSError as error:
                raise StorageError(f"{self._run.storage / PROGRESS} cannot be read: {reason(error)}") from error
        self._figures = Figures(self._spool or Path(self._run.storage.path), iteration)

    def add(self, row: Values) -> None:
        """Adds the figures of an iteration, and tells what the writer had to say.

        Raises:
            StorageError: if a checkpoint could not be written for longer than the patience.
        """
        if self._figures is not None:
            self._figures.add(row)
        self.check()

    def amend(self, iteration: int, values: Values) -> None:
        """Changes figures of an iteration that was written before the run was stopped."""
        if self._figures is not None:
            self._figures.amend(iteration, values)

    def save(self, iteration: int, files: Files, best: Mapping[str, Any] | None) -> None:
        """Takes a checkpoint, and returns before it is written.

        Args:
            iteration: that is complete.
            files: of the checkpoint.
            best: what is recorded of it when it is the best so far, else None.
        """
        progress = self._figures.text() if self._figures is not None and self._spool is not None else b""
        self._writer.submit(Snapshot(iteration, files, best, progress))

    def check(self) -> None:
        """Tells what there is to tell.

        Raises:
            StorageError: if a checkpoint could not be written for longer than the patience; says where it is instead.
        """
        for note in self._writer.notes():
            self._say(note)
        problem = self._figures.problem if self._figures is not None else ""
        if problem and problem != self._told:
            self._say(f"note: {PROGRESS} waits: {problem}")
        self._told = problem
        if self._writer.error is not None:
            self._give_up(self._writer.error)

    def drain(self, within_s: float | None = None, waiting: Callable[[], None] = lambda: None) -> None:
        """Waits until all is written.

        Args:
            within_s: at most so long; None: as long as the patience lasts.
            waiting: called now and then.

        Raises:
            StorageError: if it is not; says where the newest state is instead.
        """
        ends = time.monotonic() + (math.inf if within_s is None else within_s)
        while not self._writer.idle(POLL_S):
            self.check()
            waiting()
            if time.monotonic() >= ends:
                self._give_up(StorageError(f"{self._run.path} did not take the checkpoint in {within_s:g} s"))
        self.check()

    def close(self) -> None:
        """Ends the writing. What is not written after a failure elsewhere gets the grace period, and is told of.

        Raises:
            StorageError: if figures cannot be written.
        """
        try:
            if not self._given_up:
                self.drain(self._config.checkpoint.grace_s)
        except StorageError as error:
            self._say(f"note: {error}")
        finally:
            self._writer.end()
            if self._figures is not None:
                self._figures.close()
            if self._spool is not None:
                if not self._given_up:
                    self._copy_events(self._spool)
                shutil.rmtree(self._spool, ignore_errors=True)
            for note in self._writer.notes():
                self._say(note)

    def _write(self, snapshot: Snapshot) -> None:
        """Writes the figures, then the checkpoint: so no row is missing when a run goes on from it."""
        store = self._run.checkpoints
        if self._spool is not None:
            try:
                (self._run.storage / PROGRESS).write(snapshot.progress)
            except OSError as error:
                raise StorageError(f"{self._run.storage / PROGRESS} cannot be written: {reason(error)}") from error
        store.save(snapshot.iteration, snapshot.files)
        if snapshot.best is not None:
            store.mark_best(snapshot.best)
        store.prune()
        if self._spool is not None and time.monotonic() - self._copied_at > EVENTS_EVERY_S:
            self._copied_at = time.monotonic()
            self._copy_events(self._spool)

    def _copy_events(self, spool: Path) -> None:
        for path in sorted(spool.glob("events.out.tfevents.*")):
            try:
                (self._run.storage / path.name).write(path.read_bytes())
            except OSError as error:  # the figures are in progress.csv too
                self._writer.note(f"note: TensorBoard's {path.name} could not be copied: {reason(error)}")
                return

    def _give_up(self, error: Exception) -> None:
        """Saves the newest state on this machine, and raises."""
        unwritten = self._writer.unwritten()
        self._given_up = True
        self._writer.end()
        if not isinstance(error, PhysaiError) or not unwritten:
            raise error
        raise StorageError(f"{error}; {self._rescued(unwritten[-1])}") from error

    def _rescued(self, snapshot: Snapshot) -> str:
        """Saves a run folder with one checkpoint where there is room for it, and says where."""
        store = self._run.checkpoints
        try:
            files = {
                name: store.contents(file) if isinstance(file, Shared) else file
                for name, file in snapshot.files.items()
            }
            folder = Path(tempfile.mkdtemp(prefix=f"physai-{self._run.storage.name}-"))
            (folder / CONFIG).write_text(self._config.to_yaml())
            CheckpointStore(folder / CHECKPOINTS, 2).save(snapshot.iteration, files)
            if self._figures is not None:
                (folder / PROGRESS).write_bytes(self._figures.text())
        except (OSError, StorageError) as problem:
            why = reason(problem) if isinstance(problem, OSError) else problem
            return f"checkpoint {snapshot.iteration:06d} could not be saved on this machine instead ({why})"
        return (
            f"checkpoint {snapshot.iteration:06d} was saved on this machine instead: "
            f"continue with physai train --resume {folder}"
        )
