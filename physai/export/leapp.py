"""Writes a bundle as NVIDIA's LEAPP describes policies (config 1.3), for those who run that: Isaac Lab, Isaac ROS.

It is a view: the same graph, bit by bit, and a YAML file that says what goes in and out. LEAPP has no limits, ages,
golden episodes or signature, so nothing of those is there; the bundle stays what is approved, and the YAML names its
digest.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from physai.deploy.bundle import Bundle, load_bundle
from physai.deploy.graph import INPUT, MODEL, NEXT, OUTPUT, Array
from physai.errors import BundleError

CONFIG_VERSION = "1.3"
DESCRIPTION, INITIAL = "policy.leapp.yaml", "policy_initial_values.safetensors"
NODE = "policy"


def export_leapp(source: Path, out: Path) -> Path:
    """Writes the graph, the description and what is remembered at first into a new folder; returns the description.

    Raises:
        BundleError: if the bundle is refused, or the folder is there or cannot be written.
    """
    bundle = load_bundle(source)
    model = (source / MODEL).read_bytes()
    try:
        out.mkdir(parents=True)
        (out / MODEL).write_bytes(model)
        if bundle.graph.initial:
            (out / INITIAL).write_bytes(safetensors({f"{NODE}/{n}": v for n, v in bundle.graph.initial.items()}))
        (out / DESCRIPTION).write_text(yaml.safe_dump(description(bundle, model), sort_keys=False), encoding="utf-8")
    except OSError as problem:
        raise BundleError(f"{out} cannot be written ({problem.strerror}); name a folder that is not there") from problem
    return out / DESCRIPTION


def description(bundle: Bundle, model: bytes) -> dict[str, Any]:
    """Returns what LEAPP says of a policy."""
    spec, memory = bundle.spec, bundle.graph.initial
    interface = bundle.manifest["interface"]
    seen = [f"{t.name}/{e}" for t in spec.observations for e in interface["observations"][t.name]["elements"]]
    done = [f"{term.name}/{element}" for term in spec.actions for element in term.elements]
    number = "int64" if spec.discrete else "float32"
    inputs = [tensor(INPUT, (1, spec.observation_size), "float32", seen)]
    outputs = [tensor(OUTPUT, (1, spec.action_size), number, done if len(done) == spec.action_size else None)]
    for name, first in memory.items():
        inputs.append(tensor(name, first.shape, "float32"))
        outputs.append(tensor(NEXT + name, first.shape, "float32"))
    pipeline: dict[str, Any] = {
        "data_flow": {},
        "feedback_flow": {f"{NODE}/{NEXT}{name}": [f"{NODE}/{name}"] for name in memory},
        "inputs": {NODE: [INPUT]},
        "outputs": {NODE: [OUTPUT]},
        "configs": {"frequency": spec.control_hz},
    }
    if memory:
        pipeline["initial_values"] = INITIAL
    digests = {
        "md5sum": hashlib.md5(model, usedforsecurity=False).hexdigest(), "sha256sum": hashlib.sha256(model).hexdigest(),
    }  # fmt: skip
    return {
        "models": {
            NODE: {
                "inputs": inputs,
                "outputs": outputs,
                "parameters": {"model_path": MODEL, **digests, "backend": "onnx"},
            }
        },
        "pipeline": pipeline,
        "system information": {
            "leapp config version": CONFIG_VERSION, "python version": platform.python_version(),
            "physai bundle": bundle.digest, "physai task": bundle.manifest["task"],
        },
    }  # fmt: skip


def tensor(name: str, shape: tuple[int, ...], dtype: str, elements: list[str] | None = None) -> dict[str, Any]:
    """Returns what LEAPP says of an input or output. It has no kind: ours are several quantities in one tensor."""
    said: dict[str, Any] = {"name": name, "shape": list(shape), "dtype": dtype}
    return said if elements is None else {**said, "element_names": [elements]}


def safetensors(arrays: Mapping[str, Array]) -> bytes:
    """Packs float32 arrays in the format safetensors: a length, JSON that says where each is, and the numbers."""
    head, body = {}, b""
    for name, array in arrays.items():
        data = array.astype("<f4").tobytes()
        head[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    said = json.dumps(head).encode()
    said += b" " * (-len(said) % 8)  # the numbers begin at a multiple of eight
    return len(said).to_bytes(8, "little") + said + body
