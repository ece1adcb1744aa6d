"""What a bundle carries as evidence: evaluation, configuration, randomisation, versions, a list of parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from physai.deploy.bundle import EVIDENCE
from physai.deploy.files import canonical_json, sha256
from physai.deploy.graph import MODEL
from physai.errors import ExportError, TaskError
from physai.spec import PolicySpec
from physai_envs import registry

EVALUATION, RANDOMIZATION, SBOM = "evaluation.json", "randomization.json", "sbom.cdx.json"
RUN_FILES = ("config.yaml", "progress.csv", "versions.json", "warm_start.json")  # of a run, as they are


def from_task(spec: PolicySpec) -> dict[str, bytes]:
    """Returns what was randomised in training, as the task declares it."""
    try:
        drawn = registry.task(spec.task).randomization
    except TaskError:
        return {}
    table = [{"name": r.name, "low": r.low, "high": r.high, "unit": r.unit} for r in drawn]
    return {f"{EVIDENCE}/{RANDOMIZATION}": canonical_json({"task": spec.task, "uniform": table})}


def from_folder(folder: Path | None, digests: tuple[str, ...]) -> dict[str, bytes]:
    """Returns the records of a run, and its evaluation if it is of one of these policies.

    Raises:
        ExportError: if the evaluation cannot be read.
    """
    if folder is None:
        return {}
    found = {f"{EVIDENCE}/{name}": (folder / name).read_bytes() for name in RUN_FILES if (folder / name).is_file()}
    record = folder / EVALUATION
    if record.is_file():
        raw = record.read_bytes()
        try:
            evaluated = json.loads(raw)["policy"]["sha256"]
        except (ValueError, KeyError, TypeError) as problem:
            raise ExportError(
                f"{record} is no evaluation record ({problem!r}); write it again with physai eval"
            ) from problem
        if evaluated in digests:
            found[f"{EVIDENCE}/{EVALUATION}"] = raw
    return found


def parts_list(name: str, model: bytes, algorithm: str, producer: Mapping[str, str]) -> dict[str, bytes]:
    """Returns a CycloneDX 1.6 parts list: the model, and the packages that its bits depend on. It holds no time."""
    digest = sha256(model)
    packages = [
        {"type": "library", "name": package, "version": version, "purl": f"pkg:pypi/{package}@{version}",
         "bom-ref": f"pkg:pypi/{package}@{version}"}
        for package, version in sorted(producer.items())
        if package != "python"
    ]  # fmt: skip
    runtime = {"type": "platform", "name": "python", "version": producer.get("python", ""), "bom-ref": "python"}
    trained: dict[str, Any] = {
        "type": "machine-learning-model", "name": MODEL, "bom-ref": MODEL,
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "modelCard": {"modelParameters": {"task": name, "architectureFamily": algorithm}},
    }  # fmt: skip
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": {"type": "application", "name": name, "bom-ref": name}},
        "components": [trained, runtime, *packages],
        "dependencies": [{"ref": MODEL, "dependsOn": ["python", *(part["bom-ref"] for part in packages)]}],
    }  # fmt: skip
    return {f"{EVIDENCE}/{SBOM}": canonical_json(document)}
