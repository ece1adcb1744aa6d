"""Says what became slower than it was when the baseline was written.

    python benchmarks/guard.py [--save] [--tolerance 0.15] [FIGURE ...]

Every figure is a ratio of two things that take turns in one run, so a baseline nearly holds on another machine: a
control step of a task is given in steps of plain Bullet (the arm that comes with it, standing on a plane), a learner's
update as a share of stable-baselines3's own. The fastest of several rounds counts: other work only ever adds.

Exit code 1 if a figure is worse than the baseline by more than the tolerance. ``--save`` writes the baseline anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import env_speed
import learner_speed
import pybullet
import pybullet_data
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from stable_baselines3 import PPO

from physai.errors import nearest
from physai.train.algorithms.ppo import FleetPPO
from physai_envs import registry

BASELINE = Path(__file__).with_name("baseline.json")
ROUNDS = 7
RAW_STEPS, CONTROL_STEPS = 2000, 300  # of a round
LEARNER = "learner"
DEFAULT_PPO = {"observations": 32, "actions": 6, "network": [64, 64], "batch_size": 256, "envs": 16, "steps": 128}


class Yardstick:
    """Plain Bullet: an arm with a hand stands on a plane, and nothing is read or driven."""

    def __init__(self) -> None:
        self._client = pybullet.connect(pybullet.DIRECT)
        pybullet.setAdditionalSearchPath(pybullet_data.getDataPath(), self._client)
        for name in ("plane.urdf", "franka_panda/panda.urdf"):
            pybullet.loadURDF(name, useFixedBase=True, physicsClientId=self._client)

    def seconds(self) -> float:
        """CPU time of one step."""
        started = time.thread_time()
        for _ in range(RAW_STEPS):
            pybullet.stepSimulation(self._client)
        return (time.thread_time() - started) / RAW_STEPS


def environment(name: str, yardstick: Yardstick) -> float:
    """Steps of plain Bullet that a control step of the task takes as long as."""
    env = registry.make(name).unwrapped
    drive = env_speed.DRIVES.get(name, env_speed.wander)
    raw, own = [], []
    for _ in range(ROUNDS):
        raw.append(yardstick.seconds())
        own.append(env_speed.run(env, drive, CONTROL_STEPS) / CONTROL_STEPS)
    env.close()
    return min(own) / min(raw)


def learner() -> float:
    """Duration of an update of the default network on one thread, as a share of stable-baselines3's own."""
    torch.set_num_threads(1)
    options = SimpleNamespace(epochs=10, **DEFAULT_PPO)
    own, stock = learner_speed.model_of(options, "cpu"), learner_speed.model_of(options, "cpu")
    stock.policy.optimizer = torch.optim.Adam(stock.policy.parameters(), eps=1e-5)
    pairs = ((own, FleetPPO.train), (stock, PPO.train))
    taken = [[learner_speed.seconds(*pair) for pair in pairs] for _ in range(ROUNDS + 1)][1:]
    ours, theirs = (min(column) for column in zip(*taken, strict=True))
    return ours / theirs


def main() -> int:
    """Measures, compares, and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*(registry.slug(task.id) for task in registry.tasks()), LEARNER]
    parser.add_argument("figures", nargs="*", default=known)
    parser.add_argument("--save", action="store_true", help="write what is measured as the baseline")
    parser.add_argument("--tolerance", type=float, default=0.15, help="how much slower is still the same")
    options = parser.parse_args()
    for name in options.figures:
        if name not in known:
            parser.error(f"{name!r} is not measured; {nearest(name, known)}")
    baseline = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    console, yardstick = Console(), Yardstick()
    table, slower = Table("figure", "baseline", "now", "change"), []
    for name in track(options.figures, description="measuring", console=console, transient=True):
        now = learner() if name == LEARNER else environment(name, yardstick)
        before = baseline.get(name)
        change = 0.0 if before is None else now / before - 1.0
        if change > options.tolerance:
            slower.append(name)
        table.add_row(name, "" if before is None else f"{before:.2f}", f"{now:.2f}", f"{change:+.0%}")
        baseline[name] = round(now, 3) if options.save else before
    console.print(table)
    if options.save:
        BASELINE.write_text(json.dumps(baseline, indent=2) + "\n", encoding="utf-8")
        console.print(f"written to {BASELINE}")
    elif slower:
        console.print(f"slower than the baseline by more than {options.tolerance:.0%}: {', '.join(slower)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
