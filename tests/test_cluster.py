"""Training on a cluster that somebody else started, with token authentication: what works, and what is refused."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from cluster_toys import Cluster, free_port

from physai.errors import ClusterError
from physai.train import cluster as cluster_module
from physai.train import knock

pytestmark = pytest.mark.ray
JOIN_S = 240.0  # generous: other work may have the cores, and a try alone takes a minute then
TRAIN = [
    *("task=toys:Target-v0", "algorithm.batch_size=32", "algorithm.epochs=2", "algorithm.network=[8]"),
    *("rollout.groups=2", "rollout.envs_per_group=2", "rollout.steps=16", "stop.episodes=4", "stop.every_steps=128"),
]


@pytest.fixture(scope="module")
def cluster():
    with tempfile.TemporaryDirectory(prefix="c-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = Cluster(Path(folder))
        try:
            made.start_head()
            yield made
        finally:
            made.stop()


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that was refused says: one line, and no traceback."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith(("  starting", "  joining"))]
    assert line.startswith("error: ")
    return line


def files_with(word: str, folder: Path) -> list[str]:
    return [str(p) for p in folder.rglob("*") if p.is_file() and word.encode() in p.read_bytes()]


def test_who_has_the_token_trains_and_the_token_is_written_nowhere(cluster, tmp_path):
    done = cluster.physai(
        "train", *TRAIN, "stop.steps=192", f"storage={tmp_path}", "name=run", "--address", cluster.address
    )
    assert done.returncode == 0, done.stderr
    assert "done after 192 steps" in done.stderr
    assert (tmp_path / "target" / "run" / "checkpoints").is_dir()
    assert files_with(cluster.token, tmp_path) == files_with(cluster.token, cluster.folder) == []
    assert cluster.token not in done.stdout + done.stderr


@pytest.mark.parametrize("token", [{"RAY_AUTH_TOKEN": "wrong"}, {"RAY_AUTH_MODE": "disabled"}])
def test_who_has_not_is_refused_in_words(cluster, tmp_path, token):
    done = cluster.physai("train", *TRAIN, f"storage={tmp_path}", "--address", cluster.address, **token)
    assert "refuses the token" in sentence(done)
    assert "RAY_AUTH_TOKEN_PATH" in sentence(done)
    assert list(tmp_path.glob("*/*")) == []  # a run that never began is not the newest one


def test_too_few_cpus_name_the_number_that_fits(cluster, tmp_path):
    wanted = ("rollout.groups=8", "rollout.actors=8", f"storage={tmp_path}")
    done = cluster.physai("train", *TRAIN, *wanted, "--address", cluster.address)
    assert "rollout.actors is 8" in sentence(done)
    assert "give rollout.actors=3" in sentence(done)


def test_a_node_with_other_versions_is_named_before_anything_starts(cluster, tmp_path):
    other = tmp_path / "elsewhere" / "gymnasium-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: gymnasium\nVersion: 0.0.1\n")
    cluster.start(f"--address={cluster.address}", "--num-cpus=1", PYTHONPATH=str(other.parent))
    try:
        ends = time.monotonic() + JOIN_S
        while True:  # until the node has joined
            done = cluster.physai("train", *TRAIN, "stop.steps=64", f"storage={tmp_path}", "--address", cluster.address)
            if done.returncode:
                break
            assert time.monotonic() < ends
        assert re.search(r"node \S+ \([\d.]+\) has gymnasium 0\.0\.1 \(here \d\S+\); install", sentence(done))
    finally:
        cluster.started[-1].terminate()
        cluster.started.pop().wait(timeout=60)


def test_an_address_where_nobody_listens():
    with pytest.raises(ClusterError, match=r"no Ray cluster answers at '127.0.0.1:\d+' \(Connection refused\)"):
        knock.knock(f"127.0.0.1:{free_port()}")
    with pytest.raises(ClusterError, match="no Ray cluster answers at 'no-such-host:6379'"):
        knock.knock("no-such-host:6379")


def test_an_address_where_something_else_listens(monkeypatch):
    monkeypatch.setattr(knock, "DEADLINE_S", 8.0)
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        with pytest.raises(ClusterError, match="does not answer as a Ray cluster does"):
            knock.knock(f"127.0.0.1:{other.getsockname()[1]}")


def test_a_job_is_submitted_followed_and_ends_with_its_own_exit_code(cluster, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.py").write_text("from toys import Target, register\nregister('Mine-v0', Target)\n")
    done = cluster.physai(
        "submit", *TRAIN, "task=mine:Mine-v0", "stop.steps=128", f"storage={tmp_path}", "name=run",
        "--working-dir", str(folder), "--address", cluster.server,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done after 128 steps" in done.stdout
    assert (tmp_path / "mine" / "run" / "checkpoints").is_dir()
    job = done.stdout.split()[0]
    assert "succeeded" in cluster.physai("jobs", "status", job, "--address", cluster.server).stdout
    again = cluster.physai("submit", "--resume", str(tmp_path / "gone"), "--address", cluster.server)
    assert again.returncode == 2
    assert "is no run folder" in again.stdout


@pytest.mark.slow
def test_ctrl_c_leaves_the_job_running_and_stop_saves_a_checkpoint(cluster, tmp_path):
    words = ["submit", *TRAIN, "stop.steps=100000000", f"storage={tmp_path}", "name=run", "--address", cluster.server]
    with subprocess.Popen(
        [sys.executable, "-c", "from physai.cli import main; main()", *words],
        env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as following:  # fmt: skip
        job = following.stdout.readline().strip()
        while "steps/s" not in following.stdout.readline():
            assert following.poll() is None, following.stderr.read()
        following.send_signal(signal.SIGINT)
        _, said = following.communicate(timeout=60)
    assert following.returncode == 130
    assert f"physai jobs logs {job} --address {cluster.server}" in said
    assert "running" in cluster.physai("jobs", "status", job, "--address", cluster.server).stdout
    assert "saves a checkpoint" in cluster.physai("jobs", "stop", job, "--address", cluster.server).stdout
    logs = cluster.physai("jobs", "logs", job, "--address", cluster.server)
    assert logs.returncode == 1
    assert f"physai train --resume {tmp_path / 'target' / 'run'}" in logs.stdout


def test_the_job_server_refuses_in_words(cluster):
    wrong = cluster.physai("jobs", "status", "--address", cluster.server, RAY_AUTH_TOKEN="wrong")
    assert "refuses the token" in sentence(wrong)
    elsewhere = f"http://127.0.0.1:{free_port()}"
    nobody = cluster.physai("submit", *TRAIN, "--address", elsewhere, RAY_ADDRESS=cluster.server)
    assert f"no job server answers at {elsewhere}" in sentence(nobody)
    unknown = cluster.physai("jobs", "logs", "no-such-job", "--address", cluster.server)
    assert "there is no job 'no-such-job'" in sentence(unknown)
    ray_address = cluster.physai("submit", *TRAIN, "--address", cluster.address)
    assert "is not the address of a job server" in sentence(ray_address)


def test_a_cluster_of_another_ray_or_python_is_named(monkeypatch):
    found = {"address": "10.0.0.1:6379", "ray": "2.59.0", "python": "3.10.2"}
    monkeypatch.setattr(cluster_module, "knock", lambda address: found)
    with pytest.raises(ClusterError, match=r"has ray 2\.59\.0 \(here \S+\) and python 3\.10\.2 \(here \S+\); install"):
        cluster_module._join("10.0.0.1:6379")
    with pytest.raises(ClusterError, match="use `physai submit`"):
        cluster_module._join("ray://10.0.0.1:10001")


def test_a_ray_that_does_not_start_is_one_sentence(monkeypatch):
    def overloaded(**_):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(cluster_module.ray, "init", overloaded)
    said = r"Ray cannot be started on this machine: The current node timed out during startup; `physai doctor`"
    with pytest.raises(ClusterError, match=said), cluster_module.connected(None):
        pass
