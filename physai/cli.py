"""The command line. Each command is a sentence about one function; what it needs is imported inside it.

Exit codes: 0 done, 1 done but below the bar, 2 could not be done (one sentence on stderr), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from physai.errors import AssetError, CheckpointError, ConfigError, PhysaiError, nearest

if TYPE_CHECKING:
    from physai.catalog import Table

app = typer.Typer(
    help="From simulation to the factory floor: train, evaluate, watch, export and verify robot policies.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
deploy_app = typer.Typer(help="What a controller does with an exported bundle.", no_args_is_help=True)
app.add_typer(deploy_app, name="deploy")

# What a command finds missing when only a smaller install is there, and the extra that brings it.
EXTRAS = {
    **dict.fromkeys(("onnxruntime", "cryptography"), "deploy"),
    **dict.fromkeys(
        (
            "gymnasium",
            "imageio_ffmpeg",
            "matplotlib",
            "onnx",
            "onnxscript",
            "PIL",
            "pyarrow",
            "pybullet",
            "ray",
            "sb3_contrib",
        )
        + ("scipy", "stable_baselines3", "tensorboard", "torch"),
        "train",
    ),
}
RUNS = Path("runs")

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN|CHECKPOINT|BUNDLE|ZIP|TASK]",
        help="A run, checkpoint or bundle folder, an SB3 zip, or a task whose policy ships; default: the newest run.",
    ),
]
TaskOption = Annotated[str | None, typer.Option("--task", help="Task id; needed when the source does not name it.")]
Seed = Annotated[int, typer.Option(help="Evaluation seed; episode i depends on it and on i alone.")]


def main() -> None:
    """Runs the command line; failures that physai explains itself become one sentence and an exit code."""
    try:
        app()
    except PhysaiError as error:
        _fail(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        extra = EXTRAS[missing]
        _fail(f"this command needs the [{extra}] extra ({missing} is not installed): pip install 'physai[{extra}]'", 2)
    except KeyboardInterrupt:
        sys.exit(130)


def _version(wanted: bool) -> None:
    if wanted:
        from physai import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Nothing is common to all commands but `--version`."""


@app.command()
def tasks(
    name: Annotated[str | None, typer.Argument(help="Show this task's terms, with units.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown tables.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the tasks. With a name, show its observations, actions, rewards and randomisation."""
    from physai import catalog
    from physai_envs import registry

    if name:
        task = registry.task(name)
        if as_json:
            _echo_json(catalog.describe(task))
        elif markdown:
            typer.echo(catalog.page(task), nl=False)
        else:
            typer.echo(f"{task.full_id}: {task.summary}")
            _show(*catalog.terms(task))
    elif as_json:
        _echo_json([catalog.describe(task) for task in registry.tasks()])
    else:
        _show(catalog.overview(registry.tasks()), markdown=markdown)


@app.command()
def train(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="A YAML file or a name of `configs/`; overrides."),
    ] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster, such as auto; default: one of its own.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Continue this run folder, or `newest`.")] = None,
) -> None:
    """Train a policy. `physai train peg_insertion`, or `physai train task=Pendulum-v1 stop.steps=50000`."""
    words = arguments or []
    names = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    if len(names) > 1:
        raise ConfigError(f"one configuration can be trained at a time, not {len(names)} ({', '.join(names)})")
    run = None
    if resume:
        run = newest_run() if resume == "newest" else located(resume)
        if names:
            raise ConfigError(f"{names[0]!r} is not needed: --resume continues with the configuration stored in {run}")
        if not (run / "config.yaml").exists():
            raise CheckpointError(f"{run} is no run folder (no config.yaml in it); `physai runs` lists the runs")
        path = run / "config.yaml"
    elif not names and not any(word.startswith("task=") for word in overrides):
        raise ConfigError(f"no configuration given; name a file, one of {', '.join(shipped_configs())}, or task=ID")
    else:
        path = find_config(names[0]) if names else None
    from physai.config import RunConfig

    config = RunConfig.load(path, overrides)
    from physai.train.driver import train as run_training

    run_training(config, address=address, resume=str(run) if run else None)


@app.command("eval")
def evaluate(
    source: Source = None,
    task: TaskOption = None,
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes.")] = 200,
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    difficulty: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of every episode.")] = 1.0,
    min_success: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Exit 1 below this success rate.")] = None,
    json_out: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Report; - for stdout.")] = None,
) -> None:
    """Evaluate a policy on unseen episodes. The result is the same for any number of workers."""
    chosen = source or str(newest_run())
    from physai import catalog
    from physai.evaluate import evaluate as run_evaluation

    report = run_evaluation(chosen, task=task, episodes=episodes, seed=seed, workers=workers, difficulty=difficulty)
    run = run_folder(chosen)
    if json_out != "-":
        _show(*catalog.evaluation(report.to_dict()))
    if json_out:
        report.write(json_out)
    elif run:
        report.write(str(run / "evaluation.json"))
    if min_success is not None and not report.passed(min_success):
        typer.echo(f"the success rate is below the bar of {min_success:.1%}", err=True)
        raise typer.Exit(1)


@app.command()
def view(
    source: Source = None,
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="MP4 or GIF; default: rollout.mp4.")] = None,
    task: TaskOption = None,
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes.")] = 1,
    seed: Seed = 0,
    width: Annotated[int, typer.Option(min=64, help="Pixels.")] = 640,
    height: Annotated[int, typer.Option(min=64, help="Pixels.")] = 480,
) -> None:
    """Record a video of a policy at work. Needs no screen."""
    chosen = source or str(newest_run())
    from physai.view.record import record as run_recording

    out = record or (run_folder(chosen) or Path()) / "rollout.mp4"
    typer.echo(run_recording(chosen, out, task=task, episodes=episodes, seed=seed, width=width, height=height))


