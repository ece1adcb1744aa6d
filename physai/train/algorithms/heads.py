"""Distributions of actions as plain arithmetic: log-probabilities and entropy of rows, and their gradients."""

from __future__ import annotations

import math

import torch

LOG_SQRT_2PI = math.log(math.sqrt(2.0 * math.pi))
ENTROPY_OF_UNIT = 0.5 + 0.5 * math.log(2.0 * math.pi)  # of a normal distribution with deviation 1


class Gaussian:
    """Independent normal distributions whose deviation is a parameter.

    Args:
        log_std: (k,), with a `grad` where gradients are asked for.
    """

    def __init__(self, log_std: torch.nn.Parameter) -> None:
        self._log_std = log_std

    def __call__(self, mean: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Returns the log-probabilities (n,) of actions (n, k)."""
        self._precision = torch.exp(-self._log_std)
        self._score = (actions - mean) * self._precision
        return (-0.5 * self._score**2 - self._log_std - LOG_SQRT_2PI).sum(dim=1)

    def entropy(self) -> torch.Tensor:
        """Returns the sum of the entropies of the rows."""
        return (ENTROPY_OF_UNIT + self._log_std).sum() * len(self._score)

    def backward(self, gradient: torch.Tensor, per_entropy: float) -> torch.Tensor:
        """Returns the gradient of the mean (n, k), and writes that of the deviation.

        Args:
            gradient: of the loss with respect to each log-probability (n,).
            per_entropy: the same for the sum of the entropies.
        """
        pull = gradient.unsqueeze(1) * self._score
        torch.sum(pull * self._score - gradient.unsqueeze(1), 0, out=self._log_std.grad)
        self._log_std.grad += per_entropy * len(gradient)  # type: ignore[operator]
        return pull * self._precision


class Categorical:
    """One of several choices, given by logits."""

    def __call__(self, logits: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Returns the log-probabilities (n,) of choices (n, 1)."""
        self._logs = torch.log_softmax(logits, dim=1)
        self._chosen = actions.long().reshape(-1, 1)
        return self._logs.gather(1, self._chosen).flatten()

    def entropy(self) -> torch.Tensor:
        """Returns the sum of the entropies of the rows."""
        self._shares = self._logs.exp()
        self._entropies = -(self._shares * self._logs).sum(dim=1, keepdim=True)
        return self._entropies.sum()

    def backward(self, gradient: torch.Tensor, per_entropy: float) -> torch.Tensor:
        """Returns the gradient of the logits (n, k); arguments as those of `Gaussian.backward`."""
        pull = -gradient.unsqueeze(1) * self._shares
        pull.scatter_add_(1, self._chosen, gradient.unsqueeze(1))
        return pull - per_entropy * self._shares * (self._logs + self._entropies)
