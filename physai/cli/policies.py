"""Commands about a trained policy: eval, view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from physai.cli.find import newest_run, run_folder
from physai.cli.show import show

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN|CHECKPOINT|BUNDLE|ZIP|TASK]",
        help="A run, checkpoint or bundle folder, an SB3 zip, or a task whose policy ships; default: the newest run.",
    ),
]
TaskOption = Annotated[str | None, typer.Option("--task", help="Task id; needed when the source does not name it.")]
Seed = Annotated[int, typer.Option(help="Evaluation seed; episode i depends on it and on i alone.")]


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
        show(*catalog.evaluation(report.to_dict()))
    if json_out:
        report.write(json_out)
    elif run:
        report.write(str(run / "evaluation.json"))
    if min_success is not None and not report.passed(min_success):
        typer.echo(f"the success rate is below the bar of {min_success:.1%}", err=True)
        raise typer.Exit(1)


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
