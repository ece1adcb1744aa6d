"""A perceptron of stable-baselines3 as plain function calls."""

from __future__ import annotations

from typing import Any

import torch

FUNCTIONS = {torch.nn.Tanh: torch.tanh, torch.nn.ReLU: torch.relu, torch.nn.ELU: torch.nn.functional.elu}


class Network:
    """A perceptron as a row of function calls; calling modules costs as much as the arithmetic of a few rows."""

    def __init__(self, body: torch.nn.Sequential, head: torch.nn.Linear) -> None:
        self._steps: list[tuple[Any, tuple[torch.Tensor, ...]]] = []
        for module in (*body, head):
            if isinstance(module, torch.nn.Linear):
                self._steps.append((torch.nn.functional.linear, (module.weight, module.bias)))
            else:
                self._steps.append((FUNCTIONS[type(module)], ()))

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Maps rows (n, inputs) to rows (n, outputs)."""
        for function, parameters in self._steps:
            values = function(values, *parameters)
        return values
