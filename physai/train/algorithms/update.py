"""The update of PPO, with the arithmetic of stable-baselines3's `PPO.train` and without what it does beside it.

Per minibatch that one copies six arrays, builds distribution objects, records a graph and waits for five numbers, which
costs more than the arithmetic of a small network. Here the gradients are written down, into one flat tensor: one norm,
one message between ranks. Same minibatches, same losses, same optimiser; a test compares the parameters.

Several ranks draw the same minibatches of the whole batch, and each computes the rows that it has. Sums over rows are
divided by the rows of the whole minibatch, so that the sum over the ranks is its mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.utils import explained_variance
from torch.optim.adam import adam

from physai.train.algorithms.heads import Categorical, Gaussian
from physai.train.algorithms.network import Network

if TYPE_CHECKING:
    from physai.train.algorithms.ppo import FleetPPO

FIGURES = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction", "loss")
KL = FIGURES.index("approx_kl")
NORM_EPS = 1e-6  # as `torch.nn.utils.clip_grad_norm_` has it


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

    def split(self, index: torch.Tensor, counts: list[int]) -> Iterator[Batch]:
        """Yields minibatches: the first has the first `counts[0]` rows of `index`, and so on."""
        fields = (self.observations, self.actions, self.advantages, self.log_probs, self.returns)
        return (Batch(*rows) for rows in zip(*[field[index].split(counts) for field in fields], strict=True))


def _flat(buffer: Any, name: str) -> torch.Tensor:
    rows = torch.from_numpy(buffer.swap_and_flatten(getattr(buffer, name)).astype(np.float32))
    return rows if name in ("observations", "actions") else rows.flatten()


class Descent:
    """Parameters that learn, their gradients in one flat tensor, and the steps of their Adam.

    Args:
        optimizer: of stable-baselines3's policy, the fused Adam.
        parameters: of the policy; those that are frozen get no gradient.
    """

    def __init__(self, optimizer: Any, parameters: list[torch.nn.Parameter]) -> None:
        self._optimizer = optimizer
        self._learning = [parameter for parameter in parameters if parameter.requires_grad]
        sizes = [parameter.numel() for parameter in self._learning]
        # the figures of a minibatch travel with its gradients
        self.message = torch.zeros(sum(sizes) + len(FIGURES), device=parameters[0].device)
        self.gradient, self.figures = self.message[: sum(sizes)], self.message[sum(sizes) :]
        for parameter in parameters:
            parameter.grad = None
        for parameter, part in zip(self._learning, self.gradient.split(sizes), strict=True):
            parameter.grad = part.view_as(parameter)
        self._state: tuple[list[torch.Tensor], ...] | None = None

    def step(self, max_norm: float) -> None:
        """Clips the gradient and takes a step."""
        norm = torch.linalg.vector_norm(self.gradient)
        self.gradient.mul_((max_norm / (norm + NORM_EPS)).clamp_(max=1.0))
        if self._state is None:  # the first step makes the state of a new optimiser
            self._optimizer.step()
            states = [self._optimizer.state[parameter] for parameter in self._learning]
            names = ("exp_avg", "exp_avg_sq", "step")
            self._state = tuple([state[name] for state in states] for name in names)
            return
        # what the optimiser calls, without gathering its arguments anew, which takes ten times as long as the step
        group, (averages, squares, steps) = self._optimizer.param_groups[0], self._state
        gradients: list[Any] = [parameter.grad for parameter in self._learning]
        adam(
            self._learning, gradients, averages, squares, [], steps, fused=True, amsgrad=False,  # type: ignore[arg-type]
            beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"], weight_decay=group["weight_decay"],
            eps=group["eps"], maximize=False,
        )  # fmt: skip


@torch.no_grad()
def update(model: FleetPPO) -> None:
    """Learns from the model's buffer, together with the other ranks."""
    policy: Any = model.policy
    policy.set_training_mode(True)
    model._update_learning_rate(policy.optimizer)
    clip_range = float(model.clip_range(model._current_progress_remaining))  # type: ignore[operator]
    loss = Loss(model, clip_range)
    descent = Descent(policy.optimizer, list(policy.parameters()))
    batch = Batch.of(model.rollout_buffer, model.device)
    told_values = _flat(model.rollout_buffer, "values").to(model.device)
    whole = model.collective.concatenate(torch.stack([batch.advantages, told_values, batch.returns]))
    told: list[torch.Tensor] = []
    goes_on = True
    for _ in range(model.n_epochs):
        first = len(told)
        for rows, spread in _minibatches(model, batch, whole[0]):
            loss(rows, spread, descent.figures)
            model.collective.add(descent.message)
            told.append(descent.figures.clone())
            if model.target_kl is not None and float(descent.figures[KL]) > 1.5 * model.target_kl:
                goes_on = False  # on all ranks, since all see the same sum
                break
            descent.step(model.max_grad_norm)
        model._n_updates += 1
        if not goes_on:
            break
    _log(model, torch.stack(told), first, whole, clip_range)


