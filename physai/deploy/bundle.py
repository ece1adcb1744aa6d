"""Reads an exported policy, and refuses one that is damaged or computes something else than it recorded.

A bundle is a folder: ``policy.onnx`` takes raw observations in SI units and returns commands in engineering units,
``golden.npz`` holds closed-loop episodes that are replayed here, ``safety.json`` what is never commanded,
``manifest.json`` says everything else, ``SIGNATURE.json`` who stands for it. No pickle.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import ArrayLike, NDArray

from physai.deploy.files import MANIFEST, check_described, read_arrays, read_folder, sha256, strict_json
from physai.deploy.graph import MODEL, Graph, check_graph, memory_from_json
from physai.deploy.interface import Interface, read_interface
from physai.deploy.safety import SAFETY, Safety
from physai.deploy.schema import check
from physai.deploy.signature import SIGNATURE, Approval, Trust, check_signature, sign_files
from physai.errors import BundleError
from physai.spec import ActionSpec, ObservationSpec, PolicySpec

SCHEMA, OLDER = "physai-bundle/2", "physai-bundle/1"
GOLDEN, INITIAL_STATE, EVIDENCE = "golden.npz", "initial_state.npz", "evidence"
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
        interface: how old its observations may be, and the times of its loop.
        safety: what is never commanded; `limits` is the same as JSON.
        approval: what was signed, and `signer` the id of the key; None if it is unsigned.
        trusted: whether the signature was checked against keys that the caller believes.
        golden: recorded episodes, as observations (t, m) and commands (t, k).
        seconds: how long each of their commands took on this machine (n,).
    """

    path: Path
    spec: PolicySpec
    manifest: Mapping[str, Any]
    digest: str
    graph: Graph
    interface: Interface
    safety: Safety
    limits: Mapping[str, Any]
    approval: Approval | None
    signer: str | None
    trusted: bool
    golden: list[tuple[Array, Array]]
    seconds: NDArray[np.float64]

    def act(self, observation: ArrayLike) -> Array:
        """Returns the command for one observation: the next of an episode, where the policy remembers.

        The rate limits of the spec are not applied, for they depend on the command before; `physai.spec.ActionMap`
        applies them, and so does the shield of the runtime.

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

    def replay(self) -> None:
        """Plays the golden episodes, and measures each command.

        Raises:
            ValueError: if one comes out another than recorded.
        """
        tolerance, count = self.manifest["golden"]["tolerance"], 0
        for index, (observations, commands) in enumerate(self.golden):
            self.reset()
            for step, (observation, command) in enumerate(zip(observations, commands, strict=True)):
                started = perf_counter()
                given = self.act(observation)
                self.seconds[count] = perf_counter() - started
                count += 1
                error = command_error(self.spec, given, command)
                if not (error <= tolerance).all():  # written so that NaN fails
                    worst = int(np.argmax(error))
                    parts = self.spec.action_slices.items()
                    term = next(name for name, part in parts if part.start <= worst < part.stop)
                    raise ValueError(
                        f"on this machine it computes another {term!r} than recorded "
                        f"(golden episode {index}, step {step}, difference {error[worst]:.2g} of {tolerance:g} allowed)"
                    )
        self.reset()

    @property
    def standing(self) -> str:
        """Who stands for it, in words."""
        if self.approval is None:
            return "unsigned"
        until = "" if self.approval.expires is None else f" until {self.approval.expires}"
        checked = "" if self.trusted else " (not checked: no key was given)"
        return f"signed by {self.approval.by!r} with the key {self.signer}{until}{checked}"


@dataclass(frozen=True)
class Contents:
    """What lies in the folder of a bundle: the manifest, its digest, the files that it lists, and who signed them."""

    manifest: dict[str, Any]
    digest: str
    files: dict[str, bytes]
    approval: Approval | None
    signer: str | None


def load_bundle(path: str | Path, trust: Trust | None = None) -> Bundle:
    """Loads a bundle after checking signature, digests, schema, the graph against the spec, and the golden episodes.

    Args:
        path: the folder.
        trust: keys of which one must have signed it; without, unsigned bundles and unknown keys pass.

    Raises:
        BundleError: if any check fails; one sentence that says which.
    """
    folder = Path(path)
    if not folder.exists():
        raise BundleError(f"there is no bundle at {folder}; `physai export` makes one")
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder} is no bundle: there is no {MANIFEST} in it; give a folder made by `physai export`")
    try:
        return _load(folder, trust)
    except (ValueError, OSError) as problem:
        raise BundleError(f"bundle {folder} is refused: {problem}; export it again or copy it anew") from problem


def read_files(folder: Path, trust: Trust | None = None) -> Contents:
    """Reads a bundle without computing anything: its signature first, then the manifest, then the digest of each file.

    Raises:
        ValueError: if a file is missing, changed or not listed, the signature is refused, or the manifest is malformed.
        OSError: if a file cannot be read.
    """
    files = read_folder(folder)
    signature, approval, signer = files.pop(SIGNATURE, None), None, None
    if signature is not None:
        approval, signer = check_signature(signature, {name: sha256(data) for name, data in files.items()}, trust)
    elif trust is not None:
        raise ValueError(f"it is unsigned: there is no {SIGNATURE}, and a key was asked for")
    raw = files.pop(MANIFEST)
    manifest = parse_manifest(raw)
    check_described(files, manifest["files"])
    for name in (MODEL, GOLDEN, SAFETY):
        if name not in files:
            raise ValueError(f"{MANIFEST} does not list {name}")
    return Contents(manifest, sha256(raw), files, approval, signer)


def _load(folder: Path, trust: Trust | None) -> Bundle:
    contents = read_files(folder, trust)
    manifest, files = contents.manifest, contents.files
    spec = spec_from_json(manifest["policy"])
    memory = memory_from_json(manifest["model"].get("memory", []))
    limits = strict_json(files[SAFETY], SAFETY)
    graph = Graph(files[MODEL], _initial_state(files, memory))
    check_graph(graph, spec)
    golden = read_golden(files[GOLDEN], spec)
    if sum(len(commands) for _, commands in golden) != manifest["golden"]["steps"]:
        raise ValueError(f"{GOLDEN} does not hold the {manifest['golden']['steps']} steps that {MANIFEST} says")
    bundle = Bundle(
        folder, spec, manifest, contents.digest, graph, read_interface(manifest, spec), Safety.of(limits, spec), limits,
        contents.approval, contents.signer, trust is not None, golden, np.zeros(manifest["golden"]["steps"]),
    )  # fmt: skip
    bundle.replay()
    return bundle


def sign_bundle(folder: Path, approval: Approval, key: Ed25519PrivateKey) -> None:
    """Signs a bundle that passes all checks; a signature that is there is replaced.

    Raises:
        BundleError: if it is refused, or the signature cannot be written.
    """
    load_bundle(folder)
    files = {name: data for name, data in read_folder(folder).items() if name != SIGNATURE}
    fresh = folder.parent / f".{folder.name}-{SIGNATURE}"
    try:
        fresh.write_bytes(sign_files(files, approval, key))
        os.replace(fresh, folder / SIGNATURE)
    except OSError as problem:
        raise BundleError(f"{folder / SIGNATURE} cannot be written ({problem.strerror}); check the disk") from problem


def _initial_state(files: Mapping[str, bytes], memory: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    if not memory:
        if INITIAL_STATE in files:
            raise ValueError(f"there is a {INITIAL_STATE}, and the policy remembers nothing")
        return {}
    if INITIAL_STATE not in files:
        raise ValueError(f"{MANIFEST} does not list {INITIAL_STATE}, and the policy remembers something")
    state = read_arrays(files[INITIAL_STATE], INITIAL_STATE)
    found = {name: (array.shape, array.dtype.name) for name, array in state.items()}
    expected = {name: (shape, "float32") for name, shape in memory.items()}
    if found != expected or not all(np.isfinite(array).all() for array in state.values()):
        raise ValueError(f"{INITIAL_STATE} holds {found} and the policy remembers {expected}")
    return {name: state[name] for name in memory}


def parse_manifest(raw: bytes) -> dict[str, Any]:
    """Returns the manifest.

    Raises:
        ValueError: if it is not JSON, of another schema, or does not fit it.
    """
    manifest = strict_json(raw, MANIFEST)
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema == OLDER:
        raise ValueError(
            f"{MANIFEST} has the schema {OLDER!r}, which has no limits; `physai bundle migrate` brings it to {SCHEMA!r}"
        )
    if schema != SCHEMA:
        raise ValueError(f"{MANIFEST} has the schema {str(schema)[:40]!r} and this version reads {SCHEMA!r}")
    check(manifest, "manifest")
    return dict(manifest)


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
        ValueError: if fields are missing, unknown, of another type or length, or contradict each other.
    """
    try:
        fields = dict(data)
        for kind in ("observations", "actions"):
            fields[kind] = [_with_infinities(term) for term in data[kind]]
        spec = PolicySpec.from_dict(fields)
        _check_terms(spec)
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"the description of the policy is malformed ({problem})") from problem
    return spec


