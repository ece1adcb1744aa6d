"""Reads an exported policy, and refuses one that is damaged or computes something else than it recorded.

A bundle is a folder: ``policy.onnx`` takes raw observations in SI units and returns commands in engineering units,
``golden.npz`` holds closed-loop episodes that are replayed here, ``manifest.json`` says everything else. No pickle.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from physai.deploy.files import MANIFEST, read_described, sha256
from physai.deploy.graph import MODEL, Graph, check_graph, memory_from_json
from physai.errors import BundleError
from physai.spec import PolicySpec

SCHEMA = "physai-bundle/1"
GOLDEN, RUN_RECORD = "golden.npz", "run"
GOLDEN_EPISODES = 2
LIMIT_FIELDS = {"low": -inf, "high": inf, "policy_low": -inf, "policy_high": inf}

Array = NDArray[Any]


@dataclass(frozen=True)
class Bundle:
    """A policy that has passed all checks, ready to be asked.

    Attributes:
        spec: what it sees and does.
        manifest: everything that was recorded about it.
        digest: SHA-256 of the manifest, which covers every file.
    """

    path: Path
    spec: PolicySpec
    manifest: Mapping[str, Any]
    digest: str
    graph: Graph

    def act(self, observation: ArrayLike) -> Array:
        """Returns the command for one observation: the next of an episode, where the policy remembers.

        The rate limits of the spec are not applied, for they depend on the command before; `physai.spec.ActionMap`
        applies them.

        Args:
            observation: (m,), SI units, as `spec.observations` lists them.

        Returns:
            (k,) float32 in the units of `spec.actions`, or (1,) int64: the index of a choice.

        Raises:
            ValueError: if the observation has another shape or is not finite; names the terms.
        """
        values = np.asarray(observation, dtype=np.float32)
        if values.shape != (self.spec.observation_size,):
            size = self.spec.observation_size
            raise ValueError(f"observation has shape {values.shape}; {self.spec.task} takes ({size},)")
        if not np.isfinite(values).all():
            bad = [name for name, part in self.spec.observation_slices.items() if not np.isfinite(values[part]).all()]
            raise ValueError(f"observation {', '.join(bad)} is not finite; no command was computed")
        command: Array = self.graph(values[None])[0]
        return command

    def reset(self) -> None:
        """Begins an episode: a recurrent policy forgets the one before."""
        self.graph.reset()


def load_bundle(path: str | Path) -> Bundle:
    """Loads a bundle after checking schema, digests, the graph against the spec, and the golden episodes.

    Raises:
        BundleError: if any check fails; one sentence that says which.
    """
    folder = Path(path)
    if not folder.exists():
        raise BundleError(f"there is no bundle at {folder}; `physai export` makes one")
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder} is no bundle: there is no {MANIFEST} in it; give a folder made by `physai export`")
    try:
        return _load(folder)
    except (ValueError, OSError) as problem:
        raise BundleError(f"bundle {folder} is refused: {problem}; export it again or copy it anew") from problem


def _load(folder: Path) -> Bundle:
    raw = (folder / MANIFEST).read_bytes()
    manifest = parse_manifest(raw)
    files = read_described(folder, manifest["files"], allowed=(RUN_RECORD,))
    for name in (MODEL, GOLDEN):
        if name not in files:
            raise ValueError(f"{MANIFEST} does not list {name}")
    model = manifest.get("model")
    memory = memory_from_json(model.get("memory", []) if isinstance(model, dict) else [])
    bundle = Bundle(folder, spec_from_json(manifest["policy"]), manifest, sha256(raw), Graph(files[MODEL], memory))
    check_graph(bundle.graph, bundle.spec)
    _replay(bundle, read_golden(files[GOLDEN], bundle.spec))
    return bundle


def parse_manifest(raw: bytes) -> dict[str, Any]:
    """Returns the manifest.

    Raises:
        ValueError: if it is not JSON, of another schema, or lacks a field.
    """
    try:
        manifest = json.loads(raw)
    except ValueError as problem:
        raise ValueError(f"{MANIFEST} is cut off or not JSON") from problem
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        schema = manifest.get("schema") if isinstance(manifest, dict) else None
        raise ValueError(f"{MANIFEST} has the schema {schema!r} and this version reads {SCHEMA!r}")
    for name in ("policy", "files", "golden"):
        if not isinstance(manifest.get(name), dict):
            raise ValueError(f"{MANIFEST} lacks {name!r}")
    return manifest


def spec_to_json(spec: PolicySpec) -> dict[str, Any]:
    """Returns the spec as strict JSON types: a limit that is infinite becomes null."""
    data = spec.to_dict()
    for term in (*data["observations"], *data["actions"]):
        for name in LIMIT_FIELDS.keys() & term.keys():
            term[name] = [value if isfinite(value) else None for value in term[name]]
    return data


def spec_from_json(data: Mapping[str, Any]) -> PolicySpec:
    """Restores what `spec_to_json` returned; infinities written as such are accepted too.

    Raises:
        ValueError: if fields are missing, unknown, or of another type.
    """
    try:
        fields = dict(data)
        for kind in ("observations", "actions"):
            fields[kind] = [_with_infinities(term) for term in data[kind]]
        return PolicySpec.from_dict(fields)
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"the description of the policy is malformed ({problem})") from problem


def _with_infinities(term: Mapping[str, Any]) -> dict[str, Any]:
    def limit(name: str, values: Any) -> Any:
        return tuple(LIMIT_FIELDS[name] if value is None else float(value) for value in values)

    return {name: limit(name, value) if name in LIMIT_FIELDS else value for name, value in term.items()}


def read_golden(data: bytes, spec: PolicySpec) -> list[tuple[Array, Array]]:
    """Returns the recorded episodes as (observations (t, m), commands (t, k)).

    Raises:
        ValueError: if arrays are missing or have other shapes.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            pairs = [(arrays[f"observations_{i}"], arrays[f"commands_{i}"]) for i in range(GOLDEN_EPISODES)]
    except (KeyError, OSError, EOFError) as problem:
        raise ValueError(f"{GOLDEN} cannot be read ({problem})") from problem
    for seen, done in pairs:
        steps = len(seen)
        if not steps or seen.shape != (steps, spec.observation_size) or done.shape != (steps, spec.action_size):
            raise ValueError(f"{GOLDEN} holds arrays of shape {seen.shape} and {done.shape}; the policy has others")
    return pairs


