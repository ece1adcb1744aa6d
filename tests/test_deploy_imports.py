"""A controller has numpy, onnxruntime, cryptography and mcap, and none of what training needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation_policies import save_bundle

CODE = """
import sys

class Forbid:
    names = ("torch", "ray", "pybullet", "gymnasium", "stable_baselines3", "sb3_contrib", "onnx", "scipy", "pydantic",
             "yaml", "rich", "typer", "physai_envs")

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is not on this robot", name=name)

sys.meta_path.insert(0, Forbid())
import importlib
import pkgutil

import physai.deploy

for module in pkgutil.iter_modules(physai.deploy.__path__):
    importlib.import_module(f"physai.deploy.{module.name}")

import time
import numpy as np
from physai.deploy.bundle import load_bundle
from physai.deploy.io import Replay
from physai.deploy.runtime import Runtime

bundle = load_bundle(sys.argv[1])
bundle.seconds[:] = 0.0
robot = Replay(bundle.spec, np.full((20, 3), 300.0, np.float32), time.monotonic_ns)
runtime = Runtime(bundle, robot)
runtime.arm()
for _ in range(20):
    runtime.tick()
print(runtime.state.value, *bundle.act([300.0, 300.0, 300.0]))
"""


def test_a_bundle_runs_where_nothing_of_training_is_installed(tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "bundle")
    done = subprocess.run([sys.executable, "-c", CODE, str(bundle)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] != "fault"
    assert len(done.stdout.split()) == 4


@pytest.mark.slow
def test_its_own_extra_is_enough(tmp_path: Path) -> None:
    """A fresh environment with ``physai[deploy]`` and nothing else: what is missing there is missing on a robot."""
    root = Path(__file__).resolve().parent.parent
    source = tmp_path / "source"  # a build leaves folders behind in the tree that it builds from
    for folder in ("physai", "envs", "assets", "configs"):
        shutil.copytree(root / folder, source / folder, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / file, source)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "robot")], check=True)
    python = str(tmp_path / "robot" / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "-c", str(root / "constraints.txt")]
    subprocess.run([*pip, f"{source}[deploy]"], check=True)
    bundle = save_bundle(tmp_path / "bundle")
    done = subprocess.run([python, "-c", CODE, str(bundle)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    command = [str(tmp_path / "robot" / "bin" / "physai"), "bundle", "show", str(bundle)]
    assert subprocess.run(command, capture_output=True, cwd=tmp_path).returncode == 0