def _check_terms(spec: PolicySpec) -> None:
    terms: tuple[ObservationSpec | ActionSpec, ...] = (*spec.observations, *spec.actions)
    if len({*spec.observation_slices}) < len(spec.observations) or len({*spec.action_slices}) < len(spec.actions):
        raise ValueError("two terms of the policy have the same name")
    for term in terms:
        for name in LIMIT_FIELDS.keys() | {"rate_limit"}:
            values = getattr(term, name, None)
            if values is not None and len(values) != term.size:
                raise ValueError(f"{name} of {term.name} has {len(values)} numbers for {term.size} elements")
        if not all(low <= high for low, high in zip(term.low, term.high, strict=True)):
            raise ValueError(f"{term.name} has a lower limit above the upper one")


def _with_infinities(term: Mapping[str, Any]) -> dict[str, Any]:
    def limit(name: str, values: Any) -> Any:
        return tuple(LIMIT_FIELDS[name] if value is None else float(value) for value in values)

    return {name: limit(name, value) if name in LIMIT_FIELDS else value for name, value in term.items()}


def read_golden(data: bytes, spec: PolicySpec) -> list[tuple[Array, Array]]:
    """Returns the recorded episodes as (observations (t, m), commands (t, k)).

    Raises:
        ValueError: if arrays are missing or have other shapes.
    """
    arrays = read_arrays(data, GOLDEN)
    try:
        pairs = [(arrays[f"observations_{i}"], arrays[f"commands_{i}"]) for i in range(GOLDEN_EPISODES)]
    except KeyError as problem:
        raise ValueError(f"{GOLDEN} cannot be read ({problem} is not in it)") from problem
    for seen, done in pairs:
        steps = len(seen) if seen.ndim else 0
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
