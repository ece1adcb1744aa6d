"""Tables about tasks, made from their declarations, and about evaluations: for the command line and the docs."""

from __future__ import annotations

import csv
import inspect
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physai.errors import AssetError
from physai.spec import GOAL_TERMS

if TYPE_CHECKING:
    from physai_envs.task import Task


@dataclass(frozen=True)
class Table:
    """A title, column heads, and rows of text."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Returns the table as GitHub-flavoured Markdown, without its title."""
        lines = [self.head, tuple("---" for _ in self.head), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float) -> str:
    """Returns a number as short as it can be read back to four digits."""
    return f"{value:.4g}"


def span(low: Sequence[float], high: Sequence[float]) -> str:
    """Returns "low to high", or one span for each element where they differ."""
    spans = [f"{number(a)} to {number(b)}" for a, b in zip(low, high, strict=True)]
    return spans[0] if len(set(spans)) == 1 else ", ".join(spans)


def overview(tasks: Iterable[Task], results: bool = False) -> Table:
    """One row a task; with `results`, the success of the policy that ships for it."""
    head = ("task", "suite", "robot", "what", "control", "episode")
    rows = []
    for task in tasks:
        rates = f"{task.control_hz:g} Hz", f"{task.episode_s:g} s"
        row = (slug(task), task.suite, task.robot.name, task.summary, *rates)
        record = _record(slug(task))
        shipped = (shipped_success(slug(task)), effort(record.parent) if record.exists() else "")
        rows.append((*row, *shipped) if results else row)
    return Table("Tasks", (*head, "shipped policy", "its training") if results else head, tuple(rows))


def terms(task: Task) -> tuple[Table, ...]:
    """Everything a task declares: observations, actions, rewards, randomisation, metrics, with units."""
    spec = task.policy_spec()
    observations = tuple(
        (o.name, "×".join(map(str, o.shape)), o.unit, span(o.low, o.high), o.frame, _noise(o), _says(term.function))
        for o, term in zip(spec.observations, task.observations, strict=True)
    )
    actions = tuple(
        (a.name, ", ".join(a.elements), a.unit, span(a.low, a.high), a.frame,
         ", ".join(sorted({number(v) for v in a.rate_limit})) if a.rate_limit else "")
        for a in spec.actions
    )  # fmt: skip
    rewards = tuple((r.name, number(r.weight), span((r.low,), (r.high,)), _says(r.function)) for r in task.rewards)
    drawn = tuple((r.name, r.unit, span((r.low,), (r.high,))) for r in task.randomization)
    metrics = tuple((m.name, m.unit, m.what or _says(m.function)) for m in task.metrics)
    tables = (
        Table("Observations", ("name", "shape", "unit", "range", "frame", "noise, delay", "what"), observations),
        Table("Actions", ("name", "elements", "unit", "command range", "frame", "largest change a second"), actions),
        Table("Rewards", ("name", "weight", "range", "what"), rewards),
        Table("Randomisation", ("name", "unit", "drawn from"), drawn),
        Table("Metrics", ("name", "unit", "what"), metrics),
    )
    return tuple(table for table in tables if table.rows)


def describe(task: Task) -> dict[str, Any]:
    """Returns the declaration as plain JSON types; `spaces` are shapes, their limits and units are in `spec`."""
    spec, goal_spec = task.policy_spec(), task.policy_spec(goal_env=True)
    spaces: dict[str, Any] = {"observation": [spec.observation_size], "action": [spec.action_size]}
    if task.goal is not None:
        goals = {name: list(task.goal.shape) for name in GOAL_TERMS}
        spaces["goal_env"] = {"observation": [goal_spec.observation_size], **goals, "action": [spec.action_size]}
    return {
        "id": task.full_id,
        "name": slug(task),
        "suite": task.suite,
        "robot": task.robot.name,
        "summary": task.summary,
        "control_hz": task.control_hz,
        "episode_s": task.episode_s,
        "success": goal(task),
        "solved_at": task.solved_at,
        "spaces": spaces,
        "spec": spec.to_dict(),
        "rewards": [{"name": r.name, "weight": r.weight, "low": r.low, "high": r.high} for r in task.rewards],
        "randomization": [{"name": r.name, "unit": r.unit, "low": r.low, "high": r.high} for r in task.randomization],
        "metrics": [{"name": m.name, "unit": m.unit} for m in task.metrics],
        "goal_env": task.goal is not None,
        "expert": task.expert is not None,
    }