def acts_in_commands(spec: PolicySpec) -> bool:
    """Whether the policy's output is the command already, as in environments that are not ours."""
    same_low = np.array_equal(spec.policy_low, spec.command_low)
    return spec.discrete or (same_low and np.array_equal(spec.policy_high, spec.command_high))


def command_error(spec: PolicySpec, given: ArrayLike, expected: ArrayLike) -> NDArray[np.float64]:
    """Absolute difference of commands where 1 is half of an action's range; in its own unit where that is unbounded."""
    difference = np.abs(np.asarray(given, dtype=np.float64) - np.asarray(expected, dtype=np.float64))
    if spec.discrete:
        return difference
    half = (spec.command_high.astype(np.float64) - spec.command_low) / 2
    return difference / np.where(np.isfinite(half) & (half > 0), half, 1.0)


def _replay(bundle: Bundle, episodes: list[tuple[Array, Array]]) -> None:
    tolerance = bundle.manifest["golden"].get("tolerance")
    if not isinstance(tolerance, float) or not 0.0 < tolerance < 1e-2:
        raise ValueError(f"the tolerance of {GOLDEN} is {tolerance!r}; it must be a small positive number")
    for index, (observations, commands) in enumerate(episodes):
        bundle.reset()
        for step, (observation, command) in enumerate(zip(observations, commands, strict=True)):
            error = command_error(bundle.spec, bundle.act(observation), command)
            if not (error <= tolerance).all():  # written so that NaN fails
                worst = int(np.argmax(error))
                term = next(name for name, part in bundle.spec.action_slices.items() if part.start <= worst < part.stop)
                raise ValueError(
                    f"on this machine it computes another {term!r} than recorded "
                    f"(golden episode {index}, step {step}, difference {error[worst]:.2g} of {tolerance:g} allowed)"
                )
    bundle.reset()
