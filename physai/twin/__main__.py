"""Runs a cell: ``python -m physai.twin BUNDLE SOCKET FAULTS``. It prints a line of JSON after each job."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from physai.deploy.bundle import load_bundle
from physai.twin.cell import Cell
from physai.twin.faults import Faults


def main(bundle: str, path: str, faults: str) -> None:
    """Serves until the controller has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the controller

    def report(result: object) -> None:
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()

    Cell(load_bundle(bundle), Path(path), Faults(**json.loads(faults)), report).serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