def goal(task: Task) -> str:
    """Returns what counts as success, in the words of the task's file: its paragraph "Goal"."""
    words = inspect.cleandoc(sys.modules[task.build.__module__].__doc__ or "")
    found = re.search(r"^Goal\s+(.*?)(?=^\S|\Z)", words, re.DOTALL | re.MULTILINE)
    return " ".join(found.group(1).split()) if found else ""


def page(task: Task) -> str:
    """Returns the documentation page of a task: its file's own words, then its tables."""
    words = inspect.cleandoc(sys.modules[task.build.__module__].__doc__ or "")
    facts = (
        f"`{task.full_id}` · {task.suite} · {task.robot.name} · control {task.control_hz:g} Hz · "
        f"physics {task.physics.hz:g} Hz · episode {task.episode_s:g} s"
    )
    picture = f"![{task.summary}](../images/{slug(task)}.png)"
    parts = [f"# {task.id}", picture, facts, f"```text\n{words}\n```"]
    if task.action_delay_s:
        parts.append(f"Actions reach the motors {task.action_delay_s * 1e3:g} ms late.")
    parts += [f"## {table.title}\n\n{table.markdown()}" for table in terms(task)]
    parts.append(f"## Shipped policy\n\n{measured(task)}")
    return "\n\n".join(parts) + "\n"


def slug(task: Task) -> str:
    """Returns the name a person types, such as ``peg_insertion``."""
    from physai_envs import registry

    return registry.slug(task.full_id)


def shipped_policies() -> Path:
    """Returns the folder of the trained policies that ship."""
    import physai_assets

    return Path(physai_assets.__path__[0]) / "policies"


def shipped_success(name: str) -> str:
    """Returns in words what the policy that ships for a task achieved, or "none yet"."""
    record = _record(name)
    return recorded_success(record) if record.exists() else "none yet"


def _record(name: str) -> Path:
    return shipped_policies() / name / "evidence" / "evaluation.json"


def results(tasks: Iterable[Task]) -> Table:
    """One row a task: what its shipped policy achieved, beside what it is held to, and how it was trained."""
    head = ("task", "success", "held to", "time to success", "its own figures: mean (95 % below)", "training")
    rows = []
    for task in tasks:
        name = slug(task)
        row = (f"[{name}](tasks/{name}.md)", shipped_success(name), f"{task.solved_at:.0%}")
        if not _record(name).exists():
            rows.append((*row, "", "", ""))
            continue
        report = json.loads(_record(name).read_text(encoding="utf-8"))
        took = report["time_to_success_s"]
        mean = f"{number(took['mean'])} s" if took else ""
        rows.append((*row, mean, figures(task, report), trained(_record(name).parent)))
    return Table("Results", head, tuple(rows))


def seeds(records: Path) -> Table:
    """Returns what other seeds of the same configurations came to, one row a run, after the policy that ships."""
    from physai_envs import registry

    rows: list[tuple[str, ...]] = []
    for folder in sorted(records.iterdir()) if records.exists() else ():
        name = folder.name.rpartition("-")[0]
        task = registry.task(name)
        shipped = _record(name).parent
        for run in (folder,) if rows and rows[-1][0] == name else (shipped, folder):
            report = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
            what = f"{name}, which ships" if run == shipped else name
            rows.append((what, trained(run), success(report), figures(task, report)))
    return Table("Seeds", ("task", "training", "success", "its own figures: mean (95 % below)"), tuple(rows))


def figures(task: Task, report: Mapping[str, Any]) -> str:
    """Returns a task's own figures of an evaluation in one line: mean (95 % below)."""
    units = {metric.name: metric.unit for metric in task.metrics}
    return "; ".join(
        f"{key} {number(values['mean'])} ({number(values['p95'])}) {units.get(key, '')}".strip()
        for key, values in report["metrics"].items()
    )


def trained(run: Path) -> str:
    """Returns in words how a policy was made, from the record of its run."""
    import yaml

    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    warm, name = config["warm_start"], config["algorithm"]["name"].upper()
    shown = f"DAgger from the scripted expert ({warm['rounds']} rounds of {warm['episodes']} episodes)" if warm else ""
    learnt = bool(_progress(run))
    how = (
        (f"{shown}, then {name}" if shown else f"{name} from scratch")
        if learnt
        else f"{shown}, after which it met the bar"
    )
    return f"{how}; {effort(run)}; seed {config['seed']}"


