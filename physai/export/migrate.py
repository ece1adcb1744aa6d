"""Brings older bundles to the present format, and takes in records of a run; the graph keeps its bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from physai.deploy.bundle import EVIDENCE, GOLDEN, OLDER, SCHEMA, read_files
from physai.deploy.files import MANIFEST, canonical_json, describe, read_described, sha256, strict_json
from physai.deploy.graph import MODEL
from physai.errors import BundleError
from physai.evaluate.progress import Meter
from physai.export import evidence
from physai.export.bundle import VERSION, complete, place

RUN_RECORD = "run"  # folder beside an older bundle that its digests did not cover
CARRIED = ("name", "task", "policy", "model", "parity", "golden", "lineage", "producer")


def migrate(folder: Path) -> bool:
    """Rewrites a bundle of the format before in the present one, with its run record as evidence.

    Returns:
        False if it has the present format already.

    Raises:
        BundleError: if it is damaged, or of no known format.
        StorageError: if it cannot be written.
    """
    try:
        raw = (folder / MANIFEST).read_bytes()
        old = strict_json(raw, MANIFEST)
        schema = old.get("schema") if isinstance(old, dict) else None
        if schema == SCHEMA:
            return False
        if schema != OLDER:
            raise ValueError(f"its schema is {str(schema)[:40]!r}; {OLDER!r} can be migrated")
        files = read_described(folder, old["files"])
        core: dict[str, Any] = {name: old[name] for name in CARRIED}
        bits = {MODEL: files[MODEL], GOLDEN: files[GOLDEN]}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise BundleError(f"bundle {folder} cannot be migrated: {problem}; export it again") from problem
    run = folder / RUN_RECORD
    records = evidence.from_folder(run if run.is_dir() else None, (sha256(raw),))
    with Meter("migrate", None) as meter:
        place(complete({**core, "version": VERSION, "parent": sha256(raw)}, bits, records, meter), folder)
    return True


def attach(folder: Path, records: Path) -> None:
    """Takes the records of a run (evaluation, configuration, curves, versions) into a bundle; a signature ends.

    Raises:
        BundleError: if the bundle is damaged, or the evaluation is of another policy.
        ExportError: if the evaluation cannot be read.
        StorageError: if it cannot be written.
    """
    try:
        contents = read_files(folder)
    except (OSError, ValueError) as problem:
        raise BundleError(f"bundle {folder} is refused: {problem}; export it again") from problem
    known = (contents.digest, str(contents.manifest["lineage"].get("checkpoint_sha256")))
    found = evidence.from_folder(records, known)
    if (records / evidence.EVALUATION).exists() and f"{EVIDENCE}/{evidence.EVALUATION}" not in found:
        raise BundleError(f"{records / evidence.EVALUATION} is the evaluation of another policy; evaluate this one")
    if not found:
        raise BundleError(f"{records} holds no records of a run; name its folder")
    files = {**contents.files, **found}
    manifest = {**contents.manifest, "parent": contents.digest, "files": describe(files)}
    place({**files, MANIFEST: canonical_json(manifest)}, folder)
