"""Trains the same configurations in every way a cluster can, and prints which met their bar, after how many steps.

One or two learners, lag 0 or 1, and a fleet whose nodes come and go: it begins on one node with one actor, goes on with
three on two nodes, and loses the first node, so that two are left. Each training is a process of its own. What is done
is kept in `learning.json` and not done again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kept
from soak import rows_of

import physai_configs
from physai.config import RunConfig
from physai.train.checkpoint import CheckpointStore

RECORDS = Path(__file__).with_name("learning.json")
CONFIGS = ("reach", "peg_insertion")
SEEDS = (0, 1, 2)
WAYS: Mapping[str, tuple[str, ...]] = {
    "one learner, lag 0": (),
    "one learner, lag 1": ("rollout.max_policy_lag=1",),
    "two learners, lag 0": ("learner.workers=2",),
    "two learners, lag 1": ("learner.workers=2", "rollout.max_policy_lag=1"),
    "1, 3, 2 actors, lag 0": ("rollout.groups=4",),
}
ELASTIC = "1, 3, 2 actors, lag 0"
MOST_ACTORS = 3
JOINS, LEAVES = 6, 8  # iterations after which a node of two joins, and with three after which the first one is lost
POLL_S = 0.1
STORE_BYTES = 200 * 2**20  # of each node


def loaded(name: str, way: str, seed: int, storage: str) -> RunConfig:
    """Returns the configuration of a training; halved groups of the elastic one keep the batch."""
    path = Path(physai_configs.__path__[0]) / f"{name}.yaml"
    halved = [f"rollout.envs_per_group={RunConfig.load(path).rollout.envs_per_group // 2}"] if way == ELASTIC else []
    return RunConfig.load(path, [*WAYS[way], *halved, f"seed={seed}", f"storage={storage}", "name=run"])


def train_here(name: str, way: str, seed: int, storage: str) -> None:
    """Trains in this process, on nodes that come and go if the way says so."""
    from physai.train.driver import train

    config = loaded(name, way, seed, storage)
    if way != ELASTIC:
        train(config, quiet=True)
        return
    import ray
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        node = {"object_store_memory": STORE_BYTES}
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder, **node}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        first = cluster.add_node(num_cpus=1, **node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        training = threading.Thread(target=train, args=(config,), kwargs={"quiet": True}, daemon=True)
        training.start()
        joined = left = False
        while training.is_alive():  # nodes are started by the main thread alone
            done = [int(row["actors"]) for row in rows_of(Path(storage))]
            if len(done) >= JOINS and not joined:
                joined = bool(cluster.add_node(num_cpus=MOST_ACTORS - 1, **node))
            if done.count(MOST_ACTORS) >= LEAVES and not left:
                left = True
                cluster.remove_node(first, allow_graceful=False)
            training.join(POLL_S)
        ray.shutdown()
        cluster.shutdown()


def measure(name: str, way: str, seed: int) -> dict[str, Any]:
    """Trains in a process of its own; returns what became of it."""
    with tempfile.TemporaryDirectory() as storage:
        started = time.perf_counter()
        command = [sys.executable, __file__, "--one", name, way, str(seed), storage]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        wall, rows = time.perf_counter() - started, rows_of(Path(storage))
        if ended.returncode or not rows:
            raise RuntimeError(f"{name}, {way}, seed {seed} ended with {ended.returncode}:\n{ended.stderr[-2000:]}")
        (run,) = Path(storage).glob("*/run")
        best = CheckpointStore(run / "checkpoints", 1).best() or {}
    actors: list[int] = []
    for row in rows:
        actors += [int(row["actors"])] if int(row["actors"]) not in actors[-1:] else []
    return {
        "config": name, "way": way, "seed": seed, "met": best.get("met"), "success": best.get("success"),
        "bar": best.get("bar"), "steps": int(rows[-1]["steps"]), "wall_s": round(wall, 1), "actors": actors,
        "iterations_s": round(sum(float(row["seconds"]) for row in rows), 1),
    }  # fmt: skip


def table(records: list[dict[str, Any]]) -> str:
    """Returns a line for each configuration and way."""
    lines = [
        "| configuration | way | bar met | success held out, by seed | steps, by seed | seconds with Ray's start |",
        "|---|---|---|---|---|---|",
    ]
    for name in CONFIGS:
        for way in WAYS:
            found = sorted((r for r in records if (r["config"], r["way"]) == (name, way)), key=lambda r: int(r["seed"]))
            if found:
                success = ", ".join(f"{r['success']:.1%}" for r in found)
                steps = ", ".join(f"{r['steps']:,}" for r in found)
                seconds = ", ".join(f"{r['wall_s']:.0f}" for r in found)
                met = f"{sum(bool(r['met']) for r in found)} of {len(found)}"
                lines.append(f"| {name} | {way} | {met} | {success} | {steps} | {seconds} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trains what is missing, keeps it, and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=4, metavar=("CONFIG", "WAY", "SEED", "STORAGE"), help="only this one, here")
    options = parser.parse_args()
    if options.one:
        name, way, seed, storage = options.one
        train_here(name, way, int(seed), storage)
        return
    records = kept.read(RECORDS)
    for seed in SEEDS:
        for way in WAYS:
            for name in CONFIGS:
                if not any((r["config"], r["way"], r["seed"]) == (name, way, seed) for r in records):
                    kept.add(RECORDS, records, measure(name, way, seed))
    sys.stdout.write(table(records))


if __name__ == "__main__":
    main()
