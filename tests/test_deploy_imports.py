"""A controller has numpy, onnxruntime, cryptography and mcap, and none of what training needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation_policies import save_bundle

DISK_BLOCK = 512  # bytes, the unit of `st_blocks`
MOST_BYTES = 200e6  # that a controller's environment may take
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
def test_a_controller_needs_no_more_than_its_own_extra_and_200_mb(tmp_path: Path) -> None:
    """`make controller` in a copy: ``physai[deploy]`` and nothing else. What is missing there is missing on a robot."""
    root, source = Path(__file__).resolve().parent.parent, tmp_path / "source"
    for folder in ("physai", "envs", "assets", "configs"):
        shutil.copytree(root / folder, source / folder, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"):
        shutil.copy(root / file, source)
    robot, bundle = tmp_path / "robot", save_bundle(tmp_path / "bundle")
    (source / "build").mkdir()
    (source / "build" / "mine").write_text("of the user")
    before = {path.name for path in source.iterdir()}
    make = ["make", "controller", f"CONTROLLER={robot}", f"PYTHON={sys.executable}"]
    subprocess.run(make, cwd=source, check=True, capture_output=True, text=True)
    assert {path.name for path in source.iterdir()} == before
    assert [path.name for path in (source / "build").iterdir()] == ["mine"]
    for command in (
        ["python", "-c", CODE, bundle],
        ["physai", "bundle", "show", bundle],
        ["physai", "deploy", "run", "--help"],
    ):
        done = subprocess.run([robot / "bin" / command[0], *command[1:]], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    installed = {path.name.split("-")[0] for path in robot.glob("lib/python3.*/site-packages/*.dist-info")}
    assert not installed & {"torch", "ray", "pybullet", "gymnasium", "sympy", "pip", "setuptools"}
    used = sum(path.lstat().st_blocks * DISK_BLOCK for path in robot.rglob("*"))
    assert used < MOST_BYTES, f"{used / 1e6:.0f} MB after its first use: see what a new version of a package brought"
