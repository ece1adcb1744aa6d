"""A controller has numpy and onnxruntime, and none of what training needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
from physai.deploy.bundle import load_bundle

bundle = load_bundle(sys.argv[1])
print(*bundle.act([300.0, 300.0, 300.0]))
"""


def test_a_bundle_runs_where_nothing_of_training_is_installed(tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "bundle")
    done = subprocess.run([sys.executable, "-c", CODE, str(bundle)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 3
