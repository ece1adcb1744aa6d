"""Checkpoints are written beside the learning: a storage that fails costs time and words, and never the run."""

from __future__ import annotations

import errno
import re
import threading
import time
from pathlib import Path

import pytest
import toys
from test_checkpoint import everything, figures

from physai.errors import StorageError
from physai.storage import Storage
from physai.train import recorder
from physai.train.checkpoint import CheckpointStore
from physai.train.figures import Figures
from physai.train.recorder import Snapshot, Writer, waiting_list

LONG_S = 60.0  # nothing here takes that long, unless it hangs


def snapshot(iteration: int, best: bool = False) -> Snapshot:
    return Snapshot(iteration, {}, {"checkpoint": iteration} if best else None, b"")


def test_the_newest_and_the_best_wait_and_no_others():
    def waiting(*snapshots: Snapshot) -> list[int]:
        return [found.iteration for found in waiting_list(snapshots)]

    assert waiting() == []
    assert waiting(snapshot(1), snapshot(2)) == [2]
    assert waiting(snapshot(1, best=True), snapshot(2), snapshot(3)) == [1, 3]
    assert waiting(snapshot(1, best=True), snapshot(2, best=True)) == [2]
    assert waiting(snapshot(1, best=True), snapshot(2, best=True), snapshot(3)) == [2, 3]


def test_a_writer_takes_snapshots_at_once_and_writes_the_newest_in_order():
    written, free = [], threading.Event()

    def write(snapshot):
        free.wait(LONG_S)
        written.append(snapshot.iteration)

    writer = Writer(write, patience_s=0)
    writer.submit(snapshot(1))
    ends = time.monotonic() + LONG_S
    while [s.iteration for s in writer.unwritten()] != [1] or writer._writing is None:
        assert time.monotonic() < ends
    for iteration in (2, 3, 4):
        writer.submit(snapshot(iteration, best=iteration == 3))
    assert [s.iteration for s in writer.unwritten()] == [1, 3, 4] and written == []
    assert not writer.idle(0.01)
    free.set()
    assert writer.idle(LONG_S) and written == [1, 3, 4]
    writer.end()


def test_a_writer_tries_again_with_the_newest_until_the_storage_works():
    tried = []

    def write(snapshot):
        tried.append(snapshot.iteration)
        if len(tried) < 3:
            raise StorageError("the disk is full")

    writer = Writer(write, patience_s=LONG_S, first_retry_s=0.01)
    writer.submit(snapshot(7))
    assert writer.idle(LONG_S) and tried == [7, 7, 7] and writer.error is None
    notes = writer.notes()
    assert re.match(r"note: the disk is full. Trying again for \d+ s; training goes on", notes[0])
    assert notes[-1] == "checkpoint 000007 is written: the storage works again" and writer.notes() == []
    writer.end()


@pytest.mark.parametrize("error", [StorageError("the disk is full"), ZeroDivisionError("a mistake")])
def test_a_writer_that_gives_up_keeps_the_newest(error):
    def write(snapshot):
        raise error

    writer = Writer(write, patience_s=0.05, first_retry_s=0.01)
    writer.submit(snapshot(1))
    assert writer.idle(LONG_S) and writer.error is error
    assert [s.iteration for s in writer.unwritten()] == [1]


@pytest.fixture
def broken(monkeypatch):
    """Makes the storage of checkpoints fail from iteration `broken[0]` to `broken[1]` attempts later."""
    plan = [2, 3]
    real, failed = CheckpointStore.save, []

    def save(self, iteration, files):
        if "physai-run-" not in str(self.folder) and iteration >= plan[0] and len(failed) < plan[1]:
            failed.append(iteration)
            raise StorageError(f"checkpoint {iteration} cannot be written: no space is left on the disk")
        return real(self, iteration, files)

    monkeypatch.setattr(CheckpointStore, "save", save)
    monkeypatch.setattr(recorder.Writer.__init__, "__defaults__", (0.01,))
    return plan


def test_a_storage_that_fails_for_a_while_costs_nothing_but_words(tmp_path, broken):
    learner = toys.learn(toys.small(storage=str(tmp_path)), beside=True)
    assert not learner.outcome.stopped and learner.iteration == 5
    assert any("no space is left on the disk. Trying again" in line for line in learner.board.lines)
    assert any("the storage works again" in line for line in learner.board.lines)
    store = CheckpointStore(tmp_path / "target/run/checkpoints", 3)
    assert store.names()[0] == "000005" and store.best()["checkpoint"] in store.names()


def test_when_patience_ends_the_newest_state_is_on_this_machine_and_goes_on_from_there(tmp_path, broken, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(recorder.tempfile, "tempdir", None)
    broken[:] = [2, 10**9]
    values = toys.small(storage=str(tmp_path / "runs"), checkpoint={"patience_s": 0.1})
    with pytest.raises(
        StorageError, match=r"no space is left on the disk; checkpoint 00000. was saved on this"
    ) as caught:
        toys.learn(values, beside=True)
    store = CheckpointStore(tmp_path / "runs/target/run/checkpoints", 3)
    assert store.names() == ["000001"] and store.newest().iteration == 1
    rescued = Path(str(caught.value).rpartition("--resume ")[2])
    assert rescued.parent == tmp_path and rescued.stat().st_mode & 0o077 == 0
    monkeypatch.undo()
    whole = toys.learn(toys.small(storage=str(tmp_path / "undisturbed")))
    moved = tmp_path / "again/target"
    moved.mkdir(parents=True)
    rescued.rename(moved / "run")
    assert everything(toys.learn({**values, "storage": str(tmp_path / "again")})) == everything(whole)
    assert figures(moved / "run") == figures(tmp_path / "undisturbed/target/run")


def test_a_stop_waits_for_the_storage_no_longer_than_the_grace_period(tmp_path, broken, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(recorder.tempfile, "tempdir", None)
    broken[:] = [2, 10**9]
    values = toys.small(storage=str(tmp_path / "runs"), checkpoint={"patience_s": 1000, "grace_s": 0.5})
    with pytest.raises(
        StorageError, match=r"did not take the checkpoint in 0.5 s; checkpoint 000003 was saved on this"
    ):
        toys.learn(values, stop_after=3, beside=True)


def test_figures_that_a_full_disk_holds_back_come_later_and_once(tmp_path, monkeypatch):
    figures = Figures(tmp_path)
    figures.add({"iteration": 1, "steps": 10})

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        patch.setattr(Figures, "_read", lambda self: (["iteration", "steps"], [{"iteration": "1", "steps": "10"}]))
        figures.add({"iteration": 2, "steps": 20})
        assert figures.problem.startswith("no space is left")
        figures.add({"iteration": 3, "steps": 30})
        with pytest.raises(StorageError, match=r"progress.csv cannot be written: no space is left"):
            figures.close()
    with (tmp_path / "progress.csv").open("a") as file:
        file.write("2,")  # as far as the disk had room
    figures.add({"iteration": 4, "steps": 40})
    figures.close()
    lines = (tmp_path / "progress.csv").read_text().splitlines()
    assert lines == ["iteration,steps", "1,10", "2,20", "3,30", "4,40"]


def test_a_write_on_a_disk_that_breaks_off_leaves_what_was_there(tmp_path, monkeypatch):
    place = Storage.at(tmp_path / "file")
    place.write(b"before")

    def full(self, target):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        place.write(b"after")
    assert place.read_bytes() == b"before" and [path.name for path in tmp_path.iterdir()] == ["file"]