@app.command()
def export(
    source: Source = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Bundle folder; default: bundle/ in the run.")] = None,
    task: TaskOption = None,
) -> None:
    """Export a policy as a bundle. It is compared with the original before it is written."""
    chosen = source or str(newest_run())
    from physai.export import export as run_export

    typer.echo(run_export(chosen, out or (run_folder(chosen) or Path()) / "bundle", task=task))


@deploy_app.command()
def verify(bundle: Annotated[Path, typer.Argument(help="Bundle folder.")]) -> None:
    """Check that a bundle is intact and computes what it recorded, as a controller does at start."""
    from physai.deploy.bundle import load_bundle

    load_bundle(bundle)
    typer.echo(f"{bundle}: intact, and computes what it recorded")


@app.command()
def runs(
    folder: Annotated[str, typer.Option(help="Where the runs are: a folder or a storage URI.")] = str(RUNS),
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
) -> None:
    """List the runs, the newest first."""
    from physai.catalog import Table

    found = find_runs(located(folder))
    if not found:
        typer.echo(f"no runs in {folder}; `physai train peg_insertion` makes one")
        return
    rows = tuple(_run_row(run) for run in found)
    _show(Table("Runs", ("run", "started", "steps", "held out", "evaluated"), rows), markdown=markdown)


@app.command()
def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Only what takes no time: no Ray, no rendering.")] = False,
) -> None:
    """Say what works on this machine, and what to do about the rest."""
    from physai.doctor import examine

    essential = True
    for finding in examine(quick=quick):
        typer.echo(f"{finding.mark:<8} {finding.what:<14} {finding.detail}")
        essential = essential and finding.usable
    if not essential:
        raise typer.Exit(2)


def find_config(name: str) -> Path:
    """Returns the YAML file of that path, or the shipped one of that name.

    Raises:
        ConfigError: if there is neither.
    """
    shipped = shipped_configs()
    if Path(name).is_file():
        return Path(name)
    if name in shipped:
        return shipped[name]
    raise ConfigError(f"there is no configuration {name!r}; {nearest(Path(name).stem, shipped)}, or give a YAML file")


def shipped_configs() -> dict[str, Path]:
    """Returns the configurations that are installed, by name."""
    import physai_configs

    return {path.stem: path for path in sorted(Path(physai_configs.__path__[0]).glob("*.yaml"))}


def located(name: str) -> Path:
    """Returns a path, or what reads like one in an object store."""
    from physai.storage import place

    return cast(Path, place(name))


def find_runs(folder: Path = RUNS) -> list[Path]:
    """Returns the run folders, the newest first."""
    found = [path.parent for path in folder.glob("*/*/config.yaml")]
    return sorted(found, key=lambda run: (run / "config.yaml").stat().st_mtime, reverse=True)


def newest_run() -> Path:
    """Returns the run folder that was started last.

    Raises:
        CheckpointError: if there is none.
    """
    found = find_runs()
    if not found:
        raise CheckpointError(f"nothing was named and there is no run in {RUNS}/; name one, or train one first")
    return found[0]


def run_folder(source: str) -> Path | None:
    """Returns the run folder that `source` is, or None."""
    return Path(source) if (Path(source) / "config.yaml").is_file() else None


def _run_row(run: Path) -> tuple[str, ...]:
    import csv
    from datetime import datetime

    from physai.catalog import recorded_success

    started = datetime.fromtimestamp((run / "config.yaml").stat().st_mtime).strftime("%Y-%m-%d %H:%M")
    steps = held_out = ""
    if (run / "progress.csv").exists():
        for line in csv.DictReader((run / "progress.csv").read_text(encoding="utf-8").splitlines()):
            steps = line.get("steps") or steps
            held_out = line.get("validation/success") or held_out
    record = run / "evaluation.json"
    try:
        evaluated = recorded_success(record) if record.exists() else ""
    except AssetError:
        evaluated = "evaluation.json cannot be read"
    return str(run), started, steps, f"{float(held_out):.1%}" if held_out else "", evaluated


def _show(*tables: Table, markdown: bool = False) -> None:
    if markdown:
        typer.echo("\n\n".join(table.markdown() for table in tables))
        return
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    for table in tables:
        drawn = RichTable(title=table.title, title_justify="left", show_header=any(table.head))
        for head in table.head:
            drawn.add_column(head, overflow="fold")
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn, markup=False)


def _echo_json(data: Any) -> None:
    typer.echo(json.dumps(data, indent=2))


def _fail(message: str, code: int) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(code)
