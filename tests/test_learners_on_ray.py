"""Several learners under Ray Train: they finish, they survive the death of any of them, and may change in number."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import ray
import toys
from ranks import PATIENCE_S, Ranks
from test_checkpoint import everything
from test_learners import run_together
from test_train_on_ray import processes_of, restored

from physai.config import RunConfig
from physai.errors import ClusterError, ConfigError
from physai.train import rendezvous
from physai.train.driver import train

pytestmark = pytest.mark.ray
TWO = {"workers": 2, "max_failures": 2}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The same run of two learners without Ray: all that decides how it goes on."""
    with Ranks(2, tmp_path_factory.mktemp("ranks")) as two:
        return two(run_together, toys.small(storage=str(tmp_path_factory.mktemp("reference"))))[0]["everything"]


def learners(ray_folder: Path, run: Path) -> dict[int, int]:
    """Process ids of two learners by rank: the first writes the curves, whose file has its process id in the name."""
    (curves,) = run.glob("events.out.tfevents*")
    first = int(curves.name.split(".")[-2])
    (second,) = [process for process in processes_of(ray_folder, "RayTrainWorker") if process != first]
    return {0: first, 1: second}


def test_learners_of_one_machine_use_its_loopback_and_others_the_interface_of_ray(monkeypatch):
    (name,) = [name for _, name in socket.if_nameindex() if rendezvous.interface_of("127.0.0.1") == name]
    assert name.startswith("lo") and rendezvous.interface_of("192.0.2.1") is None
    monkeypatch.setattr(rendezvous, "interface_of", {"127.0.0.1": "lo", "10.0.0.7": "eth7"}.get)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    for shared, gloo, nccl in ((True, "lo", None), (False, "eth7", "eth7")):
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            monkeypatch.setenv(variable, "")
            monkeypatch.delenv(variable)
        rendezvous.use_interface(shared=shared)
        assert (os.environ.get("GLOO_SOCKET_IFNAME"), os.environ.get("NCCL_SOCKET_IFNAME")) == (gloo, nccl)


@pytest.mark.parametrize("actors", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_two_learners_give_the_same_bits_for_any_number_of_actors(one_ray, reference, tmp_path, actors):
    values = toys.small(storage=str(tmp_path), learner=TWO, rollout={"actors": actors})
    run = train(RunConfig.model_validate(values), quiet=True)
    assert everything(restored(run)) == reference
    rows = (run / "progress.csv").read_text().splitlines()
    assert len(rows) == 6  # a head, and one row an iteration though there are two learners


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_learner_of_two_that_is_killed_brings_both_back_from_the_last_checkpoint(one_ray, reference, tmp_path, rank):
    values = toys.small(storage=str(tmp_path), learner=TWO)
    run, killed = tmp_path / "target" / "run", []

    def kill() -> None:
        while not (run / "checkpoints" / "000002").exists():
            time.sleep(0.02)
        killed.append(learners(one_ray, run)[rank])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    train(RunConfig.model_validate(values), quiet=True)
    killer.join(timeout=5)
    assert len(killed) == 1
    assert everything(restored(run)) == reference


@pytest.mark.slow
def test_a_learner_that_freezes_is_given_up_after_the_limit_and_not_after_half_an_hour(one_ray, reference, tmp_path):
    """The limit is that of Ray's health check; the other learner waits for the frozen one until both are replaced."""
    values = toys.small(storage=str(tmp_path), learner=TWO)
    run, frozen = tmp_path / "target" / "run", []

    def freeze() -> None:
        while not (run / "checkpoints" / "000002").exists():
            time.sleep(0.02)
        frozen.append(learners(one_ray, run)[1])
        os.kill(frozen[0], signal.SIGSTOP)

    freezer = threading.Thread(target=freeze, daemon=True)
    freezer.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", "5")
        started = time.monotonic()
        train(RunConfig.model_validate(values), quiet=True)
    freezer.join(timeout=5)
    assert len(frozen) == 1 and time.monotonic() - started < PATIENCE_S
    assert everything(restored(run)) == reference


@pytest.mark.slow
def test_sigterm_reaches_both_learners_and_the_run_goes_on_where_it_stopped(one_ray, tmp_path):
    values = toys.small(storage=str(tmp_path), learner=TWO, stop={"steps": 10_000_000})
    run = tmp_path / "target" / "run"

    def stop() -> None:
        while not (run / "checkpoints" / "000002").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(SystemExit):
        train(RunConfig.model_validate(values), quiet=True)
    lines = (run / "progress.csv").read_text().splitlines()
    assert int(lines[-1].split(",")[0]) == restored(run).iteration >= 2


def test_learners_that_find_no_room_or_no_gpu_are_one_sentence(one_ray, tmp_path):
    values = toys.small(storage=str(tmp_path), learner={**TWO, "device": "cuda"})
    with pytest.raises(
        ClusterError, match=r"cuda, and learner.workers=2 needs .* where Ray has 0; .* a cluster with GPUs"
    ):
        train(RunConfig.model_validate(values), quiet=True)
    many = toys.small(
        storage=str(tmp_path), rollout={"groups": 30}, learner={"workers": 30}, algorithm={"batch_size": 64}
    )
    with pytest.raises(ClusterError, match=r"learner.workers=30 needs 3 CPUs, and 2 rollout actors leave 0.2; give"):
        train(RunConfig.model_validate({**many, "name": "many"}), quiet=True)
    alone = toys.small(storage=str(tmp_path), name="alone", learner={"device": "cuda"})
    with pytest.raises(ConfigError, match=r"learner.device is cuda, and PyTorch .* finds no GPU on this machine; give"):
        train(RunConfig.model_validate(alone), quiet=True)
    assert list((tmp_path / "target").iterdir()) == []
