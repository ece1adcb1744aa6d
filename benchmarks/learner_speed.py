"""Prints how fast PPO learns: minibatch updates a second of physai and of stable-baselines3 on equal buffers.

Each device that this machine has is measured, in turns with stable-baselines3's own `PPO.train` and optimiser on that
device. Needs neither Ray nor pybullet.

    python benchmarks/learner_speed.py --observations 40 --actions 7 --batch-size 256 --network 256 256
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO

from physai.config import RunConfig
from physai.train.algorithms.ppo import FleetPPO, build
from physai.train.device import fill, wait


def model_of(options: argparse.Namespace, device: str) -> FleetPPO:
    """Returns a learner with a full buffer of random experience."""
    config = RunConfig.model_validate(
        {
            "task": "none",
            "algorithm": {"batch_size": options.batch_size, "epochs": options.epochs, "network": options.network},
            "rollout": {"groups": 1, "envs_per_group": options.envs, "steps": options.steps},
        }
    )
    observations = gym.spaces.Box(-np.inf, np.inf, (options.observations,), np.float32)
    model = build(config, observations, gym.spaces.Box(-1.0, 1.0, (options.actions,), np.float32), device=device)
    fill(model)
    return model


def seconds(model: FleetPPO, train: Any) -> float:
    """Returns how long one whole update takes, buffer to device included."""
    fill(model)  # stable-baselines3 leaves the buffer flattened
    wait(model.device)
    started = time.perf_counter()
    train(model)
    wait(model.device)
    return time.perf_counter() - started


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, default=32)
    parser.add_argument("--actions", type=int, default=6)
    parser.add_argument("--network", type=int, nargs="+", default=[64, 64])
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--envs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    updates = options.epochs * options.envs * options.steps / options.batch_size
    sys.stdout.write("| device | physai, updates/s | stable-baselines3, updates/s | ratio |\n|---|---|---|---|\n")
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        own, stock = model_of(options, device), model_of(options, device)
        stock.policy.optimizer = torch.optim.Adam(stock.policy.parameters(), eps=1e-5)  # ours is the fused one
        pairs = ((own, FleetPPO.train), (stock, PPO.train))
        for pair in pairs:
            seconds(*pair)  # warms up
        taken = [[seconds(*pair) for pair in pairs] for _ in range(options.rounds)]
        ours, theirs = (updates / statistics.median(column) for column in zip(*taken, strict=True))
        name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {options.threads} thread(s)"
        sys.stdout.write(f"| {name} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:.2f} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
