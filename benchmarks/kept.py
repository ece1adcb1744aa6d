"""Figures of long measurements, kept in a JSON file beside their script, so that a second call goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """Returns the records of a file, none if it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def add(path: Path, records: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """Adds a record to those of a file, and prints it."""
    records.append(record)
    path.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{record}\n")
    sys.stdout.flush()
