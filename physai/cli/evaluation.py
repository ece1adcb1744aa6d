"""The command that decides about a policy: eval."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from physai.cli.find import newest_run, run_folder
from physai.cli.policies import Seed, TaskOption, refresh
from physai.cli.show import show
from physai.errors import ConfigError, PhysaiError

if TYPE_CHECKING:
    from physai.evaluate import Report
    from physai.evaluate.gate import Gate
    from physai.evaluate.workers import Host

DEFAULT_JSON = "evaluation.json"  # in the run that is evaluated
File = typer.Option(metavar="FILE")

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[RUN|CHECKPOINT|BUNDLE|ZIP|TASK]...",
        help="Runs, checkpoints or bundles, SB3 zips, or tasks whose policy ships; default: the newest run.",
    ),
]


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for, apart from the policies and the files."""

    settings: dict[str, Any]
    gate: Gate
    baseline: str | None
    significance: float
    resume: bool


def evaluate(
    sources: Sources = None,
    task: TaskOption = None,
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes.")] = 200,
    seed: Seed = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    address: Annotated[str | None, typer.Option(help="Play on this Ray cluster: auto or host:port.")] = None,
    difficulty: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of every episode.")] = 1.0,
    min_success: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Exit 1 below this success rate.")] = None,
    max_collision: Annotated[
        float | None, typer.Option(min=0.0, help="Exit 1 above this mean of the task's metric of collisions.")
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE", help="Exit 1 unless it holds, such as 'peak_force<30' or 'p95(peak_force)<=30'."),
    ] = None,
    early_stop: Annotated[
        bool, typer.Option("--early-stop", help="End once --min-success is clearly met or not.")
    ] = False,
    risk: Annotated[
        float, typer.Option(help="Chance that --early-stop says otherwise than all episodes would.")
    ] = 0.01,
    compare: Annotated[
        str | None, typer.Option(metavar="POLICY|REPORT", help="Exit 1 if significantly worse than this one.")
    ] = None,
    significance: Annotated[float, typer.Option(help="Chance that --compare calls equal policies different.")] = 0.05,
    perturb: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW:HIGH[:N]", help="Also play with this turned from LOW to HIGH; several make a grid."
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="An episode that takes longer hangs; default: 60 and ten times its length."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the episodes of an evaluation that was killed.")
    ] = False,
    json_out: Annotated[str | None, typer.Option("--json", metavar="FILE", help="Report; - for stdout.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="JUnit XML for a CI server.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Summary for a pull request.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Report for a person, in one file.")] = None,
    heat_map: Annotated[Path | None, typer.Option(metavar="FILE", help="PNG of what --perturb found.")] = None,
) -> None:
    """Evaluate policies on unseen episodes. The result is the same for any number of workers."""
    chosen = sources or [str(newest_run())]
    from physai.evaluate.gate import Gate
    from physai.evaluate.outputs import write

    wanted = Wanted(
        {
            "task": task, "episodes": episodes, "seed": seed, "workers": workers, "difficulty": difficulty,
            "stop_risk": risk if early_stop else None, "perturbations": tuple(perturb or ()), "timeout_s": timeout,
        },
        Gate.of(min_success, max_collision, require or ()), compare, significance, resume,
    )  # fmt: skip
    run = run_folder(chosen[0]) if len(chosen) == 1 else None
    out = json_out or (str(run / DEFAULT_JSON) if run else None)
    _check(wanted, chosen, out, heat_map)
    reports: list[Report] = []
    broken: dict[str, str] = {}
    with _hosted(address) as wanted.settings["host"]:
        for index, source in enumerate(chosen):
            kept = None if out in (None, "-") else f"{out}.{index}" if len(chosen) > 1 else out
            try:
                reports.append(_one(source, wanted, kept))
            except PhysaiError as error:
                if len(chosen) == 1 and not (junit or markdown or html or json_out):
                    raise
                broken[source] = str(error)
                typer.echo(f"error: {error}", err=True)
                continue
            if json_out != "-":
                _tell(reports[-1])
    write(reports, broken, json=out, junit=junit, markdown=markdown, html=html, heat_map=heat_map)
    if run is not None and reports and json_out is None:
        refresh(run)
    code = max([report.exit_code for report in reports] + [2 if broken else 0])
    if code:
        raise typer.Exit(code)


@contextmanager
def _hosted(address: str | None) -> Iterator[Host | None]:
    """Gives where the episodes are played: a cluster, or None for this machine."""
    if address is None:
        yield None
        return
    from physai.train.evaluators import evaluators

    with evaluators(address) as host:
        yield host


def _check(wanted: Wanted, sources: list[str], out: str | None, heat_map: Path | None) -> None:
    several = len(sources) > 1
    if several and (wanted.baseline or heat_map):
        raise ConfigError(f"{'--compare' if wanted.baseline else '--heat-map'} takes one policy, not {len(sources)}")
    if heat_map and not wanted.settings["perturbations"]:
        raise ConfigError("--heat-map draws what --perturb found; give --perturb NAME=LOW:HIGH")
    if wanted.baseline and wanted.settings["stop_risk"] is not None:
        raise ConfigError("--compare needs all episodes of both; leave out --early-stop")
    if wanted.resume and out in (None, "-"):
        raise ConfigError("--resume goes on from the journal beside the JSON report; name that with --json FILE")


def _one(source: str, wanted: Wanted, kept: str | None) -> Report:
    """Evaluates a policy, and what it is compared with; `kept` is the file beside which the journals lie."""
    from physai.evaluate import evaluate as run_evaluation
    from physai.evaluate.baseline import compared
    from physai.evaluate.journal import discard, journal_of

    def play(policy: str, gate: Gate | None, kept_as: str | None) -> Report:
        journal = None if kept_as is None else journal_of(kept_as)
        try:
            return run_evaluation(policy, gate=gate, journal=journal, resume=wanted.resume, **wanted.settings)
        except KeyboardInterrupt:
            if journal is not None:
                typer.echo(f"what was played is in {journal}; go on with --resume", err=True)
            raise

    report = play(source, wanted.gate, kept).judged(wanted.gate)
    if wanted.baseline is not None:
        beside = None if kept is None else f"{kept}.baseline"
        report = compared(report, wanted.baseline, lambda other: play(other, None, beside), wanted.significance)
        discard(beside)
    if not report.failures:
        discard(kept)
    return report


def _tell(report: Report) -> None:
    from physai import catalog
    from physai.evaluate import words

    document = report.to_dict()
    if report.records:
        show(*catalog.evaluation(document))
    for sentence in words.sentences(document):
        typer.echo(sentence)
    for check in report.checks:
        typer.echo(str(check), err=not check.passed)
    if report.failures:
        first, count = report.failures[0], len(report.failures)
        some = "" if count == 1 else f" ({count} episodes could not be played; this is the first)"
        typer.echo(f"error: {first.error}{some}", err=True)
