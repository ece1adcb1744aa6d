"""Imports point down only. The table below is the architecture; a module that is not in it fails."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"physai": "physai", "physai_envs": "envs", "physai_assets": "assets", "physai_configs": "configs"}

# Lowest first. A line is one layer, a string in it a room: modules of other rooms on the same layer are not imported.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("physai physai.spec physai.errors", "physai_assets", "physai_configs"),
    (
        "physai.config physai.algorithm_config",
        "physai.storage",
        " ".join(
            f"physai_envs.{name}"
            for name in ("engine", "body", "building", "renderer", "world", "window", "shapes", "geometry")
        ),
        "physai.deploy",
    ),
    (" ".join(f"physai_envs.{name}" for name in ("robot", "control", "sensors", "task", "parts", "robots")),),
    ("physai_envs.terms physai_envs.handles physai_envs.env",),
    ("physai_envs.home", "physai_envs.assembly", "physai_envs.mobility"),
    ("physai_envs physai_envs.registry",),
    ("physai.policy physai.evaluate physai.demos physai.view physai.export", "physai.catalog", "physai.twin"),
    ("physai.train",),
    ("physai.cli physai.doctor", "physai.pytest_plugin"),
)
PLACE = {name: (level, room) for level, rooms in enumerate(LAYERS) for room in rooms for name in room.split()}
LOWEST = {"physai.spec", "physai.errors"}

# Heavy dependencies, and the only modules (or packages) that may import them.
ROOMS = {
    "pybullet": {"physai_envs.engine"},
    "pybullet_data": {"physai_envs.engine"},
    "ray": {"physai.train", "physai.doctor"},
    "typer": {"physai.cli"},
    "pydantic": {"physai.config", "physai.algorithm_config"},
    "pyarrow": {"physai.storage"},
}


def modules() -> dict[str, Path]:
    """Every module of the four packages by its import name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(module: str, *, at_import_time: bool = False) -> set[str]:
    """Names of the modules that `module` imports; with `at_import_time`, without those inside functions."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if at_import_time and (typing_only or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                found.add(submodule if submodule in MODULES else base)
    return found


def place(module: str) -> tuple[int, str]:
    """Layer and room of a module: those of the longest entry in the table that it is or lies in."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        # The bare packages stand for their __init__ alone: a new module needs a line of its own.
        if name in PLACE and (end == len(parts) or name not in FOLDERS):
            return PLACE[name]
    raise AssertionError(f"{module} is in no layer: add it to LAYERS in {Path(__file__).name}")


def within(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    level, room = place(module)
    for other in imports(module) & set(MODULES):
        other_level, other_room = place(other)
        assert other_level < level or (other_level, other_room) == (level, room), f"{module} imports {other}"


def test_no_import_cycle() -> None:
    graph = {module: (imports(module, at_import_time=True) & set(MODULES)) - {module} for module in MODULES}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("module", MODULES)
def test_heavy_dependencies_have_one_room(module: str) -> None:
    roots = {name.partition(".")[0] for name in imports(module)}
    for dependency, allowed in ROOMS.items():
        assert dependency not in roots or within(module, allowed), f"{module} imports {dependency}"


def test_environments_need_only_spec_and_errors_of_physai() -> None:
    for module in MODULES:
        if module.startswith("physai_envs"):
            assert {name for name in imports(module) if within(name, {"physai"})} <= LOWEST, module


def test_deploy_needs_only_what_a_controller_has() -> None:
    allowed = {"numpy", "onnxruntime", "cryptography", "mcap", "zstandard"} | set(sys.stdlib_module_names)
    for module in [name for name in MODULES if within(name, {"physai.deploy"})] + sorted(LOWEST):
        for name in imports(module):
            ours = name in LOWEST or within(name, {"physai.deploy"})
            assert ours or name.partition(".")[0] in allowed, f"{module} imports {name}"


def test_the_documented_table_is_this_one() -> None:
    rows = re.findall(
        r"^\| (\d) \| (.*) \|$", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    documented = {int(number): [re.findall(r"`([\w.]+)`", room) for room in rooms.split(";")] for number, rooms in rows}
    for level, rooms in enumerate(LAYERS):
        lasting = [[name for name in room.split() if name not in FOLDERS or level > 0] for room in rooms]
        expected = sorted(sorted(name.rpartition(".")[2] for name in room) for room in lasting if room)
        said = sorted(sorted(name.rpartition(".")[2] for name in room) for room in documented[level + 1])
        assert said == expected, f"layer {level + 1}"


def imported_in_a_new_process(statement: str) -> set[str]:
    """Top-level modules that are loaded after `statement` in a fresh interpreter."""
    code = f"{statement}\nimport sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_command_line_starts_without_heavy_imports() -> None:
    heavy = {"numpy", "torch", "ray", "pybullet", "gymnasium", "stable_baselines3", "pydantic", "onnxruntime", "rich"}
    assert not imported_in_a_new_process("import physai.cli") & heavy


def test_importing_the_environments_starts_no_simulator() -> None:
    loaded = imported_in_a_new_process("import physai_envs")
    assert "gymnasium" in loaded
    assert not loaded & {"pybullet", "torch", "ray", "stable_baselines3"}


def test_the_learning_code_needs_neither_ray_nor_a_simulator() -> None:
    parts = [name for name in ("learner", "algorithms", "rollout", "normalizer") if f"physai.train.{name}" in MODULES]
    loaded = imported_in_a_new_process("import physai.train, " + ", ".join(f"physai.train.{part}" for part in parts))
    assert sorted(loaded & {"ray", "pybullet"}) == []
