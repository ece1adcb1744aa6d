"""How results look on a terminal: tables and JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from physai.catalog import Table


def show(*tables: Table, markdown: bool = False) -> None:
    """Prints tables, for a terminal or as Markdown."""
    if markdown:
        typer.echo("\n\n".join(table.markdown() for table in tables))
        return
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    for table in tables:
        drawn = RichTable(title=table.title, title_justify="left", show_header=any(table.head))
        for head in table.head:
            drawn.add_column(head, overflow="fold")
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn, markup=False)


def echo_json(data: Any) -> None:
    """Prints indented JSON."""
    typer.echo(json.dumps(data, indent=2))
