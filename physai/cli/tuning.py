"""The command that searches for a better configuration."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from physai.cli.training import Address, Arguments, configuration
from physai.errors import ConfigError


class Scheduler(str, Enum):
    """Who decides which trials go on."""

    asha = "asha"
    pbt = "pbt"


def tune(
    arguments: Arguments = None,
    space: Annotated[Path | None, typer.Option(help="YAML file: what may change, and in which range.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of configurations.")] = 16,
    scheduler: Annotated[
        Scheduler,
        typer.Option(help="asha stops the worst early; pbt lets them go on from the best, with other values."),
    ] = Scheduler.asha,
    address: Address = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Continue the search in this folder.")] = None,
) -> None:
    """Search for a better configuration. Each trial is a full run; the best is written as YAML for `physai train`."""
    if resume is not None and (arguments or space):
        raise ConfigError(f"--resume continues with what is stored in {resume}; give no configuration and no --space")
    if resume is None and space is None:
        raise ConfigError("a search needs --space FILE; configs/tune/reach.yaml is one")
    config = None if resume else configuration(arguments)
    from physai.catalog import Table
    from physai.cli.show import show
    from physai.train.tune import Search
    from physai.train.tune import tune as search

    if config is not None and space is not None:
        wanted = Search.create(config, space, trials, scheduler.value)
    else:
        wanted = Search.reopen(Path(str(resume)))
    found = search(wanted, address=address)
    head = tuple(name.rpartition(".")[2] for name in found.head)  # a terminal is narrow; trials.csv has them whole
    show(Table(f"Trials of {wanted.folder}", head, found.rows))
    typer.echo(f"best configuration: {found.best}; train it with: physai train {found.best}")
