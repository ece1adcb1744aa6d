"""Untrained policies for the tests of evaluation, export and viewing, saved in every form that there is."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluation_toys import OFFSET, SPEC, TASK
from numpy.typing import NDArray
from sb3_contrib import TQC
from stable_baselines3 import A2C, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from physai.deploy.files import MANIFEST, canonical_json, describe, read_folder
from physai.evaluate import Report
from physai.evaluate.report import to_text
from physai.export import export
from physai.spec import PolicySpec
from physai_envs import registry

ALGORITHMS: dict[str, tuple[type[BaseAlgorithm], dict[str, Any]]] = {
    "ppo": (PPO, {"n_steps": 16, "batch_size": 16}),
    "ppo_squashed": (
        PPO,
        {"n_steps": 16, "batch_size": 16, "use_sde": True, "policy_kwargs": {"squash_output": True, "full_std": True}},
    ),
    "a2c": (A2C, {}),
    "sac": (SAC, {"buffer_size": 10, "policy_kwargs": {"net_arch": [32, 32]}}),
    "td3": (TD3, {"buffer_size": 10, "policy_kwargs": {"net_arch": [32, 32]}}),
    "tqc": (TQC, {"buffer_size": 10, "policy_kwargs": {"net_arch": [32, 32]}}),
}


@cache
def model_and_normalizer(algorithm: str, task: str = TASK) -> tuple[BaseAlgorithm, VecNormalize]:
    """An untrained model with weights large enough to saturate some actions, and statistics of a short random walk."""
    kind, options = ALGORITHMS[algorithm]
    env = VecNormalize(DummyVecEnv([lambda: registry.make(task)]), clip_obs=5.0)
    env.seed(0)
    env.action_space.seed(0)
    env.reset()
    for _ in range(100):
        env.step([env.action_space.sample()])
    model = kind("MlpPolicy", env, seed=0, device="cpu", **options)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(1.5)
        if isinstance(model, (PPO, A2C)):
            model.policy.action_net.weight.mul_(100.0)  # they start near zero, where errors would not show
    return model, env


def untrained(task: str) -> PPO:
    """A policy that moves, without a normaliser."""
    env = registry.make(task)
    model = PPO("MlpPolicy", env, seed=0, device="cpu", n_steps=8, batch_size=8)
    env.close()
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100.0)  # or it would hardly act, and nothing would be compared
    return model


def save_zip(folder: Path, algorithm: str = "ppo", task: str = TASK) -> Path:
    """Saves a model as a user of stable-baselines3 does."""
    model, env = model_and_normalizer(algorithm, task)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.zip")
    env.save(str(folder / "vecnormalize.pkl"))
    return folder / "model.zip"


def save_checkpoint(folder: Path, algorithm: str = "ppo", spec: PolicySpec = SPEC) -> Path:
    """Saves a model as training does."""
    save_zip(folder, algorithm)
    (folder / "policy.json").write_text(json.dumps({**spec.to_dict(), "algorithm": algorithm}))
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}
    (folder / MANIFEST).write_text(json.dumps({"files": describe(files)}))
    return folder


def save_run(folder: Path, algorithm: str = "ppo") -> Path:
    """Makes a run folder with three checkpoints."""
    for name in ("000010", "000020", "000030"):
        save_checkpoint(folder / "checkpoints" / name, algorithm)
    (folder / "config.yaml").write_text(f"task: {TASK}\n")
    return folder


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes what a manifest says."""
    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)
    (folder / MANIFEST).write_bytes(canonical_json(manifest))


def predict(algorithm: str, observation: NDArray[np.float32], task: str = TASK) -> NDArray[Any]:
    """What stable-baselines3 does for one observation (m,), in the policy's range."""
    model, env = model_and_normalizer(algorithm, task)
    action, _ = model.predict(env.normalize_obs(observation), deterministic=True)
    return np.asarray(action).reshape(-1)


def some_observations(count: int = 40) -> NDArray[np.float32]:
    """Observations like those of the toy, and some far away, where the normaliser clips."""
    rng = np.random.default_rng(1)
    near = OFFSET + 0.02 * rng.standard_normal((count, 3))
    near[::10] += 5.0
    return near.astype(np.float32)


def flip_a_byte(path: Path, where: int | None = None) -> None:
    """Damages a file without changing its size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if where is None else where] ^= 0x01
    path.write_bytes(bytes(data))


def one_sentence(message: str) -> bool:
    """Whether an error is short enough to be read, and on one line."""
    return 20 < len(message) < 500 and "\n" not in message


@cache
def _exported(algorithm: str) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        out = export(save_run(Path(folder) / "run", algorithm=algorithm), Path(folder) / "bundle")
        return read_folder(out)


def save_bundle(folder: Path, algorithm: str = "ppo") -> Path:
    """Writes a bundle of the toy's policy; it is exported once in a process."""
    folder.mkdir(parents=True)
    for name, data in _exported(algorithm).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def document(report: Report) -> dict[str, Any]:
    """What a report says, but for the time that it took."""
    found = json.loads(to_text(report.to_dict()))
    del found["timing"]
    return dict(found)
