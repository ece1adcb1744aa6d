"""The command that records demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demos(
    task: Annotated[str, typer.Argument(help="A task with a scripted expert.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="NPZ; default: TASK-demos.npz.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Environment seed of the first episode.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: one a core.")] = None,
    difficulty: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of every episode.")] = 1.0,
) -> None:
    """Record episodes of a task's scripted expert: observations, actions and rewards."""
    from physai import demos as recorder
    from physai.evaluate.statistics import wilson_interval
    from physai_envs import registry

    path = out or Path(f"{registry.slug(registry.task(task).id)}-demos.npz")
    played = recorder.record(task, path, episodes=episodes, seed=seed, difficulty=difficulty, workers=workers)
    passed, steps = sum(demo.success for demo in played), sum(len(demo.rewards) for demo in played)
    low, high = wilson_interval(passed, len(played))
    typer.echo(
        f"{path}: {len(played)} episodes, {steps:,} steps; the expert succeeds in {passed / len(played):.1%} "
        f"(95 % interval {low:.1%} to {high:.1%})"
    )
