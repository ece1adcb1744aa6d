"""A perceptron of stable-baselines3 as plain function calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """A function of a layer.

    Attributes:
        function: as PyTorch computes it, to the last bit.
        replace: the same, in place of what it is given, as fast as can be.
        backward: its gradient, from the gradient and the values (n, k) that the layer returned.
    """

    function: Callable[[torch.Tensor], torch.Tensor]
    replace: Callable[[torch.Tensor], torch.Tensor]
    backward: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def tanh(values: torch.Tensor) -> torch.Tensor:
    """Computes tanh in place: on a CPU with numpy, whose vector instructions take a fifteenth of PyTorch's time."""
    if not values.is_cpu:
        return values.tanh_()
    array = values.detach().numpy()
    np.tanh(array, out=array)
    return values


ACTIVATIONS = {
    torch.nn.Tanh: Activation(torch.tanh, tanh, aten.tanh_backward),
    torch.nn.ReLU: Activation(
        torch.relu, torch.relu_, lambda gradient, out: aten.threshold_backward(gradient, out, 0.0)
    ),
    torch.nn.ELU: Activation(
        torch.nn.functional.elu,
        torch.nn.functional.elu_,
        lambda gradient, out: aten.elu_backward(gradient, 1.0, 1.0, 1.0, True, out),
    ),
}


class Network:
    """A perceptron as a row of function calls; calling modules costs as much as the arithmetic of a few rows.

    Args:
        parts: of the perceptron, one after the other; an activation follows a linear layer.
    """

    def __init__(self, *parts: torch.nn.Sequential | torch.nn.Linear) -> None:
        self._layers: list[tuple[Any, Any, Activation | None]] = []
        for module in [m for part in parts for m in (part if isinstance(part, torch.nn.Sequential) else (part,))]:
            if isinstance(module, torch.nn.Linear):
                self._layers.append((module.weight, module.bias, None))
            else:
                weight, bias, _ = self._layers.pop()
                self._layers.append((weight, bias, ACTIVATIONS[type(module)]))

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Maps rows (n, inputs) to rows (n, outputs)."""
        for weight, bias, activation in self._layers:
            values = torch.nn.functional.linear(values, weight, bias)
            if activation is not None:
                values = activation.function(values)
        return values

    def trace(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Returns the rows that go in, and those that come out of each layer."""
        rows = [values]
        for weight, bias, activation in self._layers:
            out = torch.addmm(bias, rows[-1], weight.t())
            rows.append(out if activation is None else activation.replace(out))
        return rows

    def backward(self, rows: Sequence[torch.Tensor], gradient: torch.Tensor) -> None:
        """Writes the gradients of the parameters into their `grad`, which must be there.

        Args:
            rows: what `trace` returned.
            gradient: of the loss with respect to the last of them (n, outputs).
        """
        for place in reversed(range(len(self._layers))):
            weight, bias, activation = self._layers[place]
            if activation is not None:
                gradient = activation.backward(gradient, rows[place + 1])
            torch.mm(gradient.t(), rows[place], out=weight.grad)
            torch.sum(gradient, 0, out=bias.grad)
            if place:
                gradient = gradient.mm(weight)
