"""Prints physai beside panda-gym, stable-baselines3 and RLlib, all on this machine and in turns. `make bench-peers`.

Environments: control steps a second of CPU time on one core, moving at random on both sides. A control step of
panda-gym is 20 x 2 ms with a call of the inverse kinematics, one of ours 6 x 1/120 s.

Trainers: environment steps a second of PPO on panda-gym's own PandaReach, all cores, equal batch, minibatch, epochs and
network: stable-baselines3 with a SubprocVecEnv (a process a core), RLlib with an EnvRunner a core, physai with an actor
a core and a policy lag of one iteration.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
VENV = HERE.parent.parent / ".venv-peers"
sys.path.insert(0, str(HERE.parent))
import env_speed  # noqa: E402  of the folder above

from physai_envs import registry  # noqa: E402

PLAN = {"batch": 2048, "minibatch": 256, "epochs": 10, "network": [64, 64]}
PAIRS = {"PandaReach-v3": "reach", "PandaPickAndPlace-v3": "tidy_up"}
WARM_UP = 2  # iterations; the first one is for the statistics alone


def peer(script: str, *arguments: str) -> float:
    """Runs a script of this folder in the peers' environment, and returns the figure that it prints last."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [str(VENV / "bin" / "python"), str(HERE / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode or "result" not in done.stdout:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.rsplit(maxsplit=1)[-1])


def our_steps(name: str, steps: int) -> float:
    """Control steps a second of CPU time of one of our tasks."""
    env = registry.make(name).unwrapped
    rng = np.random.default_rng(0)

    def random(env: env_speed.TaskEnv) -> np.ndarray:
        return rng.uniform(-1.0, 1.0, env.action_space.shape).astype(np.float32)

    rate = steps / env_speed.run(env, random, steps)
    env.close()
    return rate


def our_training(iterations: int) -> float:
    """Environment steps a second of physai on PandaReach."""
    steps = PLAN["batch"] * (iterations + WARM_UP)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("physai")), "train", str(HERE / "panda_reach.yaml"),
            f"storage={folder}", "name=peer", f"stop.steps={steps}", f"stop.every_steps={steps}",
        ]  # fmt: skip
        path = f"{HERE}{os.pathsep}{VENV / 'panda'}"
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
        )
        found = list(Path(folder).rglob("progress.csv"))
        if not found:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        with found[0].open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[WARM_UP:]
    return PLAN["batch"] * len(rows) / sum(float(row["seconds"]) for row in rows)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000, help="control steps of a round")
    parser.add_argument("--iterations", type=int, default=8, help="of training in a round")
    options = parser.parse_args()
    console = Console()
    table = Table("panda-gym", "steps/s", "physai", "steps/s", "ratio", title="environments, one core")
    with console.status("environments"):
        for theirs, ours in PAIRS.items():
            rows = [
                (peer("environment.py", theirs, str(options.steps)), our_steps(ours, options.steps))
                for _ in range(options.rounds)
            ]
            left, right = (max(column) for column in zip(*rows, strict=True))  # other work only ever takes away
            table.add_row(theirs, f"{left:,.0f}", ours, f"{right:,.0f}", f"{right / left:.1f}")
    console.print(table)
    plan = json.dumps({**PLAN, "cores": os.cpu_count(), "iterations": options.iterations})
    rates: dict[str, list[float]] = {"stable-baselines3": [], "RLlib": [], "physai": []}
    for number in range(options.rounds):
        with console.status(f"trainers on PandaReach, round {number + 1} of {options.rounds}"):
            rates["stable-baselines3"].append(peer("sb3_train.py", plan))
            rates["RLlib"].append(peer("rllib_train.py", plan))
            rates["physai"].append(our_training(options.iterations))
    table = Table("trainer", "steps/s", "median", "physai / this", title="PandaReach, all cores")
    own = statistics.median(rates["physai"])
    for name, values in rates.items():
        middle = statistics.median(values)
        table.add_row(name, ", ".join(f"{value:,.0f}" for value in values), f"{middle:,.0f}", f"{own / middle:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
