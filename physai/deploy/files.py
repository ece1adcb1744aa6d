"""Files under a digest: a manifest names each file with its SHA-256 and size, and nothing else lies beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def sha256(data: bytes) -> str:
    """Returns the hexadecimal SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(data: Any) -> bytes:
    """Returns JSON that is the same for equal data: sorted keys, no NaN or infinity, a newline at the end.

    Raises:
        ValueError: if a number is not finite.
    """
    return json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def describe(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Returns the ``files`` table of a manifest: SHA-256 and size [bytes] by name."""
    return {name: {"sha256": sha256(data), "size": len(data)} for name, data in files.items()}


def read_described(folder: Path, table: Any, *, allowed: Iterable[str] | None = None) -> dict[str, bytes]:
    """Reads the files that a manifest lists, and returns them as they were when the digest was checked.

    Args:
        folder: where they lie.
        table: the ``files`` entry of the manifest.
        allowed: other names that may lie in the folder; None allows any.

    Raises:
        ValueError: if the table is malformed, or a file is missing, changed, or not listed; says which.
        OSError: if a file cannot be read.
    """
    if not isinstance(table, Mapping) or not all(isinstance(entry, Mapping) for entry in table.values()):
        raise ValueError(f"{MANIFEST} has no table of files")
    present = {path.name for path in folder.iterdir()}
    missing = sorted(set(table) - present)  # a listed name is a name in this folder, so never a path out of it
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    if allowed is not None:
        extra = sorted(present - set(table) - set(allowed) - {MANIFEST})
        if extra:
            raise ValueError(f"{extra[0]} is not listed in {MANIFEST}")
    contents = {}
    for name, entry in table.items():
        data = (folder / name).read_bytes()
        if len(data) != entry.get("size") or sha256(data) != entry.get("sha256"):
            raise ValueError(f"{name} differs from its digest")
        contents[name] = data
    return contents