def effort(run: Path) -> str:
    """Returns in words the steps that a run took, those of its warm start included, and its seconds."""
    rows, seconds, steps = _progress(run), 0.0, 0
    if (run / "warm_start.json").exists():
        took = json.loads((run / "warm_start.json").read_text(encoding="utf-8"))
        seconds, steps = took["seconds"], took["steps"]
    if rows:
        seconds, steps = seconds + sum(float(row["seconds"]) for row in rows), int(rows[-1]["steps"])
    cores = json.loads((run / "versions.json").read_text(encoding="utf-8"))["hardware"]["cores"]
    return f"{steps:,} steps, {seconds:.0f} s on {cores} cores"


def _progress(run: Path) -> list[dict[str, str]]:
    with (run / "progress.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def measured(task: Task) -> str:
    """Returns what the shipped policy achieved as Markdown: a sentence or two, and the task's own figures."""
    name = slug(task)
    if not _record(name).exists():
        return "None yet."
    report = json.loads(_record(name).read_text(encoding="utf-8"))
    units = {metric.name: metric.unit for metric in task.metrics} | {"time_to_success_s": "s"}
    tails = {**report["metrics"], "time_to_success_s": report["time_to_success_s"]}
    rows = tuple(
        (key, units.get(key, ""), *(number(values[column]) for column in ("mean", "p95", "max")))
        for key, values in tails.items()
        if values
    )
    table = Table("Figures", ("name", "unit", "mean", "95 % below", "max"), rows)
    return (
        f"Success {shipped_success(name)}; it is held to {task.solved_at:.0%}. "
        f"Trained by `physai train {name}`: {trained(_record(name).parent)}.\n\n{table.markdown()}\n\n"
        f"Again: `{report['command']}`"
    )


def recorded_success(record: Path) -> str:
    """Returns in words the success that an evaluation.json holds.

    Raises:
        AssetError: if it cannot be read.
    """
    try:
        return success(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise AssetError(f"{record} is no evaluation record ({error!r}); write it again with physai eval") from error


def success(report: Mapping[str, Any]) -> str:
    """Returns the success of an evaluation's JSON in words."""
    found, episodes = report["success"], report["episodes"]
    if found["rate"] is None:
        return f"return {number(report['return']['mean'])} over {episodes} episodes (the task does not report success)"
    low, high = found["interval"]
    return f"{found['rate']:.1%} of {episodes} episodes (95 % interval {low:.1%} to {high:.1%})"


def evaluation(report: Mapping[str, Any]) -> tuple[Table, ...]:
    """Returns an evaluation's JSON as tables for a person."""
    steps, timing = report["steps"], report["timing"]
    workers = "1 worker" if timing["workers"] == 1 else f"{timing['workers']} workers"
    facts = (
        ("success", success(report)),
        ("return", f"{number(report['return']['mean'])} ± {number(report['return']['std'])}"),
        ("steps", f"{number(steps['mean'])} ({steps['min']:g} to {steps['max']:g})"),
        ("worst seeds", ", ".join(str(episode["seed"]) for episode in report["worst"])),
        ("took", f"{timing['wall_s']:.1f} s with {workers}, {timing['steps_per_s']:.0f} steps/s"),
        ("again", report["command"]),
    )
    units = {"action_change": report["action_change"], "time_to_success_s": report["time_to_success_s"]}
    tails = {name: values for name, values in {**report["metrics"], **units}.items() if values}
    metrics = tuple((name, *(number(values[key]) for key in ("mean", "p95", "max"))) for name, values in tails.items())
    terms = tuple((n, number(v["mean"]), number(v["std"])) for n, v in report["reward_terms"].items())
    return (
        Table(f"{report['task']}: {report['source']}", ("", ""), facts),
        Table("Metrics", ("name", "mean", "95 % below", "max"), metrics),
        Table("Reward terms, sums over an episode", ("name", "mean", "std"), terms),
    )


def _noise(term: Any) -> str:
    parts = [
        f"σ {number(term.noise_std)}" if term.noise_std else "",
        f"offset σ {number(term.bias_std)}" if term.bias_std else "",
        f"dropout {number(term.dropout)}" if term.dropout else "",
        f"{number(term.delay_s * 1e3)} ms late" if term.delay_s else "",
    ]
    return ", ".join(part for part in parts if part)


def _says(function: Any) -> str:
    return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
