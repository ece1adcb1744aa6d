"""What a controller accepts: an intact bundle that computes what it recorded, and nothing else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_policies import edit_manifest, flip_a_byte, one_sentence, save_bundle, some_observations
from evaluation_toys import SPEC

from physai.deploy.bundle import load_bundle, spec_from_json, spec_to_json
from physai.deploy.files import MANIFEST, canonical_json, describe, read_folder
from physai.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return save_bundle(tmp_path / "bundle")


def refused(folder: Path, words: str) -> None:
    with pytest.raises(BundleError, match=words) as failure:
        load_bundle(folder)
    assert one_sentence(str(failure.value)), failure.value


def reseal(folder: Path) -> None:
    """Makes the digests right again, as somebody would who changes a bundle on purpose."""
    files = {name: data for name, data in read_folder(folder).items() if name != MANIFEST}
    edit_manifest(folder, lambda manifest: manifest.update(files=describe(files)))


def test_an_intact_bundle_acts_within_its_limits(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.spec == SPEC
    commands = np.array([loaded.act(observation) for observation in some_observations()])
    assert commands.shape == (40, 3)
    assert (commands >= SPEC.command_low).all()
    assert (commands <= SPEC.command_high).all()
    assert commands[:, 1].max() > 2.0, "metres a second, not the policy's range"


@pytest.mark.parametrize("name", ["policy.onnx", "golden.npz", "safety.json", "evidence/sbom.cdx.json"])
@pytest.mark.parametrize("where", [0, 100, -1])
def test_a_flipped_byte_is_found(bundle: Path, name: str, where: int) -> None:
    flip_a_byte(bundle / name, where)
    refused(bundle, f"{name} differs from its digest")


@pytest.mark.parametrize("name", ["policy.onnx", "golden.npz", "safety.json"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    refused(bundle, f"{name} is missing")
    reseal(bundle)
    refused(bundle, f"does not list {name}")


def test_a_file_too_many_is_named(bundle: Path) -> None:
    (bundle / "notes.txt").write_text("hello")
    refused(bundle, r"notes\.txt is not listed")
    (bundle / "notes.txt").rename(bundle / "evidence" / "more.txt")
    refused(bundle, r"evidence/more\.txt is not listed")
    (bundle / "evidence" / "more.txt").unlink()
    (bundle / "evidence" / "link").symlink_to(bundle / "policy.onnx")
    refused(bundle, r"evidence/link is neither a file nor a folder")


def test_a_listed_name_outside_the_folder_is_refused(bundle: Path) -> None:
    (bundle.parent / "outside").write_bytes(b"x")
    edit_manifest(bundle, lambda manifest: manifest["files"].update(describe({"../outside": b"x"})))
    refused(bundle, r"'\.\./outside'; it must be of the form")


def test_a_cut_off_manifest(bundle: Path) -> None:
    (bundle / MANIFEST).write_bytes((bundle / MANIFEST).read_bytes()[:-100])
    refused(bundle, "cut off")


def test_another_schema(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest.update(schema="physai-bundle/9"))
    refused(bundle, "'physai-bundle/9' and this version reads 'physai-bundle/2'")
    edit_manifest(bundle, lambda manifest: manifest.update(schema="physai-bundle/1"))
    refused(bundle, "has no limits; `physai bundle migrate`")


@pytest.mark.parametrize("field", ["policy", "files", "golden", "interface", "control", "intended_use"])
def test_a_manifest_that_lacks_a_field(bundle: Path, field: str) -> None:
    edit_manifest(bundle, lambda manifest: manifest.pop(field))
    refused(bundle, f"lacks '{field}'")


def test_a_malformed_description(bundle: Path) -> None:
    edit_manifest(bundle, lambda manifest: manifest["policy"].update(colour="red"))
    refused(bundle, r"manifest\.json: policy has 'colour', which is not known there")
    edit_manifest(bundle, lambda manifest: manifest.update(policy={}))
    refused(bundle, "policy lacks 'action_delay_s'")


def test_a_graph_for_another_robot(bundle: Path) -> None:
    def without_speed(manifest: dict[str, Any]) -> None:
        manifest["policy"]["observations"].pop()
        manifest["interface"]["observations"].pop("speed")

    edit_manifest(bundle, without_speed)
    refused(bundle, r"the input of policy\.onnx is .*3.* and the policy declares .*2")


def test_a_graph_that_is_none(bundle: Path) -> None:
    (bundle / "policy.onnx").write_bytes(b"nonsense")
    reseal(bundle)
    refused(bundle, "onnxruntime cannot read")


@pytest.mark.parametrize("element", [0, 1, 2])
def test_a_bundle_that_computes_something_else_is_refused(bundle: Path, element: int) -> None:
    with np.load(bundle / "golden.npz") as stored:
        arrays = {name: stored[name].copy() for name in stored}
    half = (SPEC.command_high - SPEC.command_low)[element] / 2
    arrays["commands_1"][-1, element] += 3e-5 * half  # three times what is allowed, in the last step
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    (bundle / "golden.npz").write_bytes(stream.getvalue())
    reseal(bundle)
    refused(bundle, f"another '{'turn' if element == 2 else 'velocity'}' than recorded .*episode 1, step 11")


def test_golden_episodes_may_not_be_left_out(bundle: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, observations_0=np.zeros((0, 3), np.float32), commands_0=np.zeros((0, 3), np.float32))
    (bundle / "golden.npz").write_bytes(stream.getvalue())
    reseal(bundle)
    refused(bundle, r"golden\.npz cannot be read")
    for tolerance in (0.5, None, float(0)):
        edit_manifest(bundle, lambda manifest, value=tolerance: manifest["golden"].update(tolerance=value))
        refused(bundle, r"golden: tolerance is")


def test_folders_that_are_no_bundle(tmp_path: Path) -> None:
    refused(tmp_path / "missing", "there is no bundle at")
    refused(tmp_path, r"no manifest\.json")


def test_observations_that_cannot_be_used_are_named(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    with pytest.raises(ValueError, match="observation speed is not finite"):
        loaded.act([300.0, 300.0, float("nan")])
    with pytest.raises(ValueError, match=r"shape \(2,\); EvaluationToy-v0 takes \(3,\)"):
        loaded.act([300.0, 300.0])


def test_infinite_limits_survive_strict_json() -> None:
    text = canonical_json(spec_to_json(SPEC))
    assert b"Infinity" not in text
    assert spec_from_json(json.loads(text)) == SPEC
    assert spec_from_json(json.loads(json.dumps(SPEC.to_dict()))) == SPEC, "also as training writes it"
