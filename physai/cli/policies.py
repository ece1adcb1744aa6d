"""Commands about a trained policy: view, export, deploy verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from physai.cli.find import newest_run, run_folder

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN|CHECKPOINT|BUNDLE|ZIP|TASK]",
        help="A run, checkpoint or bundle folder, an SB3 zip, or a task whose policy ships; default: the newest run.",
    ),
]
TaskOption = Annotated[str | None, typer.Option("--task", help="Task id; needed when the source does not name it.")]
Seed = Annotated[int, typer.Option(help="Evaluation seed; episode i depends on it and on i alone.")]


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


def export(
    source: Source = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Bundle folder; default: bundle/ in the run.")] = None,
    task: TaskOption = None,
) -> None:
    """Export a policy as a bundle. It is compared with the original before it is written."""
    chosen = source or str(newest_run())
    from physai.export import export as run_export

    typer.echo(run_export(chosen, out or (run_folder(chosen) or Path()) / "bundle", task=task))


def verify(bundle: Annotated[Path, typer.Argument(help="Bundle folder.")]) -> None:
    """Check that a bundle is intact and computes what it recorded, as a controller does at start."""
    from physai.deploy.bundle import load_bundle

    load_bundle(bundle)
    typer.echo(f"{bundle}: intact, and computes what it recorded")
