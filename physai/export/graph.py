"""From torch to ONNX: the same model gives the same bytes, wherever it is exported."""

from __future__ import annotations

import io
import logging
import warnings

import numpy as np
import onnx
import torch

from physai.deploy.graph import INPUT, NEXT, OUTPUT
from physai.errors import ExportError
from physai.export.network import CommandNetwork
from physai.policy import SB3Policy

OPSET = 18  # the lowest that torch writes without converting, so the one that most runtimes read


def export_graph(policy: SB3Policy) -> bytes:
    """Returns ``policy.onnx``: raw observation (1, m) to command (1, k), normaliser and limits inside.

    What a recurrent policy remembers goes in after the observation and comes out after the command.

    Raises:
        ExportError: if torch cannot export the network.
    """
    network = CommandNetwork(policy.head, policy.normalizer, policy.spec).eval()
    example = torch.zeros(1, policy.spec.observation_size), *map(torch.zeros, network.memory.values())
    stream = io.BytesIO()
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes to the exporter's developers, of no use to the caller
            program = torch.onnx.export(
                network, example, dynamo=True, external_data=False, opset_version=OPSET, verbose=False,
                input_names=[INPUT, *network.memory],
                output_names=[OUTPUT, *(NEXT + name for name in network.memory)],
            )  # fmt: skip
        if program is None:
            raise ExportError("torch returned no ONNX program; report it with the policy's configuration")
        program.save(stream)
    except (RuntimeError, torch.onnx.OnnxExporterError) as problem:
        first_line = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise ExportError(f"torch cannot export the network of {policy.source} ({first_line})") from problem
    finally:
        exporter_log.setLevel(level)
    return _stripped(stream.getvalue())


def _stripped(model: bytes) -> bytes:
    """Takes out what torch notes about source files: it differs from machine to machine, and says where they are."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.checker.check_model(proto)
    return proto.SerializeToString(deterministic=True)


def parameters(model: bytes) -> int:
    """Number of constants in a graph: weights, statistics and limits."""
    proto = onnx.load_model_from_string(model)
    return sum(int(np.prod(tensor.dims, dtype=np.int64)) for tensor in proto.graph.initializer)
