"""The command that trains, and what it has in common with those that train elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from physai.cli import find
from physai.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from physai.config import RunConfig

Arguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG] [KEY=VALUE]...", help="A YAML file or a name of `configs/`; overrides."),
]
GoOn = Annotated[
    bool,
    typer.Option("--continue", help="Continue the run of this name if there is one: for jobs that are started again."),
]
Address = Annotated[str | None, typer.Option(help="Ray cluster: auto or host:port; default: one of its own.")]


def train(
    arguments: Arguments = None,
    address: Address = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Continue this run folder, or `newest`.")] = None,
    go_on: GoOn = False,
) -> None:
    """Train a policy. `physai train peg_insertion`, or `physai train task=Pendulum-v1 stop.steps=50000`."""
    run = None
    if resume:
        names, overrides = _sorted(arguments)
        run = find.newest_run() if resume == "newest" else find.located(resume)
        if names:
            raise ConfigError(f"{names[0]!r} is not needed: --resume continues with the configuration stored in {run}")
        if not (run / "config.yaml").exists():
            raise CheckpointError(f"{run} is no run folder (no config.yaml in it); `physai runs` lists the runs")
        from physai.config import RunConfig

        config = RunConfig.load(run / "config.yaml", overrides)
    else:
        config = configuration(arguments)
        run = begun(config) if go_on else None
    from physai.train.driver import train as run_training

    run_training(config, address=address, resume=str(run) if run else None)


def begun(config: RunConfig) -> Path | None:
    """Returns the run folder of this configuration, if it was begun.

    Raises:
        ConfigError: if the run has no name of its own.
    """
    if config.name is None:
        raise ConfigError("--continue needs a name that is the same every time; give name=NAME")
    from physai_envs.registry import slug

    folder = find.located(config.storage) / slug(config.task) / config.name
    return folder if (folder / "config.yaml").is_file() else None


def configuration(arguments: list[str] | None) -> RunConfig:
    """Returns the configuration that the words of a command line describe.

    Raises:
        ConfigError: if there is none, more than one, or something is wrong with it.
    """
    names, overrides = _sorted(arguments)
    if not names and not any(word.startswith("task=") for word in overrides):
        known = ", ".join(find.shipped_configs())
        raise ConfigError(f"no configuration given; name a file, one of {known}, or task=ID")
    path = find.find_config(names[0]) if names else None
    from physai.config import RunConfig

    return RunConfig.load(path, overrides)


def _sorted(arguments: list[str] | None) -> tuple[list[str], list[str]]:
    """Parts names of configurations from overrides."""
    words = arguments or []
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise ConfigError(f"one configuration can be trained at a time, not {len(names)} ({', '.join(names)})")
    return names, [word for word in words if "=" in word]
