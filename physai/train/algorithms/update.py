"""The update of PPO, with the arithmetic of stable-baselines3's `PPO.train` and without what it does beside it.

Per minibatch that one copies six arrays, builds distribution objects and waits for five numbers, which costs as much as
the arithmetic of a small network. Same minibatches, same losses, same optimiser; a test compares the parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.utils import explained_variance
from torch.nn.functional import mse_loss

from physai.train.algorithms.network import Network

if TYPE_CHECKING:
    from physai.train.algorithms.ppo import FleetPPO

LOG_SQRT_2PI = math.log(math.sqrt(2.0 * math.pi))
ENTROPY_OF_UNIT = 0.5 + 0.5 * math.log(2.0 * math.pi)  # of a normal distribution with deviation 1


@dataclass(frozen=True)
class Batch:
    """A rollout buffer as tensors, (n, ...)."""

    observations: torch.Tensor
    actions: torch.Tensor
    advantages: torch.Tensor
    log_probs: torch.Tensor
    returns: torch.Tensor

    @classmethod
    def of(cls, buffer: Any) -> Batch:
        """Copies the buffer of a model, environment after environment."""
        names = ("observations", "actions", "advantages", "log_probs", "returns")
        flat = [torch.from_numpy(buffer.swap_and_flatten(getattr(buffer, name)).astype(np.float32)) for name in names]
        return cls(flat[0], flat[1], *(array.flatten() for array in flat[2:]))

    def rows(self, index: torch.Tensor) -> Batch:
        """Returns a minibatch."""
        return Batch(
            self.observations[index],
            self.actions[index],
            self.advantages[index],
            self.log_probs[index],
            self.returns[index],
        )


def update(model: FleetPPO) -> None:
    """Learns from the model's buffer; continuous actions only."""
    policy: Any = model.policy
    policy.set_training_mode(True)
    model._update_learning_rate(policy.optimizer)
    clip_range = float(model.clip_range(model._current_progress_remaining))  # type: ignore[operator]
    actor = Network(policy.mlp_extractor.policy_net, policy.action_net)
    critic = Network(policy.mlp_extractor.value_net, policy.value_net)
    parameters = list(policy.parameters())
    batch = Batch.of(model.rollout_buffer)
    told: list[torch.Tensor] = []
    goes_on = True
    for _ in range(model.n_epochs):
        first = len(told)
        order = torch.from_numpy(np.random.permutation(len(batch.returns)))
        for index in order.split(model.batch_size):
            loss, figures = _loss(model, actor, critic, batch.rows(index), clip_range)
            told.append(figures)
            if model.target_kl is not None and float(figures[3]) > 1.5 * model.target_kl:
                goes_on = False
                break
            policy.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, model.max_grad_norm)
            policy.optimizer.step()
        model._n_updates += 1
        if not goes_on:
            break
    _log(model, torch.stack(told), first, clip_range)


def _loss(
    model: FleetPPO, actor: Network, critic: Network, rows: Batch, clip_range: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the loss of a minibatch, and its parts for the log."""
    policy: Any = model.policy
    mean, values, log_std = actor(rows.observations), critic(rows.observations).flatten(), policy.log_std
    log_prob = (-((rows.actions - mean) ** 2) / (2 * (log_std.exp() ** 2)) - log_std - LOG_SQRT_2PI).sum(dim=1)
    advantages = rows.advantages
    if model.normalize_advantage and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_ratio = log_prob - rows.log_probs
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
    policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
    value_loss = mse_loss(rows.returns, values)
    entropy_loss = -(ENTROPY_OF_UNIT + log_std).sum()
    loss = policy_loss + model.ent_coef * entropy_loss + model.vf_coef * value_loss
    with torch.no_grad():
        kl = ((ratio - 1) - log_ratio).mean()
        clips = ((ratio - 1).abs() > clip_range).float().mean()
        figures = torch.stack([policy_loss, value_loss, entropy_loss, kl, clips, loss])
    return loss, figures


def _log(model: FleetPPO, told: torch.Tensor, first: int, clip_range: float) -> None:
    """Records what `PPO.train` records; its divergence is that of the last epoch, which began at row `first`."""
    means, buffer = told.mean(dim=0).tolist(), model.rollout_buffer
    names = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")
    for name, value in zip(names, means, strict=False):
        model.logger.record(f"train/{name}", value)
    model.logger.record("train/approx_kl", float(told[first:, 3].mean()))
    model.logger.record("train/loss", float(told[-1, 5]))
    model.logger.record(
        "train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten())
    )
    model.logger.record("train/std", float(model.policy.log_std.detach().exp().mean()))
    model.logger.record("train/n_updates", model._n_updates, exclude="tensorboard")
    model.logger.record("train/clip_range", clip_range)
