"""The documentation: links lead somewhere, commands exist, and generated parts are generated."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from physai import catalog, cli
from physai.config import RunConfig
from physai_envs import registry
from physai_envs.env import TaskEnv

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN += sorted((ROOT / "docs" / "how-to").glob("*.md"))
PAGES = [*WRITTEN, *sorted((ROOT / "docs" / "tasks").glob("*.md"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


def commands_in(page: Path) -> list[list[str]]:
    """The `physai ...` lines of the code blocks, as words after `physai`."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    pieces = [piece for block in blocks for line in block.splitlines() for piece in line.split("#")[0].split("&&")]
    return [shlex.split(piece)[1:] for piece in pieces if piece.split()[:1] == ["physai"]]


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_commands_in_the_text_exist(page: Path) -> None:
    for words in commands_in(page):
        command: Any = typer.main.get_command(cli.app)
        while hasattr(command, "commands"):
            assert words[0] in command.commands, f"physai {' '.join(words)}"
            command, words = command.commands[words[0]], words[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        for word in words:
            assert not word.startswith("-") or word in options, f"{command.name} has no option {word}"


def test_the_task_of_the_how_to_is_one_that_its_expert_solves(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "how-to" / "add-a-task.md").read_text(encoding="utf-8")
    module = ModuleType("touch_plate")
    monkeypatch.setitem(sys.modules, "touch_plate", module)
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1), module.__dict__)  # type: ignore[union-attr]
    env, solved = TaskEnv(module.TASK), 0
    for seed in range(10):
        env.reset(seed=seed)
        ended = False
        while not ended:
            *_, terminated, truncated, info = env.step(env.expert_action())
            ended = terminated or truncated
        solved += info["is_success"]
    env.close()
    assert solved == 10


def test_the_configuration_of_the_how_to_is_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "add-a-task.md").read_text(encoding="utf-8")
    path = tmp_path / "touch_plate.yaml"
    path.write_text(re.search(r"```yaml\n(.*?)```", page, re.DOTALL).group(1).replace("home/TouchPlate", "reach"))  # type: ignore[union-attr]
    assert RunConfig.load(path, []).stop.success == 0.95


def test_every_command_is_documented() -> None:
    said = {words[0] for page in WRITTEN for words in commands_in(page)}
    text = "".join(page.read_text(encoding="utf-8") for page in WRITTEN)
    for command in typer.main.get_command(cli.app).commands:  # type: ignore[attr-defined]
        assert command in said or f"`physai {command}`" in text, command


def test_the_generator_writes_every_task_and_notices_a_change(generate: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "docs" / "tasks").mkdir(parents=True)
    (tmp_path / "README.md").write_text(f"above\n{generate.BEGIN}\n{generate.END}\nbelow\n")
    assert set(generate.expected(tmp_path)) == {path for path, _ in generate.stale(tmp_path)}
    for path, text in generate.stale(tmp_path):
        path.write_text(text)
    assert generate.stale(tmp_path) == []
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("above\n")
    assert readme.endswith("\nbelow\n")
    for task in registry.tasks():
        page = (tmp_path / "docs" / "tasks" / f"{catalog.slug(task)}.md").read_text()
        for term in (*task.observations, *task.rewards, *task.randomization, *task.metrics):
            assert f"| {term.name} |" in page
        for term in (*task.observations, *task.rewards):
            named = term.function.__name__ != "<lambda>"
            assert term.function.__doc__ or not named, f"{task.id}: {term.name} has no docstring to print"
        for metric in task.metrics:
            assert metric.what or metric.function.__doc__, f"{task.id}: nothing says what {metric.name} is"

    (tmp_path / "docs" / "tasks" / "reach.md").write_text("by hand")
    (tmp_path / "docs" / "tasks" / "gone.md").write_text("a task that is no more")
    assert {path.name: text is None for path, text in generate.stale(tmp_path)} == {"reach.md": False, "gone.md": True}


def test_other_seeds_stand_below_the_policy_that_ships(tmp_path: Path) -> None:
    shipped = catalog.shipped_policies() / "reach" / "evidence"
    for seed in (1, 2):
        shutil.copytree(shipped, tmp_path / f"reach-{seed}")
        config = (shipped / "config.yaml").read_text().replace("seed: 0", f"seed: {seed}")
        (tmp_path / f"reach-{seed}" / "config.yaml").write_text(config)
    rows = catalog.seeds(tmp_path).rows
    assert [row[1].rpartition("; ")[2] for row in rows] == ["seed 0", "seed 1", "seed 2"]
    assert {row[2] for row in rows} == {catalog.shipped_success("reach")}


def test_how_a_policy_was_made_counts_the_warm_start(tmp_path: Path) -> None:
    for file in ("config.yaml", "progress.csv", "versions.json"):
        shutil.copyfile(catalog.shipped_policies() / "tidy_up" / "evidence" / file, tmp_path / file)
    (tmp_path / "warm_start.json").write_text('{"steps": 59328, "seconds": 61.4}')
    assert "after which it met the bar; 59,328 steps, 61 s on" in catalog.trained(tmp_path)
    (tmp_path / "progress.csv").write_text("steps,seconds\n63424,5.5\n67520,4.5\n")
    assert "), then PPO; 67,520 steps, 71 s on" in catalog.trained(tmp_path)


@pytest.mark.parametrize("task", registry.tasks(), ids=lambda task: task.id)
def test_every_task_says_what_success_is(task: Any) -> None:
    told = catalog.describe(task)
    assert 20 < len(told["success"]) < 400, told["success"]
    assert not told["success"].startswith("Goal")
    assert "Start " not in told["success"]
    assert 0.0 < told["solved_at"] <= 1.0


def test_a_table_survives_a_bar_in_a_cell() -> None:
    table = catalog.Table("t", ("a", "b"), (("x|y", "z"),))
    assert table.markdown() == "| a | b |\n| --- | --- |\n| x\\|y | z |"


def test_spans_are_one_when_all_are_equal() -> None:
    assert catalog.span((-1.0, -1.0), (1.0, 1.0)) == "-1 to 1"
    assert catalog.span((0.0, -0.5), (1.0, 0.25)) == "0 to 1, -0.5 to 0.25"
