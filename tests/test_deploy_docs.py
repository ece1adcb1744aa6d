"""The how-tos of deployment, followed to the letter."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from runtime_toys import Setup

from physai.deploy.run import driver
from physai.deploy.runtime import Runtime, State

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(encoding="utf-8"), re.DOTALL)


class MyArm:
    """The robot's own library that the page asks for."""

    setup: Setup
    moves: list[Any] = []  # noqa: RUF012 - one for the test

    def __init__(self, address: str) -> None:
        self.number = 0

    def state(self, timeout: float) -> dict[str, Any]:
        self.number += 1
        normal = self.setup.robot.normal + 1e-4 * np.random.default_rng(self.number).standard_normal(19 + 4)
        parts = {name: normal[part] for name, part in self.setup.bundle.spec.observation_slices.items()}
        return {**parts, "number": self.number, "mode": "following", "done": self.number > 30}

    def move(self, command: Any, timeout: float) -> Any:
        self.moves.append(command)
        return command

    def stop(self) -> None: ...


def test_the_driver_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_cell.py").write_text(blocks("robot-io.md", "python")[0])
    library = ModuleType("my_arm")
    library.Arm = MyArm  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_arm", library)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    setup = Setup(lambda: (0.2, 0.0, 0.0))
    MyArm.setup = setup
    arm = driver("my_cell:Arm", setup.bundle)
    arm.connect()
    runtime = Runtime(setup.bundle, arm)
    runtime.arm()
    for _ in range(40):
        runtime.tick()
    assert runtime.state is State.VERIFIED
    assert max(move[0] for move in MyArm.moves) == pytest.approx(0.2)
    importlib.import_module("my_cell")


@pytest.mark.slow
def test_the_commands_of_the_page_work(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "assets" / "policies", tmp_path / "assets" / "policies")
    physai = f'physai() {{ "{Path(sys.executable).parent}/physai" "$@"; }}\n'
    script = "".join(block for block in blocks("deploy.md", "bash") if "--robot" not in block)
    done = subprocess.run(
        ["bash", "-c", "set -eu\n" + physai + script], cwd=tmp_path, capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "limits broken: none" in done.stdout
