"""The command line. Each command is a sentence about one function; what it needs is imported inside it.

Exit codes: 0 done, 1 done but below the bar, 2 could not be done (one sentence on stderr), 130 stopped by Ctrl-C.
`submit` and `jobs logs` exit with the code of the job that they follow.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from physai.cli import bundles, demonstrations, edge, evaluation, inventory, jobs, policies, training, tuning
from physai.errors import PhysaiError

# What a command finds missing when only a smaller install is there, and the extra that brings it.
EXTRAS = {
    **dict.fromkeys(("onnxruntime", "cryptography", "mcap"), "deploy"),
    **dict.fromkeys(("gymnasium", "matplotlib", "pybullet", "scipy"), "eval"),
    **dict.fromkeys(
        ("imageio_ffmpeg", "onnx", "onnxscript", "PIL", "pyarrow", "ray", "sb3_contrib", "stable_baselines3")
        + ("tensorboard", "torch"),
        "train",
    ),
}

app = typer.Typer(
    help="From simulation to the factory floor: train, evaluate, watch, export and verify robot policies.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
deploy_app = typer.Typer(help="What a controller does with an exported bundle.", no_args_is_help=True)
deploy_app.command()(bundles.verify)
deploy_app.command()(bundles.run)
deploy_app.command()(edge.serve)
jobs_app = typer.Typer(help="What runs on a cluster: status, logs, stop.", no_args_is_help=True)
for command in (jobs.status, jobs.logs, jobs.stop):
    jobs_app.command()(command)

app.command()(inventory.tasks)
app.command()(demonstrations.demos)
app.command()(training.train)
app.command()(tuning.tune)
app.command("eval")(evaluation.evaluate)
app.command()(policies.view)
app.command()(bundles.export)
app.add_typer(bundles.app, name="bundle")
app.add_typer(deploy_app, name="deploy")
app.command()(jobs.submit)
app.add_typer(jobs_app, name="jobs")
app.command()(inventory.runs)
app.command()(inventory.report)
app.command()(inventory.doctor)


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


def _fail(message: str, code: int) -> None:
    typer.echo(f"error: {message}", err=True)
    sys.exit(code)
