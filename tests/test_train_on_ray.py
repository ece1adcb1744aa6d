"""Training on real Ray: the result does not depend on the actors, and survives the death of each part."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import toys
from test_checkpoint import everything, weights

from physai.config import RunConfig
from physai.errors import SimulationError
from physai.train.checkpoint import CheckpointStore
from physai.train.driver import train

pytestmark = pytest.mark.ray
TESTS = str(Path(__file__).parent)
LONG_S = 120.0


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The same run without Ray."""
    return toys.learn(toys.small(storage=str(tmp_path_factory.mktemp("reference"))))


def restored(run: Path):
    """The learner as the newest checkpoint of a run describes it."""
    values = toys.small(storage=str(run.parent.parent))
    values["stop"]["steps"] = 1  # nothing left to do
    learner = toys.learn(values)
    assert learner.board.lines and "continuing from" in learner.board.lines[0]
    return learner


@pytest.mark.parametrize("actors", [1, 2])
def test_the_result_has_the_same_bits_for_any_number_of_actors(one_ray, reference, tmp_path, actors):
    config = RunConfig.model_validate(toys.small(storage=str(tmp_path), rollout={"actors": actors}))
    run = train(config, quiet=True)
    assert everything(restored(run)) == everything(reference)
    assert {"config.yaml", "versions.json", "progress.csv", "checkpoints"} <= {p.name for p in run.iterdir()}
    assert list(run.glob("events.out.tfevents*"))


def test_with_a_lag_of_one_collection_overlaps_and_the_run_ends_the_same_way(one_ray, tmp_path):
    values = toys.small(storage=str(tmp_path), rollout={"max_policy_lag": 1}, stop={"every_steps": 10_000})
    run = train(RunConfig.model_validate(values), quiet=True)
    header, *rows = [line.split(",") for line in (run / "progress.csv").read_text().splitlines()]
    lag = [float(row[header.index("lag")]) for row in rows]
    assert lag == [0, 1, 1, 1, 0]  # the first is for the statistics, after the last nothing is collected
    assert int(rows[-1][header.index("steps")]) == 320


def test_actors_that_die_or_hang_are_replaced_without_a_trace_in_the_result(one_ray, tmp_path):
    flag = Path(os.environ["PHYSAI_TOY_ONCE"])
    assert not flag.exists()
    values = toys.small("toys:Deadly-v0", storage=str(tmp_path / "killed"), rollout={"timeout_s": 10})
    run = train(RunConfig.model_validate(values), quiet=True)
    assert flag.exists() and Path(f"{flag}-hung").exists()
    lines = (run / "progress.csv").read_text().splitlines()
    assert int(float(lines[-1].split(",")[lines[0].split(",").index("restarts")])) >= 2
    alive = toys.learn({**values, "storage": str(tmp_path / "alive")})
    assert everything(toys.learn(values)) == everything(alive)


def processes_of(raylet_folder: Path, word: str) -> list[int]:
    """Processes that this Ray started and whose title has a word in it."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            ours = str(raylet_folder) in Path(f"/proc/{parent}/cmdline").read_text()
        except (OSError, ValueError, IndexError):
            continue
        if word in title and ours:
            found.append(int(entry.name))
    return found


def test_a_learner_that_is_killed_starts_again_from_its_last_checkpoint(one_ray, reference, tmp_path):
    values = toys.small(storage=str(tmp_path), learner={"workers": 1, "max_failures": 2})
    checkpoints = tmp_path / "target" / "run" / "checkpoints"
    killed = []

    def kill() -> None:
        while not list(checkpoints.glob("0*[2-5]")):
            time.sleep(0.02)
        for process in processes_of(one_ray, "RayTrainWorker"):
            os.kill(process, signal.SIGKILL)
            killed.append(process)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    run = train(RunConfig.model_validate(values), quiet=True)
    killer.join(timeout=5)
    assert len(killed) == 1
    assert everything(restored(run)) == everything(reference)


def test_an_observation_that_is_not_a_number_names_the_episode(one_ray, tmp_path):
    config = RunConfig.model_validate(toys.small("toys:Poisoned-v0", storage=str(tmp_path)))
    with pytest.raises(SimulationError, match=r"not finite \(group \d, environment \d, episode with seed \d+ "):
        train(config, quiet=True)


DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
import toys
from physai.config import RunConfig
from physai.train.driver import train
train(RunConfig.model_validate(toys.small(sys.argv[4], storage=sys.argv[2], stop={"steps": int(sys.argv[3])})))
"""


def start_driver(storage: Path, steps: int, task: str = "toys:Target-v0") -> subprocess.Popen:
    """Starts a run with a Ray of its own, and waits for a checkpoint from its second iteration on."""
    environment = {key: value for key, value in os.environ.items() if key not in ("PHYSAI_TOY_ONCE", "RAY_ADDRESS")}
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, TESTS, str(storage), str(steps), task],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    ends = time.monotonic() + 3 * LONG_S
    while not list(storage.glob("*/run/checkpoints/0*[2-9]")):
        assert time.monotonic() < ends and process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    return process


def test_a_driver_that_is_killed_beside_another_ray_continues_by_name(one_ray, reference, tmp_path):
    process = start_driver(tmp_path, 320)
    process.kill()
    process.communicate(timeout=30)
    run = tmp_path / "target" / "run"
    before = CheckpointStore(run / "checkpoints", 3).newest().iteration
    config = RunConfig.model_validate(toys.small(storage=str(tmp_path)))
    assert train(config, resume=str(run), quiet=True) == run
    assert 2 <= before <= 5
    assert weights(restored(run)) == weights(reference)


def test_sigterm_saves_and_says_how_to_go_on(one_ray, tmp_path):
    process = start_driver(tmp_path, 10_000_000)
    process.terminate()
    _, said = process.communicate(timeout=LONG_S)
    run = tmp_path / "target" / "run"
    assert process.returncode == 128 + signal.SIGTERM
    assert f"physai train --resume {run}" in said
    lines = (run / "progress.csv").read_text().splitlines()
    assert int(lines[-1].split(",")[0]) == CheckpointStore(run / "checkpoints", 3).newest().iteration


def test_sigterm_does_not_wait_for_a_slow_fragment(tmp_path, monkeypatch):
    slow = tmp_path / "now"
    monkeypatch.setenv("PHYSAI_TOY_SLOW", str(slow))
    process = start_driver(tmp_path, 10_000_000, "toys:Slow-v0")
    slow.touch()
    progress = tmp_path / "slow" / "run" / "progress.csv"
    try:
        time.sleep(3)  # now the actors are in steps of a minute, and a fragment has 32
        process.terminate()
        process.communicate(timeout=LONG_S)  # half an hour, if it waited
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    newest = CheckpointStore(progress.parent / "checkpoints", 3).newest()
    assert int(progress.read_text().splitlines()[-1].split(",")[0]) == newest.iteration
