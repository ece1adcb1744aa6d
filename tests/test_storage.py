"""Runs in an object store, tried on a local S3 server: as whole, as exact and as patient as on a disk."""

from __future__ import annotations

import json
import logging
import math
import sys

import pytest
import toys
import typer
from pyarrow import fs
from test_checkpoint import everything, figures

from physai import cli
from physai.config import RunConfig
from physai.errors import ConfigError, StorageError
from physai.policy import load_policy
from physai.storage import Disk, Storage, place
from physai.train import driver, recorder
from physai.train.checkpoint import CheckpointStore
from physai.train.run_dir import RunFolder

FILES = {"model": b"m" * 1000, "state": b"s"}


@pytest.fixture(scope="module")
def server():
    """An S3 server on the loopback device, with one bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        address = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        fs.FileSystem.from_uri(f"s3://bucket?{address}&allow_bucket_creation=true")[0].create_dir("bucket")
        yield address
        server.stop()


@pytest.fixture
def s3(server, request) -> str:
    """URI of a place of its own for each test."""
    return f"s3://bucket/{abs(hash(request.node.name))}?{server}"


def test_an_object_store_reads_like_a_path(s3):
    folder = Storage.at(s3) / "a" / "b"
    assert not folder.exists() and list(folder.iterdir()) == []
    (folder / "c.txt").write("grün".encode())
    assert folder.is_dir() and (folder / "c.txt").is_file() and not (folder / "d").exists()
    assert [(child.name, child.suffix, child.read_text()) for child in folder.iterdir()] == [("c.txt", ".txt", "grün")]
    assert str(folder) == s3.replace("?", "/a/b?") and Storage.at(str(folder)) == folder
    assert (folder / "c.txt").parent == folder and (folder / "c.txt").stat().st_mtime > 1e9
    assert list(Storage.at(s3).glob("*/*/*.txt")) == [folder / "c.txt"] and list(Storage.at(s3).glob("*/*.txt")) == []
    with pytest.raises(FileNotFoundError):
        (folder / "d").read_bytes()


def test_a_place_on_this_machine_is_a_path(tmp_path):
    assert place(tmp_path / "x") == tmp_path / "x" and place(f"file://{tmp_path}/x") == tmp_path / "x"
    assert isinstance(Storage.at(f"file://{tmp_path}"), Disk)


def test_what_is_no_storage_is_one_sentence():
    with pytest.raises(ConfigError, match=r"storage ftp://host/runs is no place that files can be kept in"):
        Storage.at("ftp://host/runs")
    with pytest.raises(ConfigError, match=r"storage: it holds credentials; leave them out") as caught:
        RunConfig.load(None, ["task=reach", "storage=s3://key:very-secret@bucket/runs"])
    assert "very-secret" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_one_sentence(server):
    values = toys.small(storage=f"s3://nobody/runs?{server}")
    with pytest.raises(StorageError, match=r"run folder .* cannot be (read|written): there is no such bucket; make it"):
        RunFolder.create(RunConfig.model_validate(values))


def test_a_store_that_does_not_answer_is_one_sentence(server):
    silent = f"s3://bucket/x?{server.replace(server.split('&')[0], 'endpoint_override=127.0.0.1:9')}"
    with pytest.raises(StorageError, match=r"s3://bucket/x.* cannot be looked at: it does not answer"):
        load_policy(silent)


def test_a_checkpoint_in_an_object_store_is_there_whole_or_not_at_all(s3, monkeypatch, caplog):
    store = CheckpointStore(s3, keep=2)
    assert store.names() == [] and store.newest() is None
    store.save(1, FILES)
    store.mark_best({"checkpoint": "000001"})

    real = Storage.write
    with monkeypatch.context() as patch:  # the connection is lost before the manifest
        patch.setattr(Storage, "write", lambda self, data: real(self, data) if self.name == "model" else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.save(2, FILES)
    assert (store.storage / "000002" / "model").exists()
    assert store.names() == ["000001"] and store.newest().files == FILES

    for iteration in (3, 4, 5):
        store.save(iteration, {**FILES, "state": str(iteration).encode()})
        store.prune()
    assert not (store.storage / "000002" / "model").exists()
    assert store.names() == ["000005", "000004", "000001"]
    store.save(5, {"model": b"again"})
    assert store.newest().files == {"model": b"again"} and not (store.storage / "000005" / "state").exists()

    (store.storage / "000005" / "model").write(b"aga")  # truncated
    with caplog.at_level(logging.WARNING, "physai"):
        assert store.newest().iteration == 4
    assert "000005" in caplog.text and "model differs from its digest" in caplog.text


def test_a_run_in_an_object_store_is_stopped_continued_and_loaded_like_any_other(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "EVENTS_EVERY_S", math.inf)  # so those that are there were copied at the end
    whole = toys.learn(toys.small(storage=str(tmp_path)))
    values = toys.small(storage=s3)
    assert toys.learn(values, stop_after=3).iteration == 3
    continued = toys.learn(values)
    assert everything(continued) == everything(whole)
    run = Storage.at(s3) / "target" / "run"
    names = {child.name for child in run.iterdir()}
    assert {"config.yaml", "versions.json", "progress.csv", "checkpoints"} <= names
    assert sum(name.startswith("events.out.tfevents") for name in names) == 2
    assert figures(run) == figures(tmp_path / "target" / "run")
    with pytest.raises(ConfigError, match="exists already; continue it with --resume s3://bucket"):
        RunFolder.create(RunConfig.model_validate(values))
    ours, theirs = load_policy(str(run)), load_policy(tmp_path / "target" / "run")
    rows = ours.spec.policy_low.repeat(3)[None, :3]
    assert ours.act(rows).tobytes() == theirs.act(rows).tobytes()
    assert load_policy(ours.source).digest == ours.digest
    commands(monkeypatch, s3, str(run), tmp_path)


def commands(patch, storage: str, run: str, tmp_path) -> None:
    """The command line takes the run where it is."""
    patch.chdir(tmp_path)
    patch.setenv("COLUMNS", "300")
    said, asked = [], []
    patch.setattr(typer, "echo", lambda text="", **_: said.append(str(text)))
    patch.setattr(driver, "train", lambda config, **arguments: asked.append((config.seed, arguments["resume"])))
    for words in (["runs", "--markdown", "--folder", storage], ["train", "--resume", run]):
        patch.setattr(sys, "argv", ["physai", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0, said
    assert run in said[0] and "| 320 |" in said[0]
    assert asked == [(3, run)]
    patch.setattr(sys, "argv", ["physai", "eval", run, "--episodes", "2", "--workers", "1", "--json", "report.json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0 and json.loads((tmp_path / "report.json").read_text())["episodes"] == 2


def test_a_store_that_does_not_answer_is_no_damaged_checkpoint(s3, monkeypatch):
    store = CheckpointStore(s3, keep=2)
    store.save(1, FILES)
    store.save(2, FILES)

    def silent(self):
        raise OSError("When reading: AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 7")

    monkeypatch.setattr(Storage, "read_bytes", silent)
    with pytest.raises(StorageError, match=r"000002.* cannot be read: it does not answer"):
        store.newest()
