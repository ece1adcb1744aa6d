"""Computes a policy's graph with onnxruntime, and keeps what it remembers of the episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from physai.spec import PolicySpec

MODEL = "policy.onnx"
INPUT, OUTPUT = "observation", "command"
NEXT = "next_"  # begins the name of an output that is an input of the next step

Array = NDArray[Any]


class Graph:
    """A policy as a function of an observation and of what it remembers.

    Args:
        model: contents of ``policy.onnx``.
        memory: what a recurrent policy remembers at first, by the names of the graph's inputs; a shape means zeros.

    Raises:
        ValueError: if onnxruntime cannot read the model.
    """

    def __init__(self, model: bytes, memory: Mapping[str, Sequence[int] | Array]) -> None:
        self.session = open_session(model)
        self.initial: dict[str, Array] = {
            name: first if isinstance(first, np.ndarray) else np.zeros(tuple(first), np.float32)
            for name, first in memory.items()
        }
        self.shapes = {name: first.shape for name, first in self.initial.items()}
        self._outputs = [OUTPUT, *(NEXT + name for name in self.shapes)]
        self.reset()

    def reset(self) -> None:
        """Forgets the episode so far."""
        self.memory: Mapping[str, Array] = dict(self.initial)

    def __call__(self, observation: Array) -> Array:
        """Returns the command (1, k) for an observation (1, m), and remembers."""
        command, self.memory = self.step(observation, self.memory)
        return command

    def step(self, observation: Array, memory: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
        """Returns the command for an observation and what is then remembered; keeps nothing."""
        command, *remembered = self.session.run(self._outputs, {INPUT: observation, **memory})
        return command, dict(zip(self.shapes, remembered, strict=True))


def memory_from_json(parts: Iterable[Mapping[str, Any]]) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a policy's memory out of a manifest that fits its schema, in the order of the graph."""
    return {str(part["name"]): tuple(part["shape"]) for part in parts}


def open_session(model: bytes) -> ort.InferenceSession:
    """Opens a graph on one thread that never spins: what a control loop needs, and the same bits every time.

    Raises:
        ValueError: if onnxruntime cannot read it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors reach the caller as exceptions; warnings would clutter its terminal
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime's exceptions share no base class of their own
        first_line = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ValueError(f"onnxruntime cannot read {MODEL} ({first_line})") from problem


def check_graph(graph: Graph, spec: PolicySpec) -> None:
    """Compares the graph's inputs and outputs with the spec and with what it is said to remember.

    Raises:
        ValueError: if names, shapes or types differ.
    """
    number = "tensor(int64)" if spec.discrete else "tensor(float)"
    memory = {name: list(shape) for name, shape in graph.shapes.items()}
    expected = {
        "input": [(INPUT, [1, spec.observation_size], "tensor(float)")]
        + [(name, shape, "tensor(float)") for name, shape in memory.items()],
        "output": [(OUTPUT, [1, spec.action_size], number)]
        + [(NEXT + name, shape, "tensor(float)") for name, shape in memory.items()],
    }
    for side, nodes in (("input", graph.session.get_inputs()), ("output", graph.session.get_outputs())):
        found = [(node.name, list(node.shape), node.type) for node in nodes]
        if found != expected[side]:
            raise ValueError(f"the {side} of {MODEL} is {found} and the policy declares {expected[side]}")
