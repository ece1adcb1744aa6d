"""Loads a trained policy from wherever it lies, as one object that evaluation, viewing and export ask for actions.

Runs, checkpoints and zips hold pickled Python objects, which can run code when they are loaded: load your own alone.
Bundles hold none, and need neither torch nor stable-baselines3.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import yaml
from gymnasium import spaces
from numpy.typing import NDArray

from physai.deploy.bundle import SCHEMA, Bundle, acts_in_commands, load_bundle, spec_from_json
from physai.deploy.files import MANIFEST, read_described, sha256
from physai.deploy.graph import MODEL as BUNDLE_MODEL
from physai.errors import AssetError, CheckpointError, TaskError, nearest
from physai.spec import GOAL_TERMS, PolicySpec
from physai.storage import place
from physai_envs import registry

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecNormalize

Float32 = NDArray[np.float32]
CHECKPOINTS, BEST = "checkpoints", "best.json"
MODEL_ZIP, NORMALIZE_PICKLE, POLICY_JSON = "model.zip", "vecnormalize.pkl", "policy.json"
KINDS = "give a run, a checkpoint, a bundle, an SB3 zip, or a task whose policy ships"
log = logging.getLogger("physai")


class Policy(ABC):
    """Observations in, deterministic actions out. Each row is computed alone, so batching changes no bit.

    To a policy with a memory, rows are the next steps of one episode.

    Attributes:
        spec: what it sees and does.
        task: name that `registry.make` takes; it differs from `spec.task` where a module must be imported.
        source: path from which exactly this policy can be loaded again.
        digest: SHA-256 of what was loaded.
        algorithm: lower-case name of the algorithm that trained it.
    """

    def __init__(self, spec: PolicySpec, task: str, source: str, digest: str, algorithm: str) -> None:
        self.spec, self.task, self.source, self.digest, self.algorithm = spec, task, source, digest, algorithm
        self._size = spec.observation_size

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Returns actions for raw observations.

        Args:
            observations: (n, m), SI units.

        Returns:
            (n, k) float32 in the policy's range, or (n, 1) int64 indices of choices.

        Raises:
            ValueError: if the observations have another shape.
        """
        rows = np.asarray(observations, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != self._size:
            raise ValueError(f"observations have shape {rows.shape}; {self.spec.task} takes (n, {self._size})")
        return self._act(rows) if len(rows) == 1 else np.concatenate([self._act(row[None]) for row in rows])

    @abstractmethod
    def _act(self, observation: Float32) -> NDArray[Any]:
        """Maps one observation (1, m) to one action (1, k)."""

    def reset(self) -> None:  # noqa: B027 - a policy that remembers nothing has nothing to forget
        """Forgets the episode so far."""


class BundlePolicy(Policy):
    """An exported policy, computed by onnxruntime exactly as a robot's controller does."""

    def __init__(self, bundle: Bundle, source: str, task: str | None = None) -> None:
        algorithm = str(bundle.manifest.get("model", {}).get("algorithm", "unknown"))
        named = str(bundle.manifest.get("task", bundle.spec.task))
        super().__init__(bundle.spec, task or named, source, bundle.digest, algorithm)
        self.bundle = bundle
        self._direct = acts_in_commands(bundle.spec)

    def _act(self, observation: Float32) -> NDArray[Any]:
        command = self.bundle.graph(observation)  # not `bundle.act`, which checks anew what `act` has checked
        return command if self._direct else self.spec.to_action(command)

    def reset(self) -> None:
        """Forgets the episode so far."""
        self.bundle.reset()


class SB3Policy(Policy):
    """An SB3 model with its normaliser: ``model.predict(normalize_obs(o), deterministic=True)``, but fast.

    Attributes:
        memory: shapes of what the policy remembers, by name; none if it remembers nothing.
    """

    def __init__(self, model: BaseAlgorithm, normalize: VecNormalize | None, **identity: Any) -> None:
        import torch

        from physai.export.network import Normalizer, deterministic_head

        super().__init__(**identity)
        _check_spaces(model, self.spec, self.source)
        self.model, self.normalize = model, normalize
        self.normalizer = Normalizer.of(normalize)
        self.head = deterministic_head(model, self.spec.discrete)
        self.memory: dict[str, tuple[int, ...]] = getattr(self.head, "memory", {})
        self._from_numpy, self._inference, self._zeros = torch.from_numpy, torch.inference_mode, torch.zeros
        self.reset()
        self._low, self._high = self.spec.policy_low, self.spec.policy_high

    def reset(self) -> None:
        """Forgets the episode so far."""
        self._kept = [self._zeros(shape) for shape in self.memory.values()]
        self._state: Any = None  # of `predict`

    def predict(self, observation: Float32) -> NDArray[Any]:
        """Returns what stable-baselines3 itself does for one observation (1, m): the same (1, k), but slowly."""
        space: Any = self.model.observation_space
        seen: Any = observation
        if isinstance(space, spaces.Dict):
            seen = {name: observation[:, where] for name, where in registry.slices(space).items()}
        elif len(space.shape) > 1:
            seen = observation.reshape(1, *space.shape).astype(space.dtype)
        if self.normalize is not None:
            seen = self.normalize.normalize_obs(seen)
        action, self._state = self.model.predict(seen, self._state, deterministic=True)
        return np.asarray(action).reshape(1, self.spec.action_size)

    def _act(self, observation: Float32) -> NDArray[Any]:
        seen = observation if self.normalizer is None else self.normalizer(observation)
        with self._inference():
            found = self.head(self._from_numpy(seen), *self._kept)
            if self.memory:
                found, *self._kept = found
            action: NDArray[Any] = found.numpy()
        if self.spec.discrete:
            return action
        if self.head.squashed:
            return self._low + (0.5 * (action + 1.0) * (self._high - self._low))
        return np.clip(action, self._low, self._high)


def load_policy(source: str | Path, task: str | None = None) -> Policy:
    """Loads a policy.

    Args:
        source: a run (its best checkpoint, else the newest that is intact) or a checkpoint, in a folder or an object
            store, a bundle folder, a stable-baselines3 zip (with ``vecnormalize.pkl`` beside it, if there is one), or
            the name of a task whose policy ships.
        task: needed for zips, which do not name theirs; elsewhere it must be the task that the policy was trained for.

    Raises:
        CheckpointError: if there is nothing of the kind, or it is damaged.
        BundleError: if a bundle is damaged.
        TaskError: if the task is unknown or another one.
        AssetError: if no policy ships for the task.
    """
    path = cast(Path, place(source))  # or what reads like one
    if path.is_dir():
        policy = _load_folder(path, task)
    elif path.is_file():
        policy = _load_zip(path, task)
    else:
        shipped = shipped_policy(str(source))
        policy = BundlePolicy(load_bundle(shipped), str(shipped), task)
    if task is not None and (wanted := registry.resolve(task)) != policy.spec.task:
        raise TaskError(f"{source} was trained for {policy.spec.task} and not for {wanted}; leave out the task")
    return policy


def shipped_policy(name: str) -> Path:
    """Returns the folder of the bundle that ships for a task.

    Raises:
        CheckpointError: if `name` is no task either.
        AssetError: if none ships for it.
    """
    import physai_assets

    try:
        full_id = registry.resolve(name)
    except TaskError as unknown:
        hint = nearest(name.rpartition("/")[2], [registry.slug(task.full_id) for task in registry.tasks()])
        raise CheckpointError(f"{name!r} is neither a path nor a task ({hint}); {KINDS}") from unknown
    slug = registry.slug(full_id)
    folder = Path(physai_assets.__path__[0]) / "policies" / slug
    if not folder.is_dir():
        raise AssetError(f"no policy ships for {full_id}; train one (`physai train task={full_id}`) and name its run")
    return folder


def _load_folder(path: Path, task: str | None) -> Policy:
    if (path / MODEL_ZIP).exists() or (path / POLICY_JSON).exists():
        return load_checkpoint(path, task)
    if (path / CHECKPOINTS).is_dir():
        return _load_run(path, task)
    if (path / BUNDLE_MODEL).exists() or is_bundle(path):
        return BundlePolicy(load_bundle(path), str(path), task)
    if (path / "config.yaml").exists():
        raise CheckpointError(f"run {path} has no checkpoint yet; wait for the first one")
    raise CheckpointError(f"folder {path} holds no policy; {KINDS}")


def is_bundle(path: Path) -> bool:
    """Whether a folder claims to be an exported bundle, of any version."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and str(manifest.get("schema", "")).startswith(SCHEMA.partition("/")[0])


def _load_run(run: Path, task: str | None) -> Policy:
    skipped: list[str] = []
    for checkpoint in _candidates(run):
        try:
            policy = load_checkpoint(checkpoint, task)
        except CheckpointError as damage:
            log.warning("%s; trying the one before", damage)
            skipped.append(checkpoint.name)
            continue
        return policy
    what = f"all of its checkpoints are damaged ({', '.join(skipped)})" if skipped else "it has no checkpoint yet"
    raise CheckpointError(f"run {run} has no policy to load: {what}")


def _candidates(run: Path) -> Iterator[Path]:
    """The checkpoint that the run hands on, then all others, the newest first."""
    folder = run / CHECKPOINTS
    names = sorted((path.name for path in folder.iterdir() if path.is_dir() and path.name.isdigit()), reverse=True)
    if (folder / BEST).is_file():
        try:
            best = str(json.loads((folder / BEST).read_text(encoding="utf-8"))["checkpoint"])
        except (ValueError, KeyError, TypeError) as problem:
            log.warning("%s cannot be read (%r); taking the newest checkpoint", folder / BEST, problem)
        else:
            names.sort(key=lambda name: name != best)
    return (folder / name for name in names)


def load_checkpoint(folder: Path, task: str | None = None) -> SB3Policy:
    """Loads a checkpoint after its digests have been checked; only then is anything unpickled.

    Raises:
        CheckpointError: if it is incomplete or damaged.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
        files = read_described(folder, json.loads(raw)["files"])
        described = json.loads(files[POLICY_JSON])
        algorithm = str(described.pop("algorithm", "ppo"))
        spec = spec_from_json(described)
        model_zip = files[MODEL_ZIP]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        what = f"{problem} is missing" if isinstance(problem, KeyError) else problem
        raise CheckpointError(f"checkpoint {folder} is damaged: {what}") from problem
    return SB3Policy(
        _load_model(model_zip, folder / MODEL_ZIP),
        _load_normalize(files.get(NORMALIZE_PICKLE), folder / NORMALIZE_PICKLE),
        spec=spec, task=task or _trained_task(folder) or spec.task, source=str(folder), digest=sha256(raw),
        algorithm=algorithm,
    )  # fmt: skip


def _trained_task(checkpoint: Path) -> str | None:
    """Task as the run's configuration writes it: with the module to import, which an id alone does not tell."""
    config = checkpoint.parent.parent / "config.yaml"
    if checkpoint.parent.name != CHECKPOINTS or not config.is_file():
        return None
    try:
        return str(yaml.safe_load(config.read_text(encoding="utf-8"))["task"])
    except (yaml.YAMLError, KeyError, TypeError) as problem:
        raise CheckpointError(f"{config} names no task ({type(problem).__name__}); restore it") from problem


def _load_zip(path: Path, task: str | None) -> SB3Policy:
    if path.suffix != ".zip":
        raise CheckpointError(f"file {path} holds no policy; {KINDS}")
    if task is None:
        raise CheckpointError(f"{path} does not say which task it was trained for; name it with --task")
    model_zip = path.read_bytes()
    beside = path.parent / NORMALIZE_PICKLE
    normalize = beside.read_bytes() if beside.exists() else None
    model = _load_model(model_zip, path)
    env = registry.make(task, goal_env=isinstance(model.observation_space, spaces.Dict))
    try:
        spec = registry.policy_spec(env)
    finally:
        env.close()
    return SB3Policy(
        model, _load_normalize(normalize, beside),
        spec=spec, task=task, source=str(path), digest=sha256(model_zip + (normalize or b"")),
        algorithm=type(model).__name__.lower(),
    )  # fmt: skip


@dataclass(frozen=True)
class _Family:
    """Where a policy class lives, and how a model with it is loaded."""

    module: str
    loader: Callable[[dict[str, Any]], Any]
    options: dict[str, Any]


def _families() -> tuple[_Family, ...]:
    from sb3_contrib import TQC, RecurrentPPO
    from stable_baselines3 import A2C, PPO, SAC, TD3

    # A replay buffer is of no use here, and that of hindsight wants an environment.
    small: dict[str, Any] = {"buffer_size": 1, "replay_buffer_class": None, "replay_buffer_kwargs": {}}
    return (
        _Family("stable_baselines3.common.policies", lambda data: PPO if "n_epochs" in data else A2C, {}),
        _Family("sb3_contrib.common.recurrent.policies", lambda data: RecurrentPPO, {}),
        _Family("stable_baselines3.sac.policies", lambda data: SAC, small),
        _Family("stable_baselines3.td3.policies", lambda data: TD3, small),
        _Family("sb3_contrib.tqc.policies", lambda data: TQC, small),
    )


def _load_model(model_zip: bytes, path: Path) -> BaseAlgorithm:
    """Loads a model of any algorithm that is known; the zip itself tells which, without unpickling.

    Raises:
        CheckpointError: if the zip is damaged or of an algorithm that is not supported.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(model_zip)) as archive:
            data = json.loads(archive.read("data"))
        module = str(data["policy_class"].get("__module__", ""))
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError, EOFError, NotImplementedError) as problem:
        raise CheckpointError(f"{path} is no intact stable-baselines3 model ({problem})") from problem
    families = {family.module: family for family in _families()}
    if module not in families:
        kind = module or "unknown origin"
        raise CheckpointError(
            f"{path} holds a policy of {kind}; PPO, RecurrentPPO, A2C, SAC, TD3 and TQC can be loaded"
        )
    family = families[module]
    try:
        return family.loader(data).load(io.BytesIO(model_zip), device="cpu", seed=None, **family.options)
    except Exception as problem:  # unpickling foreign data can raise anything
        raise CheckpointError(f"{path} cannot be loaded by stable-baselines3 ({problem!r})") from problem


def _load_normalize(pickled: bytes | None, path: Path) -> VecNormalize | None:
    if pickled is None:
        return None
    from stable_baselines3.common.save_util import load_from_pkl
    from stable_baselines3.common.vec_env import VecNormalize

    try:
        normalize = load_from_pkl(io.BytesIO(pickled))
    except Exception as problem:  # unpickling foreign data can raise anything
        raise CheckpointError(f"{path} cannot be loaded ({problem!r})") from problem
    if not isinstance(normalize, VecNormalize):
        raise CheckpointError(f"{path} is no VecNormalize; save it with VecNormalize.save")
    return normalize


def _check_spaces(model: BaseAlgorithm, spec: PolicySpec, source: str) -> None:
    seen, act = model.observation_space, model.action_space
    size = int(getattr(act, "n", 0)) if spec.discrete else act.shape
    expected = round(float(spec.command_high[0] - spec.command_low[0])) + 1 if spec.discrete else (spec.action_size,)
    fits = spaces.flatdim(seen) == spec.observation_size and _in_order(seen, spec)
    if not fits or size != expected:
        terms = ", ".join(f"{term.name} {term.size}" for term in (*spec.observations, *spec.actions))
        raise CheckpointError(
            f"{source} maps {seen} to {act}, and {spec.task} has {spec.observation_size} observations "
            f"and {'choices' if spec.discrete else 'actions'} {expected} ({terms}); give the task it was trained for"
        )
    low, high = getattr(act, "low", spec.policy_low), getattr(act, "high", spec.policy_high)
    if not (np.allclose(low, spec.policy_low) and np.allclose(high, spec.policy_high)):
        raise CheckpointError(f"{source} acts in {act}, and {spec.task} in {spec.policy_low} to {spec.policy_high}")


def _in_order(space: Any, spec: PolicySpec) -> bool:
    """Whether the goals of a Dict lie in the flat vector where the spec has them, and the channels of a picture too."""
    if not isinstance(space, spaces.Dict):
        return len(space.shape) == 1 or space.shape == spec.observations[0].shape
    where = registry.slices(space)
    return all(where.get(name) == spec.observation_slices.get(name) for name in GOAL_TERMS)
