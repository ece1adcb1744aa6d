"""A bundle as LEAPP describes it, loaded by NVIDIA's own package: the same commands, and memory that is fed back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from leapp import InferenceManager
from onnx import TensorProto, helper
from safetensors.numpy import load

from physai.deploy.bundle import load_bundle
from physai.errors import BundleError
from physai.export import leapp as ours
from physai.export.leapp import DESCRIPTION, export_leapp, safetensors
from physai.policy import shipped_policy


@pytest.mark.parametrize("name", ["reach", "peg_insertion", "amr_navigation", "quadruped_walk"])
def test_leapp_computes_what_the_bundle_computes(name: str, tmp_path: Path) -> None:
    bundle = load_bundle(shipped_policy(name))
    path = export_leapp(bundle.path, tmp_path / "leapp")
    manager = InferenceManager(str(path))
    assert (manager.inputs, manager.outputs) == (["policy/observation"], ["policy/command"])
    for seen in bundle.golden[0][0]:
        given = manager({"policy/observation": torch.tensor(seen[None])})["policy/command"]
        np.testing.assert_array_equal(given.numpy()[0], bundle.act(seen))


def test_it_says_what_each_element_is(tmp_path: Path) -> None:
    bundle = load_bundle(shipped_policy("reach"))
    said = yaml.safe_load(export_leapp(bundle.path, tmp_path / "leapp").read_text())
    names = said["models"]["policy"]["inputs"][0]["element_names"][0]
    assert len(names) == len(set(names)) == bundle.spec.observation_size
    assert said["models"]["policy"]["outputs"][0]["element_names"] == [
        ["tip_velocity/x", "tip_velocity/y", "tip_velocity/z"]
    ]
    assert said["pipeline"]["configs"]["frequency"] == bundle.spec.control_hz
    assert said["system information"]["physai bundle"] == bundle.digest


def test_memory_is_fed_back_from_its_first_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that adds up what it sees, beginning at 3, in the place of a policy."""
    shape, size = [1, 2], load_bundle(shipped_policy("reach")).spec.observation_size
    nodes = [
        helper.make_node("Slice", ["observation", "from", "to", "axis"], ["two"]),
        helper.make_node("Add", ["two", "sum"], ["next_sum"]),
        helper.make_node("Slice", ["observation", "from", "three", "axis"], ["start"]),
        helper.make_node("ReduceSum", ["next_sum", "axis"], ["total"], keepdims=1),
        helper.make_node("Add", ["start", "total"], ["command"]),
    ]
    known = {"from": [0], "to": [2], "three": [3], "axis": [1]}
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "sum",
        [info("observation", TensorProto.FLOAT, [1, size]), info("sum", TensorProto.FLOAT, shape)],
        [info("command", TensorProto.FLOAT, [1, 3]), info("next_sum", TensorProto.FLOAT, shape)],
        [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in known.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    bundle = load_bundle(shipped_policy("reach"))
    bundle.graph.initial["sum"] = np.full(shape, 3.0, np.float32)
    monkeypatch.setattr(ours, "load_bundle", lambda source: bundle)
    (tmp_path / "bundle").mkdir()
    onnx.save(model, tmp_path / "bundle" / "policy.onnx")
    manager = InferenceManager(str(export_leapp(tmp_path / "bundle", tmp_path / "leapp")))
    assert manager.feedback_inputs == ["policy/sum"]
    totals = [float(manager({"policy/observation": torch.ones(1, size)})["policy/command"][0, 0]) for _ in range(3)]
    assert totals == [1 + 2 * (3 + k) for k in (1, 2, 3)]
    manager.reset()
    assert float(manager({"policy/observation": torch.ones(1, size)})["policy/command"][0, 0]) == totals[0]


def test_arrays_are_packed_as_safetensors_reads_them() -> None:
    arrays = {"a/b": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "c": np.zeros((0,), np.float32)}
    read = load(safetensors(arrays))
    assert {name: array.tolist() for name, array in read.items()} == {n: a.tolist() for n, a in arrays.items()}


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    export_leapp(shipped_policy("reach"), tmp_path / "leapp")
    before = (tmp_path / "leapp" / DESCRIPTION).read_bytes()
    with pytest.raises(BundleError, match="not there"):
        export_leapp(shipped_policy("reach"), tmp_path / "leapp")
    assert (tmp_path / "leapp" / DESCRIPTION).read_bytes() == before
