"""What a person sees while a run goes on: one live table in a terminal, lines elsewhere, both on stderr.

Neither is silent for more than two seconds: a thread speaks while the run waits.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

SILENT_S = 2.0
LINE_EVERY_S = 1.0  # iterations with a replay buffer take a tenth of a second
LOOK_EVERY_S = 5.0  # at the nodes: a question to the head node, too dear for every iteration
MOST_LOST = 3  # nodes that are shown; on spot instances many come and go
NARROW = 60  # columns of a terminal in which the table of nodes has only the most important ones
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Node:
    """A machine of the cluster, with the actors of this run on it; `alive` is False when it was lost."""

    name: str
    cpus: float
    gpus: float
    actors: int
    alive: bool


class Board(Protocol):
    """Where a learner tells what it does, and hears when it has to stop."""

    def say(self, text: str) -> None:
        """Shows a line that stays."""
        ...

    def phase(self, text: str) -> None:
        """Says what goes on now."""
        ...

    def show(self, row: Row) -> None:
        """Shows the figures of an iteration."""
        ...

    def stopping(self) -> bool:
        """Whether somebody asked to stop."""
        ...


class TerminalBoard:
    """The board of a driver; used as a context manager.

    Args:
        title: of the table.
        shown: False keeps it silent.
    """

    def __init__(self, title: str, *, shown: bool = True) -> None:
        self.title, self.shown = title, shown
        self.stop_asked = threading.Event()
        self._phase, self._row, self._since, self._last = "", {}, time.monotonic(), 0.0
        self._told = float("-inf")
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._ended = threading.Event()
        self._speaker: threading.Thread | None = None
        self._lock = threading.Lock()
        self._nodes: Sequence[Node] = ()

    def __enter__(self) -> TerminalBoard:
        if self.shown and sys.stderr.isatty():
            self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=4)
            self._live.start()
        elif self.shown:
            self._speaker = threading.Thread(target=self._speak, daemon=True)
            self._speaker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._live is not None:
            self._live.stop()
        if self._speaker is not None:
            self._speaker.join()

    def say(self, text: str) -> None:
        """Shows a line that stays."""
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
        elif self.shown:
            self._line(text)

    def phase(self, text: str) -> None:
        """Says what goes on now."""
        if text != self._phase:
            self._phase, self._since = text, time.monotonic()

    def show(self, row: Row) -> None:
        """Shows the figures of an iteration."""
        self._row = dict(row)
        if self._live is None and self.shown and time.monotonic() - self._told >= LINE_EVERY_S:
            self._told = time.monotonic()
            self._line(line(row))

    def stopping(self) -> bool:
        """Whether somebody asked to stop."""
        return self.stop_asked.is_set()

    @contextmanager
    def watching(self, read: Callable[[], Sequence[Node]]) -> Iterator[None]:
        """Looks at the nodes every few seconds while the context lasts; never while an iteration waits for it."""
        if not self.shown:
            yield
            return
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(LOOK_EVERY_S if self._nodes else 0.0):
                self._nodes = read()

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _line(self, text: str) -> None:
        with self._lock:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
            self._last = time.monotonic()

    def _speak(self) -> None:
        while not self._ended.wait(0.25):
            if time.monotonic() - self._last >= SILENT_S and self._phase:
                self._line(f"  {self._phase} ... {time.monotonic() - self._since:.0f} s")

    def _draw(self) -> Group:
        table = Table(title=self.title, title_justify="left", show_header=False)
        for name, value in described(self._row):
            table.add_row(name, value)
        waited = time.monotonic() - self._since
        phase = Text(f"{self._phase} ... {waited:.0f} s" if self._phase else "")
        if len(self._nodes) < 2:
            return Group(table, phase)
        return Group(table, node_table(self._nodes, narrow=self._console.width < NARROW), phase)


def node_table(nodes: Sequence[Node], *, narrow: bool) -> Table:
    """Returns the nodes of a cluster, a row each; those that were lost come last, and only the latest of them."""
    table = Table(title="Nodes", title_justify="left")
    heads = ("node", "actors") if narrow else ("node", "CPUs", "GPUs", "actors", "")
    for head in heads:
        table.add_column(head, justify="left" if head in ("node", "") else "right", overflow="ellipsis", no_wrap=True)
    lost = [node for node in nodes if not node.alive][-MOST_LOST:]
    for node in [*(node for node in nodes if node.alive), *lost]:
        cells = [node.name, f"{node.cpus:g}", f"{node.gpus:g}", str(node.actors), "alive" if node.alive else "lost"]
        if narrow:
            cells = [node.name, str(node.actors) if node.alive else "lost"]
        table.add_row(*cells, style="" if node.alive else "dim")
    return table


def described(row: Row) -> list[tuple[str, str]]:
    """Returns the figures of a row in words, in the order in which they are shown."""
    if not row:
        return []

    def number(name: str, form: str) -> str:
        value = row.get(name)
        return "-" if value is None else format(value, form)

    shown = [
        ("steps", f"{row.get('steps', 0):,} of {row.get('steps_total', 0):,}"),
        ("steps/s", number("steps_per_s", ",.0f")),
        ("success in training", number("success", ".1%")),
        ("success held out", number("validation/success", ".1%")),
        ("return", number("return", ".3g")),
        ("return held out", number("validation/return", ".3g")),
    ]
    shown += [(f"  {key.removeprefix('term/')}", f"{row[key]:.3g}") for key in row if key.startswith("term/")]
    return [
        *shown,
        ("learner busy", number("learner_busy", ".0%")),
        ("in physics", number("physics", ".0%")),
        ("waiting for actors", number("waiting", ".0%")),
        ("policy lag", number("lag", ".2g")),
        ("actors", number("actors", "d")),
        ("actors restarted", number("restarts", "d")),
        ("episodes in quarantine", number("quarantined", "d")),
        ("time left", clock(row.get("eta_s"))),
    ]


def line(row: Row) -> str:
    """Returns the figures of a row as one line."""
    skipped = ("  ", "actors")
    told = [(n, v) for n, v in described(row) if v != "-" and not n.startswith(skipped)]
    return " | ".join(f"{name} {value}" for name, value in told)


def clock(seconds: float | None) -> str:
    """Returns a duration as hours, minutes and seconds."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
