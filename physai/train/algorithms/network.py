"""A perceptron of stable-baselines3 as plain function calls."""

from __future__ import annotations

from typing import Any

import torch

FUNCTIONS = {torch.nn.Tanh: torch.tanh, torch.nn.ReLU: torch.relu, torch.nn.ELU: torch.nn.functional.elu}


class Network:
    """A perceptron as a row of function calls; calling modules costs as much as the arithmetic of a few rows.

    Args:
        parts: of the perceptron, one after the other.
    """

    def __init__(self, *parts: torch.nn.Sequential | torch.nn.Linear) -> None:
        self._steps: list[tuple[Any, tuple[torch.Tensor, ...]]] = []
        for module in [m for part in parts for m in (part if isinstance(part, torch.nn.Sequential) else (part,))]:
            if isinstance(module, torch.nn.Linear):
                self._steps.append((torch.nn.functional.linear, (module.weight, module.bias)))
            else:
                self._steps.append((FUNCTIONS[type(module)], ()))

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Maps rows (n, inputs) to rows (n, outputs)."""
        for function, parameters in self._steps:
            values = function(values, *parameters)
        return values
