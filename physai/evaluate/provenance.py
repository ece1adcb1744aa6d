"""Where a result comes from: versions, machine, and the physics it was made with."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from physai.deploy.bundle import spec_to_json
from physai.deploy.files import canonical_json, sha256
from physai.errors import TaskError
from physai.spec import PolicySpec
from physai_envs import registry

ENGINE = ("gymnasium", "numpy", "pybullet")  # what an episode is computed with
LEARNING = ("onnx", "onnxruntime", "sb3-contrib", "stable-baselines3", "torch")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide a result, where they are installed."""
    found = {"python": platform.python_version()}
    for name in ("physai", *ENGINE, *LEARNING):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Returns the machine in words: system, architecture, processor, cores."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def physics_digest(spec: PolicySpec) -> str:
    """Returns a SHA-256 of what an episode is computed from: the declared task and the versions of the engine.

    Equal digests promise equal episodes on one machine; numbers of different digests must not be compared.
    """
    engine = {name: version for name, version in versions().items() if name in ENGINE}
    facts: dict[str, Any] = {"spec": spec_to_json(spec), "versions": engine}
    try:
        task = registry.task(spec.task)
    except TaskError:
        return sha256(canonical_json(facts))  # a foreign environment declares nothing more
    facts["rewards"] = [[term.name, term.weight, term.low, term.high] for term in task.rewards]
    facts["randomization"] = [[term.name, term.low, term.high, term.unit] for term in task.randomization]
    facts["clock"] = [task.episode_s, task.hold_s, task.physics.hz, task.control_hz]
    return sha256(canonical_json(facts))
