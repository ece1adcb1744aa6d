"""Writes a bundle: everything is computed and compared first, then appears in one step or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from physai.deploy.bundle import (
    EVIDENCE,
    GOLDEN,
    GOLDEN_EPISODES,
    INITIAL_STATE,
    SCHEMA,
    load_bundle,
    spec_from_json,
    spec_to_json,
)
from physai.deploy.files import MANIFEST, canonical_json, describe, sha256, write_arrays
from physai.deploy.graph import INPUT, MODEL, NEXT, OUTPUT, Graph, memory_from_json
from physai.deploy.safety import SAFETY
from physai.deploy.signature import SIGNATURE
from physai.errors import ExportError, StorageError
from physai.evaluate.progress import Meter
from physai.evaluate.provenance import versions
from physai.export import evidence, limits
from physai.export.graph import OPSET, export_graph, parameters
from physai.export.parity import EPISODES, REFERENCE, TOLERANCE, Episode, Parity, compare
from physai.export.reference import measure
from physai.policy import CHECKPOINTS, SB3Policy, is_bundle, load_policy
from physai_envs import registry

VERSION = "1.0.0"  # of a policy that has no other


def write_bundle(source: str | Path, out: Path, task: str | None = None, version: str = VERSION) -> Path:
    """Exports a policy to `out`; see `physai.export.export`."""
    check_target(out)
    with Meter("compare episodes", EPISODES) as meter:
        meter.advance(0, "loading the policy")
        policy = load_policy(source, task)
        if not isinstance(policy, SB3Policy):
            raise ExportError(f"{source} is a bundle already; copy it, or name the run that it came from")
        meter.advance(0, "exporting the network")
        model = export_graph(policy)
        meter.advance(0, "playing")
        parity = compare(model, policy, meter)
        files = {MODEL: model, GOLDEN: golden(parity.episodes[:GOLDEN_EPISODES])}
        records = evidence.from_folder(_run_of(policy), (policy.digest,))
        core = {"version": version, "parent": None, **describe_policy(policy, model, parity)}
        place(complete(core, files, records, meter), out)
    return out


def complete(
    core: dict[str, Any], files: dict[str, bytes], records: dict[str, bytes], meter: Meter
) -> dict[str, bytes]:
    """Returns all files of a bundle, measured in the training environment.

    Args:
        core: what the manifest says about the policy itself and where it comes from.
        files: graph and golden episodes.
        records: evidence that is there already.
        meter: shows how far it is.
    """
    spec = spec_from_json(core["policy"])
    memory = memory_from_json(core["model"].get("memory", []))
    reference = measure(Graph(files[MODEL], memory), spec, core["task"], meter)
    files = {
        **files, **records, **evidence.from_task(spec),
        **evidence.parts_list(core["name"], files[MODEL], core["model"]["algorithm"], core["producer"]),
        SAFETY: canonical_json(limits.safety(spec, reference)),
    }  # fmt: skip
    if memory:
        files[INITIAL_STATE] = write_arrays({name: np.zeros(shape, np.float32) for name, shape in memory.items()})
    manifest = {
        **core, "schema": SCHEMA, "intended_use": limits.intended_use(spec), "safety_rated": False,
        "interface": limits.interface(spec, reference), "control": limits.control(spec), "files": describe(files),
    }  # fmt: skip
    return {**files, MANIFEST: canonical_json(manifest)}


def check_target(out: Path) -> None:
    """Makes sure that nothing but a bundle would be replaced.

    Raises:
        ExportError: if something else is there.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ExportError(f"{out} is a file; name a folder for the bundle")
    names = {path.name for path in out.iterdir()}
    foreign = sorted(names - {MODEL, GOLDEN, MANIFEST, SAFETY, SIGNATURE, INITIAL_STATE, EVIDENCE})
    if names and (foreign or not is_bundle(out)):
        what = f"holds {foreign[0]}, which is no part of a bundle" if foreign else "is no bundle"
        raise ExportError(f"{out} {what}, and would be replaced; name another folder, or remove it first")


def describe_policy(policy: SB3Policy, model: bytes, parity: Parity) -> dict[str, Any]:
    """Returns what a manifest says about the policy itself, without a time or a path: equal exports are equal."""
    spec = policy.spec
    number = "int64" if spec.discrete else "float32"
    recorded = parity.episodes[:GOLDEN_EPISODES]
    kept = [{"name": name, "shape": list(shape), "dtype": "float32"} for name, shape in policy.memory.items()]
    return {
        "name": registry.slug(spec.task),
        "task": policy.task,
        "policy": spec_to_json(spec),
        "model": {
            "file": MODEL,
            "algorithm": policy.algorithm,
            "deterministic": True,
            "opset": OPSET,
            "n_params": parameters(model),
            "inputs": [{"name": INPUT, "shape": [1, spec.observation_size], "dtype": "float32"}, *kept],
            "outputs": [
                {"name": OUTPUT, "shape": [1, spec.action_size], "dtype": number},
                *({**part, "name": NEXT + part["name"]} for part in kept),
            ],
            **({"memory": kept} if kept else {}),
        },
        "parity": {
            "episodes": len(parity.episodes),
            "steps": parity.steps,
            "max_abs_error": parity.max_abs_error,
            "tolerance": TOLERANCE,
            "reference": REFERENCE,
        },
        "golden": {
            "file": GOLDEN,
            "seeds": [episode.seed for episode in recorded],
            "steps": sum(len(episode.commands) for episode in recorded),
            "tolerance": TOLERANCE,
        },
        "lineage": lineage(policy),
        "producer": versions(),
    }


def lineage(policy: SB3Policy) -> dict[str, str | None]:
    """Returns where the policy came from: names and digests."""
    facts: dict[str, str | None] = {"run": None, "checkpoint": Path(policy.source).name, "config_sha256": None}
    facts["checkpoint_sha256"] = policy.digest
    if (run := _run_of(policy)) is not None:
        facts["run"] = f"{run.parent.name}/{run.name}"
        if (run / "config.yaml").is_file():
            facts["config_sha256"] = sha256((run / "config.yaml").read_bytes())
    return facts


def _run_of(policy: SB3Policy) -> Path | None:
    """The run folder of a policy that comes out of one on this machine."""
    source = Path(policy.source)
    return source.resolve().parent.parent if source.parent.name == CHECKPOINTS else None


def golden(episodes: tuple[Episode, ...]) -> bytes:
    """Returns ``golden.npz``: what the policy saw and commanded in whole episodes."""
    arrays: dict[str, Any] = {}
    for index, episode in enumerate(episodes):
        arrays[f"observations_{index}"] = episode.observations
        arrays[f"commands_{index}"] = episode.commands
    return write_arrays(arrays)


def place(files: dict[str, bytes], out: Path) -> None:
    """Writes a bundle that loads, in one step; what was there before is replaced.

    Raises:
        BundleError: if it would not load; nothing has changed then.
        StorageError: if it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the rename stays within one file system; the dot hides it from every search.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            fresh, old = Path(scratch) / out.name, Path(scratch) / "old"
            fresh.mkdir()
            for name, data in files.items():
                (fresh / name).parent.mkdir(exist_ok=True)
                (fresh / name).write_bytes(data)
            load_bundle(fresh)
            if out.exists():
                out.rename(old)
            try:
                fresh.rename(out)
            except OSError:
                if old.exists():
                    old.rename(out)
                raise
            if old.exists():
                shutil.rmtree(old)
    except OSError as problem:
        raise StorageError(f"{out} cannot be written ({problem.strerror}); name another folder") from problem
