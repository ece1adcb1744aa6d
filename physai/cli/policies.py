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
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="MP4, GIF or HTML; default: rollout.mp4.")] = None,
    gui: Annotated[bool, typer.Option("--gui", help="Watch in a window, in real time.")] = False,
    browser: Annotated[
        bool,
        typer.Option("--browser", help="Watch in a browser, in real time; recorded ones with --episodes or --pick."),
    ] = False,
    host: Annotated[str, typer.Option(help="Where --browser listens; default: this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --browser.")] = 8080,
    run: Annotated[Path | None, typer.Option(help="A run that goes on: its newest checkpoint is followed.")] = None,
    also: Annotated[
        list[str] | None, typer.Option(metavar="POLICY", help="One more, to which the key p switches.")
    ] = None,
    task: TaskOption = None,
    episodes: Annotated[int | None, typer.Option(min=1, help="Number of episodes to film.")] = None,
    seed: Seed = 0,
    pick: Annotated[
        str | None, typer.Option(metavar="best|worst|random", help="Film these of the evaluated episodes.")
    ] = None,
    camera: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="task, top, side, close or follow; several side by side in a film."),
    ] = None,
    width: Annotated[int, typer.Option(min=64, help="Pixels of a film.")] = 640,
    height: Annotated[int, typer.Option(min=64, help="Pixels of a film.")] = 480,
) -> None:
    """Watch a policy in a window (--gui) or a browser (--browser), or record a video or page, which needs no screen."""
    chosen = source or str(run or newest_run())
    cameras = camera or ["task"]
    if gui:
        from physai.view.window import watch

        watch(chosen, task, seed=seed, camera=cameras[0], others=also or (), follow=run is not None)
        return
    if browser and episodes is None and pick is None:
        from physai.view.live import broadcast

        broadcast(
            chosen, task, host=host, port=port, say=typer.echo, seed=seed, camera=cameras[0], others=also or (),
            follow=run is not None,
        )  # fmt: skip
        return
    from physai.view.pick import pick_of
    from physai.view.record import record as run_recording
    from physai.view.record import replay

    if browser:
        from physai.view.serve import serve

        serve(
            lambda: replay(chosen, task=task, episodes=episodes or 1, seed=seed, cameras=cameras, pick=pick_of(pick)),
            host, port, say=typer.echo,
        )  # fmt: skip
        return
    of_run = run_folder(chosen)
    out = record or (of_run or Path()) / "rollout.mp4"
    typer.echo(
        run_recording(
            chosen, out, task=task, episodes=episodes or 1, seed=seed, width=width, height=height, cameras=cameras,
            pick=pick_of(pick),
        )
    )  # fmt: skip
    if of_run is not None and out.parent == of_run:
        refresh(of_run)


def refresh(run: Path) -> None:
    """Writes the run's own report anew, where what it is drawn with is installed."""
    from importlib.util import find_spec

    if find_spec("ray") is None:  # of [train]; a robot's or a CI's [eval] has no runs
        return
    from physai.train.run_report import refreshed

    if note := refreshed(run):
        typer.echo(note, err=True)
