"""The wheel: it holds exactly the tree, and works where there is no tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"physai": "physai", "envs": "physai_envs", "assets": "physai_assets", "configs": "physai_configs"}
DATA_SUFFIXES = {"envs": (".py",), "physai": (".py", ".json"), "configs": (".py", ".yaml")}  # assets: everything


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build leaves folders behind in the tree it builds from."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("*.egg-info"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    return next(out.glob("*.whl"))


@pytest.mark.xdist_group("wheel")
def test_the_wheel_holds_the_tree_and_nothing_else(wheel: Path) -> None:
    expected = set()
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*"):
            wanted = path.is_file() and "__pycache__" not in path.parts
            if wanted and (folder not in DATA_SUFFIXES or path.suffix in DATA_SUFFIXES[folder]):
                expected.add(f"{package}/{path.relative_to(ROOT / folder).as_posix()}")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert sorted(expected - packed) == [], "left out: is the sub-package listed in pyproject.toml?"
    assert sorted(packed - expected) == []


@pytest.mark.xdist_group("wheel")
def test_the_wheel_works_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    pip("install", "--no-deps", "--no-compile", "--target", str(installed), str(wheel))
    code = (
        "import sys, physai, physai_envs; sys.argv = ['physai', 'tasks', '--markdown']\n"
        "print(physai.__file__, physai_envs.__file__, file=sys.stderr)\n"
        "from physai.cli import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.count(str(installed)) == 2, "the installed wheel must be what ran"
    assert "| reach | home |" in done.stdout
    assert list(empty.iterdir()) == []


def test_the_folder_envs_refuses_its_other_name() -> None:
    done = subprocess.run([sys.executable, "-c", "import envs"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "import physai_envs" in done.stderr


def test_every_requirement_is_pinned() -> None:
    """A dependency that is not in constraints.txt would be installed in whatever version is newest that day."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonical(line.split("==")[0]) for line in lines if "==" in line}
    wanted = {canonical(requirement) for requirement in requirements} - {"physai"}
    assert sorted(wanted - pinned) == []


def canonical(requirement: str) -> str:
    """Name of a requirement the way packaging compares them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    return canonicalize_name(Requirement(requirement.strip()).name)
