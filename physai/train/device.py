"""Chooses where the learner computes, by trying: a small network is often faster on the CPU.

A GPU wins where the arithmetic of a minibatch takes longer than to start it; which side of that a network and a batch
are on depends on both machines.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from physai.config import RunConfig
from physai.errors import ConfigError
from physai.train.algorithms.ppo import FleetPPO, build

NO_GPU = "there is no GPU"
ROUNDS = 2  # the first one warms up


def check(config: RunConfig) -> None:
    """Refuses a GPU that this machine does not have.

    Raises:
        ConfigError: says what to do.
    """
    if config.learner.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"learner.device is cuda, and PyTorch {torch.__version__} finds no GPU on this machine; give "
            "learner.device=cpu, or auto, or learner.workers=1 to learn on a GPU of the cluster"
        )


def choose(
    config: RunConfig, observation_space: gym.Space[Any], action_space: gym.Space[Any], learners: int = 1
) -> tuple[str, str]:
    """Measures updates of this run's network and batch on each device of this machine.

    Args:
        config: of the run.
        observation_space: of its environment.
        action_space: likewise.
        learners: among how many the batch is shared out.

    Returns:
        ``cpu`` or ``cuda``, and in words why.
    """
    if not torch.cuda.is_available():
        return "cpu", NO_GPU
    if config.algorithm.name != "ppo":
        return "cpu", f"{config.algorithm.name} is not measured; learner.device=cuda makes it learn on the GPU"
    torch.set_num_threads(config.learner.threads)
    rollout = config.rollout.model_copy(update={"groups": config.rollout.groups // learners})
    algorithm = config.algorithm.model_copy(update={"batch_size": max(2, config.algorithm.batch_size // learners)})
    share = config.model_copy(update={"rollout": rollout, "algorithm": algorithm})
    rates = {device: rate(build(share, observation_space, action_space, device=device)) for device in ("cpu", "cuda")}
    chosen = max(rates, key=lambda device: rates[device])
    return chosen, f"{rates['cpu']:,.0f} updates/s on the CPU, {rates['cuda']:,.0f} on {torch.cuda.get_device_name()}"


def rate(model: FleetPPO) -> float:
    """Returns minibatches a second of an epoch over random experience, the way to the device included."""
    fill(model)
    model.n_epochs, seconds = 1, 0.0
    for _ in range(ROUNDS):
        wait(model.device)
        started = time.perf_counter()
        model.train()
        wait(model.device)
        seconds = time.perf_counter() - started
    return model.rollout_buffer.advantages.size / model.batch_size / seconds


def fill(model: FleetPPO) -> None:
    """Fills the buffer with random experience that has the policy's own values and log-probabilities."""
    buffer, rng = model.rollout_buffer, np.random.default_rng(0)
    buffer.reset()
    buffer.observations[:] = rng.standard_normal(buffer.observations.shape)
    for t in range(buffer.buffer_size):
        with torch.no_grad():
            seen = torch.from_numpy(buffer.observations[t]).to(model.device)
            actions, values, log_probs = model.policy(seen)
        buffer.actions[t] = actions.cpu().numpy().reshape(buffer.actions[t].shape)
        buffer.values[t], buffer.log_probs[t] = values.flatten().cpu(), log_probs.cpu()
    buffer.rewards[:] = rng.standard_normal(buffer.rewards.shape)
    buffer.compute_returns_and_advantage(torch.zeros(buffer.n_envs), np.zeros(buffer.n_envs))
    buffer.pos, buffer.full = buffer.buffer_size, True


def wait(device: torch.device) -> None:
    """Waits until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
