"""Writes a bundle: everything is computed and compared first, then appears in one step or not at all."""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from physai.deploy.bundle import GOLDEN, GOLDEN_EPISODES, SCHEMA, load_bundle, spec_to_json
from physai.deploy.files import MANIFEST, canonical_json, describe, sha256
from physai.deploy.graph import INPUT, MODEL, NEXT, OUTPUT
from physai.errors import ExportError, StorageError
from physai.evaluate.progress import Meter
from physai.evaluate.provenance import versions
from physai.export.graph import OPSET, export_graph, parameters
from physai.export.parity import EPISODES, REFERENCE, TOLERANCE, Episode, Parity, compare
from physai.policy import CHECKPOINTS, SB3Policy, is_bundle, load_policy
from physai_envs import registry


def write_bundle(source: str | Path, out: Path, task: str | None = None) -> Path:
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
    manifest = {**describe_policy(policy, model, parity), "files": describe(files)}
    _place({**files, MANIFEST: canonical_json(manifest)}, out)
    return out


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
    foreign = sorted(names - {MODEL, GOLDEN, MANIFEST})
    if names and (foreign or not is_bundle(out)):
        what = f"holds {foreign[0]}, which is no part of a bundle" if foreign else "is no bundle"
        raise ExportError(f"{out} {what}, and would be replaced; name another folder, or remove it first")


def describe_policy(policy: SB3Policy, model: bytes, parity: Parity) -> dict[str, Any]:
    """Returns the manifest without its table of files. It holds no time and no path, so equal exports are equal."""
    spec = policy.spec
    number = "int64" if spec.discrete else "float32"
    recorded = parity.episodes[:GOLDEN_EPISODES]
    kept = [{"name": name, "shape": list(shape), "dtype": "float32"} for name, shape in policy.memory.items()]
    return {
        "schema": SCHEMA,
        "name": registry.slug(spec.task),
        "task": policy.task,
        "policy": spec_to_json(spec),
        "control_hz": spec.control_hz,
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
    source = Path(policy.source)
    facts: dict[str, str | None] = {"run": None, "checkpoint": source.name, "config_sha256": None}
    facts["checkpoint_sha256"] = policy.digest
    if source.parent.name == CHECKPOINTS:
        run = source.resolve().parent.parent
        facts["run"] = f"{run.parent.name}/{run.name}"
        if (run / "config.yaml").is_file():
            facts["config_sha256"] = sha256((run / "config.yaml").read_bytes())
    return facts


def golden(episodes: tuple[Episode, ...]) -> bytes:
    """Returns ``golden.npz``: what the policy saw and commanded in whole episodes."""
    arrays: dict[str, Any] = {}
    for index, episode in enumerate(episodes):
        arrays[f"observations_{index}"] = episode.observations
        arrays[f"commands_{index}"] = episode.commands
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _place(files: dict[str, bytes], out: Path) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the rename stays within one file system; the dot hides it from every search.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            fresh, old = Path(scratch) / out.name, Path(scratch) / "old"
            fresh.mkdir()
            for name, data in files.items():
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
