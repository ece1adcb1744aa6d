"""The benchmark of scaling works: it trains with as many actors as it says, and prints a row for each size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 240.0  # generous: the machine may be busy


@pytest.mark.ray
def test_the_quick_mode_prints_a_row_for_8_and_for_16_groups():
    command = [sys.executable, str(ROOT / "benchmarks" / "scale.py"), "--quick", "--envs=4", "--steps=16"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    head, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    table = [dict(zip(head, row, strict=True)) for row in rows]
    assert [(row["groups"], row["steps an iteration"]) for row in table] == [("8", "512"), ("16", "1,024")]
    for row in table:
        assert row["collecting, s"] == "0.01"  # 64 steps of 200 us
        assert float(row["iteration, s"]) >= 0.01 and float(row["driver, MB"]) > 0
