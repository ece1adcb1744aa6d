"""Commands about a trained policy: view."""

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
    gui: Annotated[bool, typer.Option("--gui", help="Watch in a window.")] = False,
    run: Annotated[Path | None, typer.Option(help="Follow the newest checkpoint of a run that goes on.")] = None,
    camera: Annotated[list[str] | None, typer.Option(help="task, top, side, close or follow.")] = None,
) -> None:
    """Record a video of a policy at work. Needs no screen."""
    chosen = source or str(run or newest_run())
    if gui:
        from physai.view.window import watch

        watch(chosen, task, seed=seed, camera=(camera or ["task"])[0], follow=run is not None)
        return
    from physai.view.record import record as run_recording

    out = record or (run_folder(chosen) or Path()) / "rollout.mp4"
    typer.echo(run_recording(chosen, out, task=task, episodes=episodes, seed=seed, width=width, height=height))