def _minibatches(model: FleetPPO, batch: Batch, advantages: torch.Tensor) -> Iterator[tuple[Batch, torch.Tensor]]:
    """Yields minibatches of an epoch: the rows that this rank has of them, from its batch, and advantages of all rows.

    All ranks draw the same ones: their generators have the same seed.
    """
    order = np.random.permutation(len(advantages))
    rows = model.collective.shard(len(order))
    own = (order >= rows.start) & (order < rows.stop)
    counts = [int(own[i : i + model.batch_size].sum()) for i in range(0, len(own), model.batch_size)]
    mine, index = (torch.from_numpy(numbers).to(model.device) for numbers in (order[own] - rows.start, order))
    return zip(batch.split(mine, counts), advantages[index].split(model.batch_size), strict=True)


class Loss:
    """Clipped surrogate, value error and entropy of PPO, with the gradients of the parameters.

    Source: Schulman et al. 2017, https://arxiv.org/abs/1707.06347, eq. 9.

    Args:
        model: that learns.
        clip_range: of the ratio.
    """

    def __init__(self, model: FleetPPO, clip_range: float) -> None:
        policy: Any = model.policy
        self._actor = Network(policy.mlp_extractor.policy_net, policy.action_net)
        self._critic = Network(policy.mlp_extractor.value_net, policy.value_net)
        self._acts = policy.action_net.weight.requires_grad  # False while the values are warmed up
        discrete = isinstance(model.action_space, gym.spaces.Discrete)
        self._head = Categorical() if discrete else Gaussian(policy.log_std)
        self._normalize, self._clip_range = model.normalize_advantage, clip_range
        self._ent_coef, self._vf_coef = model.ent_coef, model.vf_coef

    def __call__(self, rows: Batch, spread: torch.Tensor, figures: torch.Tensor) -> None:
        """Writes the gradients of this rank's part of a minibatch, and its part of the figures.

        Args:
            rows: of the minibatch that this rank has, maybe none.
            spread: advantages of all its rows, by which those are normalised.
            figures: out, `FIGURES`.
        """
        size = len(spread)
        actor, critic = self._actor.trace(rows.observations), self._critic.trace(rows.observations)
        log_ratio = self._head(actor[-1], rows.actions) - rows.log_probs
        ratio = log_ratio.exp()
        advantages = rows.advantages
        if self._normalize and size > 1:
            deviation, mean = torch.std_mean(spread)
            advantages = (advantages - mean) / (deviation + 1e-8)
        clamped = ratio.clamp(1.0 - self._clip_range, 1.0 + self._clip_range)
        gain, clipped_gain = advantages * ratio, advantages * clamped
        clipped, errors = ratio != clamped, critic[-1].flatten() - rows.returns
        entropy = self._head.entropy() / size
        policy_loss, value_loss = -torch.min(gain, clipped_gain).sum() / size, errors.dot(errors) / size
        total = policy_loss - self._ent_coef * entropy + self._vf_coef * value_loss
        kl, clips = ((ratio - 1.0) - log_ratio).sum() / size, clipped.sum() / size
        torch.stack([policy_loss, value_loss, -entropy, kl, clips, total], out=figures)
        if self._acts:
            push = gain.masked_fill(clipped & (clipped_gain <= gain), 0.0) / -size  # with respect to log_ratio
            self._actor.backward(actor, self._head.backward(push, -self._ent_coef / size))
        self._critic.backward(critic, errors.mul_(2.0 * self._vf_coef / size).unsqueeze(1))


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
