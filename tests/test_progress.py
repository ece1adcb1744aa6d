"""The live table: what it shows of a run and of the cluster, in a wide terminal, a narrow one, and none."""

from __future__ import annotations

import threading

import pytest
from rich.console import Console

from physai.train import progress
from physai.train.progress import Node, TerminalBoard, described, line, node_table

NODES = [
    Node("head (10.0.0.1)", 4.0, 0.0, 0, True),
    Node("gpu (10.0.0.2)", 8.0, 1.0, 3, True),
    Node("gone (10.0.0.3)", 8.0, 0.0, 5, False),
]
ROW = {
    "steps": 10,
    "steps_total": 100,
    "learner_busy": 0.25,
    "physics": 0.5,
    "waiting": 0.125,
    "lag": 1.0,
    "restarts": 2,
}


def drawn(width: int, nodes: list[Node]) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(node_table(nodes, narrow=width < progress.NARROW))
    return console.export_text()


def test_a_row_tells_busy_shares_lag_and_restarts():
    told = dict(described(ROW))
    assert told["learner busy"] == "25%"
    assert told["in physics"] == "50%"
    assert told["waiting for actors"] == "12%"
    assert (told["policy lag"], told["actors restarted"]) == ("1", "2")
    assert "waiting for actors 12%" in line(ROW)


def test_the_nodes_of_a_wide_terminal():
    rows = [text.split() for text in drawn(100, NODES).splitlines() if "(10." in text]
    cells = [[word for word in row if word not in ("│", "┃")] for row in rows]
    assert cells == [
        ["head", "(10.0.0.1)", "4", "0", "0", "alive"],
        ["gpu", "(10.0.0.2)", "8", "1", "3", "alive"],
        ["gone", "(10.0.0.3)", "8", "0", "5", "lost"],
    ]


def test_a_narrow_terminal_keeps_names_and_actors():
    text = drawn(30, NODES)
    assert "CPUs" not in text
    assert all(len(row) <= 30 for row in text.splitlines())
    assert [row.split()[-2] for row in text.splitlines() if "(10." in row] == ["0", "3", "lost"]


def test_of_many_lost_nodes_only_the_latest_are_shown():
    lost = [Node(f"spot{n}", 1.0, 0.0, 0, False) for n in range(50)]
    text = drawn(100, [*lost, NODES[0]])
    assert [name for name in (f"spot{n}" for n in range(50)) if f"{name} " in text] == ["spot47", "spot48", "spot49"]
    assert "head" in text


@pytest.mark.parametrize(("count", "shown"), [(1, False), (2, True)])
def test_the_board_looks_at_the_nodes_while_it_is_told_to(monkeypatch, count, shown):
    monkeypatch.setattr(progress, "LOOK_EVERY_S", 0.02)
    looked = threading.Event()

    def read() -> list[Node]:
        looked.set()
        return NODES[:count]

    board = TerminalBoard("a run")
    with board.watching(read):
        assert looked.wait(30)
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(board._draw())
    assert ("Nodes" in console.export_text()) == shown
    looked.clear()
    assert not looked.wait(0.2), "it goes on after the context"
