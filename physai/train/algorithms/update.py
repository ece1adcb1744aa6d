"""The update of PPO, with the arithmetic of stable-baselines3's `PPO.train` and without what it does beside it.

Per minibatch that one copies six arrays, builds distribution objects and waits for five numbers, which costs as much as
the arithmetic of a small network. Same minibatches, same losses, same optimiser; a test compares the parameters.

Several ranks draw the same minibatches of the whole batch, and each computes the rows that it has. A rank's part of the
loss is weighted by its share of the rows, so that the sum of the gradients is that of the whole minibatch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.utils import explained_variance
from torch.distributions import Categorical
from torch.nn.functional import mse_loss

from physai.train.algorithms.network import Network

if TYPE_CHECKING:
    from physai.train.algorithms.ppo import FleetPPO

LOG_SQRT_2PI = math.log(math.sqrt(2.0 * math.pi))
ENTROPY_OF_UNIT = 0.5 + 0.5 * math.log(2.0 * math.pi)  # of a normal distribution with deviation 1
FIGURES = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction", "loss")
KL = FIGURES.index("approx_kl")


@dataclass(frozen=True)
class Batch:
    """A rollout buffer as tensors, (n, ...), environment after environment."""

    observations: torch.Tensor
    actions: torch.Tensor
    advantages: torch.Tensor
    log_probs: torch.Tensor
    returns: torch.Tensor

    @classmethod
    def of(cls, buffer: Any, device: torch.device) -> Batch:
        """Copies the buffer of a model."""
        return cls(*(_flat(buffer, name).to(device) for name in cls.__dataclass_fields__))

    def rows(self, index: torch.Tensor) -> Batch:
        """Returns a minibatch."""
        return Batch(
            self.observations[index],
            self.actions[index],
            self.advantages[index],
            self.log_probs[index],
            self.returns[index],
        )


def _flat(buffer: Any, name: str) -> torch.Tensor:
    rows = torch.from_numpy(buffer.swap_and_flatten(getattr(buffer, name)).astype(np.float32))
    return rows if name in ("observations", "actions") else rows.flatten()


def update(model: FleetPPO) -> None:
    """Learns from the model's buffer, together with the other ranks."""
    policy: Any = model.policy
    policy.set_training_mode(True)
    model._update_learning_rate(policy.optimizer)
    clip_range = float(model.clip_range(model._current_progress_remaining))  # type: ignore[operator]
    networks = (
        Network(policy.mlp_extractor.policy_net, policy.action_net),
        Network(policy.mlp_extractor.value_net, policy.value_net),
    )
    parameters = list(policy.parameters())
    batch = Batch.of(model.rollout_buffer, model.device)
    told_values = _flat(model.rollout_buffer, "values").to(model.device)
    whole = model.collective.concatenate(torch.stack([batch.advantages, told_values, batch.returns]))
    told: list[torch.Tensor] = []
    goes_on = True
    for _ in range(model.n_epochs):
        first = len(told)
        for index, mine in _minibatches(model, whole.shape[1]):
            share, figures = len(mine) / len(index), torch.zeros(len(FIGURES), device=model.device)
            policy.optimizer.zero_grad()
            if share > 0.0:  # a small minibatch may hold none of this rank's rows
                loss, figures = _loss(model, networks, batch.rows(mine), whole[0][index], clip_range)
                (loss * share).backward()
            figures = model.collective.add(parameters, figures * share)
            told.append(figures)
            if model.target_kl is not None and float(figures[KL]) > 1.5 * model.target_kl:
                goes_on = False  # on all ranks, since all see the same sum
                break
            torch.nn.utils.clip_grad_norm_(parameters, model.max_grad_norm)
            policy.optimizer.step()
        model._n_updates += 1
        if not goes_on:
            break
    _log(model, torch.stack(told), first, whole, clip_range)


def _minibatches(model: FleetPPO, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields minibatches of an epoch: numbers of their rows in the whole batch, and of those of this rank in its own.

    All ranks draw the same ones: their generators have the same seed.
    """
    order = torch.from_numpy(np.random.permutation(size))
    rows = model.collective.shard(size)
    own = (order >= rows.start) & (order < rows.stop)
    counts = [int(part.sum()) for part in own.split(model.batch_size)]
    mine = (order[own] - rows.start).to(model.device)
    return zip(order.to(model.device).split(model.batch_size), mine.split(counts), strict=True)


def _loss(
    model: FleetPPO, networks: tuple[Network, Network], rows: Batch, spread: torch.Tensor, clip_range: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the loss of a minibatch, and its parts for the log.

    Args:
        model: that learns.
        networks: of the actions and of the values.
        rows: of the minibatch that this rank has.
        spread: advantages of all its rows, by which those are normalised.
        clip_range: of the ratio.
    """
    actor, critic = networks
    values = critic(rows.observations).flatten()
    log_prob, entropy_loss = _distribution(model, actor(rows.observations), rows.actions)
    advantages = rows.advantages
    if model.normalize_advantage and len(spread) > 1:
        advantages = (advantages - spread.mean()) / (spread.std() + 1e-8)
    log_ratio = log_prob - rows.log_probs
    ratio = torch.exp(log_ratio)
    clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
    policy_loss = -torch.min(advantages * ratio, advantages * clipped).mean()
    value_loss = mse_loss(rows.returns, values)
    loss = policy_loss + model.ent_coef * entropy_loss + model.vf_coef * value_loss
    with torch.no_grad():
        kl = ((ratio - 1) - log_ratio).mean()
        clips = ((ratio - 1).abs() > clip_range).float().mean()
        figures = torch.stack([policy_loss, value_loss, entropy_loss, kl, clips, loss])
    return loss, figures


def _distribution(model: FleetPPO, mean: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the log-probabilities of actions (n, k), and the negative mean entropy; `mean` may hold logits."""
    if isinstance(model.action_space, gym.spaces.Discrete):
        choices = Categorical(logits=mean, validate_args=False)
        return choices.log_prob(actions.long().flatten()), -choices.entropy().mean()
    log_std: Any = model.policy.log_std
    log_prob = (-((actions - mean) ** 2) / (2 * (log_std.exp() ** 2)) - log_std - LOG_SQRT_2PI).sum(dim=1)
    return log_prob, -(ENTROPY_OF_UNIT + log_std).sum()


def _log(model: FleetPPO, told: torch.Tensor, first: int, whole: torch.Tensor, clip_range: float) -> None:
    """Records what `PPO.train` records; its divergence is that of the last epoch, which began at row `first`.

    Args:
        model: that learnt.
        told: figures (minibatches, `FIGURES`) of all ranks together.
        first: minibatch with which the last epoch began.
        whole: advantages, values and returns (3, n) of all ranks.
        clip_range: of the ratio.
    """
    record = model.logger.record
    for name, value in zip(FIGURES, told.mean(dim=0).tolist(), strict=True):
        record(f"train/{name}", value)
    record("train/approx_kl", float(told[first:, KL].mean()))
    record("train/loss", float(told[-1, -1]))
    record("train/explained_variance", explained_variance(whole[1].cpu().numpy(), whole[2].cpu().numpy()))
    if hasattr(model.policy, "log_std"):
        record("train/std", float(model.policy.log_std.detach().exp().mean()))
    record("train/n_updates", model._n_updates, exclude="tensorboard")
    record("train/clip_range", clip_range)
