"""Commands about training elsewhere: submit, and jobs status, logs, stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from physai.cli.training import Arguments, GoOn, configuration
from physai.errors import ConfigError

if TYPE_CHECKING:
    from physai.train.submit import Jobs

DASHBOARD = "http://127.0.0.1:8265"  # where Ray's job server listens unless told otherwise

Server = Annotated[
    str, typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="Ray's job server (its dashboard).")
]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="As `submit` printed it; `jobs status` lists them.")]


def submit(
    arguments: Arguments = None,
    address: Server = DASHBOARD,
    working_dir: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Upload this folder: for a task of your own.")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Continue this run folder of the cluster.")] = None,
    go_on: GoOn = False,
    follow: Annotated[bool, typer.Option(help="Show the job's output until it ends.")] = True,
) -> None:
    """Train on a cluster, as a job that does not need this terminal. Exits with the code of the job."""
    if resume and arguments:
        raise ConfigError(
            f"{arguments[0]!r} is not needed: --resume continues with the configuration stored in {resume}"
        )
    config = None if resume else configuration(arguments)
    from physai.train import submit as elsewhere

    jobs = elsewhere.Jobs(address)
    words = ["--resume", str(resume)] if config is None else elsewhere.overrides(config)
    for warning in [] if config is None else elsewhere.warnings(config):
        typer.echo(f"warning: {warning}", err=True)
    job = jobs.submit(elsewhere.command([*words, *(["--continue"] if go_on else [])]), working_dir)
    typer.echo(job)
    if follow:
        _follow(jobs, job)
    else:
        typer.echo(elsewhere.hint(job, address), err=True)


def status(
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Only this one.")] = None,
    address: Server = DASHBOARD,
) -> None:
    """List the jobs of a cluster, the newest first."""
    from physai.catalog import Table
    from physai.cli.show import show
    from physai.train.submit import Jobs

    rows = tuple(Jobs(address).rows(job))
    show(Table("Jobs", ("job", "status", "started", "took", "what"), rows))


def logs(
    job: JobId,
    address: Server = DASHBOARD,
    follow: Annotated[bool, typer.Option(help="Go on until the job ends, and exit with its code.")] = True,
) -> None:
    """Show what a job has said, and says."""
    from physai.train.submit import Jobs

    jobs = Jobs(address)
    if follow:
        _follow(jobs, job)
    else:
        typer.echo(jobs.logs(job), nl=False)


def stop(job: JobId, address: Server = DASHBOARD) -> None:
    """Ask a job to save a checkpoint and end."""
    from physai.train.submit import Jobs

    typer.echo(Jobs(address).stop(job))


def _follow(jobs: Jobs, job: str) -> None:
    """Shows a job's output; Ctrl-C leaves it running."""
    from physai.train.submit import hint

    try:
        jobs.follow(job, lambda text: typer.echo(text, nl=False))
        code = jobs.exit_code(job)
    except KeyboardInterrupt:
        typer.echo(f"\ndetached, the job goes on. {hint(job, jobs.address)}", err=True)
        raise
    if code:
        raise typer.Exit(code)
