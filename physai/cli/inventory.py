"""Commands that say what there is: tasks, runs, doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from physai.cli.find import RUNS, find_runs, located, newest_run
from physai.cli.show import echo_json, show
from physai.errors import AssetError

if TYPE_CHECKING:
    from pathlib import Path


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
            echo_json(catalog.describe(task))
        elif markdown:
            typer.echo(catalog.page(task), nl=False)
        else:
            typer.echo(f"{task.full_id}: {task.summary}")
            show(*catalog.terms(task))
    elif as_json:
        echo_json([catalog.describe(task) for task in registry.tasks()])
    else:
        show(catalog.overview(registry.tasks()), markdown=markdown)


def runs(
    compare: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Compare these: what differs, and their results.")
    ] = None,
    folder: Annotated[str, typer.Option(help="Where the runs are: a folder or a storage URI.")] = str(RUNS),
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
) -> None:
    """List the runs, the newest first. With names, compare them."""
    from physai.catalog import Table

    if compare:
        from physai.train.history import History
        from physai.train.run_report import compared

        show(*compared([History.read(run) for run in compare]), markdown=markdown)
        return
    found = find_runs(located(folder))
    if not found:
        typer.echo(f"no runs in {folder}; `physai train peg_insertion` makes one")
        return
    rows = tuple(_run_row(run) for run in found)
    show(Table("Runs", ("run", "started", "steps", "held out", "evaluated"), rows), markdown=markdown)


def report(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Runs; seeds of one run share a curve. Default: newest."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="Default: report.html in the run.")
    ] = None,
) -> None:
    """Write the report of runs: curves, time, energy, film and configuration in one HTML file."""
    chosen = sources or [str(newest_run())]
    from physai.train.run_report import write

    typer.echo(write(chosen, out))


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
