"""A replay buffer is saved in blocks: only what changed is written, and every checkpoint is still whole."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import toys
from test_off_policy import everything, goals, one_thread, remembered, small  # noqa: F401
from test_recorder import broken  # noqa: F401
from test_storage import s3, server  # noqa: F401

from physai.errors import CheckpointError, StorageError
from physai.policy import load_policy
from physai.storage import Storage
from physai.train import recorder
from physai.train.algorithms import replay
from physai.train.checkpoint import CheckpointStore, Shared

KEEP_ALL = {"checkpoint": {"keep": 100}, "stop": {"success": None}}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Eight rows of four environments each, which is one iteration."""
    row = 4 * (2 * 3 * 4 + 2 * 4 + 3 * 4)  # bytes: two observations of 3, 2 actions, and reward, done and timeout
    monkeypatch.setattr(replay, "BLOCK_BYTES", 8 * row)


def blocks(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints" / "shared").iterdir()}


def test_a_checkpoint_writes_what_is_new_and_shares_the_rest(tmp_path, monkeypatch):
    written = []
    real = Shared.forget
    monkeypatch.setattr(Shared, "forget", lambda file: written.append(file._data) or real(file))
    learner = toys.learn(small(storage=str(tmp_path), **KEEP_ALL))
    assert learner.iteration == 10 and learner.model._blocks._rows == 8
    assert len(written) == sum(range(1, 11)) and sum(data is not None for data in written) == 10
    assert len(blocks(tmp_path / "target/run")) == 10
    assert all(file.contents() for file in learner.model._blocks._packed.values())  # made again from the buffer


def test_blocks_go_with_the_last_checkpoint_that_needs_them(tmp_path):
    learner = toys.learn(small(storage=str(tmp_path), algorithm={"buffer_size": 4 * 24}, checkpoint={"keep": 2}))
    needed = {file.digest for file in learner.model._blocks._packed.values()}
    store = CheckpointStore(tmp_path / "target/run/checkpoints", 2)
    kept = set(store.names())
    assert len(kept) in (2, 3) and kept >= {"000009", "000010"}
    # three blocks of the newest, the one that it has overwritten, and those of the best where that is older
    assert needed <= blocks(tmp_path / "target/run") and len(blocks(tmp_path / "target/run")) <= 4 + 3 * (len(kept) - 2)
    assert store.newest().files.keys() >= {replay.BLOCK.format(n) for n in range(3)}


@pytest.mark.parametrize("name", ["sac", "tqc with goals"])
def test_the_run_goes_on_exactly_from_any_checkpoint(tmp_path, name):
    values = small(**KEEP_ALL) if name == "sac" else goals("tqc", **KEEP_ALL)
    values["algorithm"]["buffer_size"] = 4 * 20  # rows: the last block is a short one, and they go round twice
    whole = everything(toys.learn({**values, "storage": str(tmp_path / "whole")}))
    run = tmp_path / "parts" / "target" / "run" if "Target" in values["task"] else tmp_path / "parts/goals/run"
    learner = toys.learn({**values, "storage": str(tmp_path / "parts")})
    for iteration in (7, 2):
        for folder in (run / "checkpoints").glob("0*"):
            if int(folder.name) > iteration:
                (folder / "manifest.json").unlink()
        learner = toys.learn({**values, "storage": str(tmp_path / "parts")})
        assert learner.board.lines[0].startswith("continuing from") and f"{iteration:06d}" in learner.board.lines[0]
        assert everything(learner) == whole


def test_a_damaged_block_costs_the_checkpoints_that_need_it_and_is_written_again(tmp_path, caplog):
    values = small(storage=str(tmp_path), **KEEP_ALL)
    whole = everything(toys.learn({**values, "storage": str(tmp_path / "whole")}))
    stopped = toys.learn(values, stop_after=6)
    block = tmp_path / "target/run/checkpoints/shared" / stopped.model._blocks._packed[4].digest
    block.write_bytes(block.read_bytes()[:1000])  # truncated
    with caplog.at_level(logging.WARNING, "physai"):
        continued = toys.learn(values)
    assert "000006 is damaged" in caplog.text and "000005 is damaged" in caplog.text and "000004" not in caplog.text
    assert everything(continued) == whole
    assert CheckpointStore(tmp_path / "target/run/checkpoints", 100).newest().iteration == 10
    block.unlink()
    store = CheckpointStore(tmp_path / "target/run/checkpoints", 100)
    assert store.newest().iteration == 4 and "is missing" in caplog.text


def test_what_is_saved_elsewhere_at_the_end_of_patience_has_every_block(tmp_path, broken, monkeypatch):  # noqa: F811
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(recorder.tempfile, "tempdir", None)
    broken[:] = [5, 10**9]
    values = small(storage=str(tmp_path / "runs"), algorithm={"buffer_size": 4 * 24}, checkpoint={"patience_s": 0.1})
    with pytest.raises(StorageError, match="was saved on this machine instead") as caught:
        toys.learn(values, beside=True)
    rescued = Path(str(caught.value).rpartition("--resume ")[2])
    monkeypatch.undo()
    whole = everything(toys.learn({**values, "storage": str(tmp_path / "whole")}))
    moved = tmp_path / "again/target"
    moved.mkdir(parents=True)
    rescued.rename(moved / "run")
    assert everything(toys.learn({**values, "storage": str(tmp_path / "again")})) == whole


def test_an_object_store_keeps_blocks_too(s3, tmp_path):  # noqa: F811
    whole = everything(toys.learn(small(storage=str(tmp_path))))
    values = small(storage=s3)
    toys.learn(values, stop_after=6)
    assert everything(toys.learn(values)) == whole
    run = Storage.at(s3) / "target" / "run"
    shared = {file.name for file in (run / "checkpoints" / "shared").iterdir()}
    assert shared == blocks(tmp_path / "target" / "run")
    assert load_policy(str(run)).act(np.zeros((1, 3), np.float32)).shape == (1, 2)


def test_blocks_of_another_size_are_read(tmp_path, monkeypatch):
    values = small(storage=str(tmp_path))
    stopped = toys.learn(values, stop_after=6)
    monkeypatch.setattr(replay, "BLOCK_BYTES", 10**6)
    continued = toys.learn(values, stop_after=7)
    assert continued.model._blocks._rows != stopped.model._blocks._rows
    for name, array in remembered(stopped.model.buffer).items():
        if name not in ("position", "dones", "timeouts"):
            np.testing.assert_array_equal(array[: 6 * 8], remembered(continued.model.buffer)[name][: 6 * 8])


def test_without_a_block_nothing_is_begun_anew(tmp_path):
    values = small(storage=str(tmp_path), **KEEP_ALL)
    toys.learn(values, stop_after=3)
    for path in (tmp_path / "target/run/checkpoints/shared").iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match=r"none of the 3 checkpoints .* is intact"):
        toys.learn(values)
