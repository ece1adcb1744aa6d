"""Turns a trained policy into a bundle that a robot's controller can carry."""

from __future__ import annotations

from pathlib import Path


def export(source: str | Path, out: str | Path, *, task: str | None = None, version: str | None = None) -> Path:
    """Writes a bundle, after the exported network has been compared with the policy over whole episodes.

    Args:
        source: anything that `physai.policy.load_policy` takes, but a bundle.
        out: folder to write; it may exist if it is empty or a bundle, which is then replaced.
        task: needed for stable-baselines3 zips, which do not name theirs.
        version: of the policy, three numbers; default 1.0.0.

    Returns:
        The folder.

    Raises:
        ExportError: if the policy cannot be exported, differs once exported, or `out` holds something else.
        StorageError: if the folder cannot be written.
        PhysaiError: whatever `load_policy` raises.
    """
    from physai.export.bundle import VERSION, write_bundle  # here: evaluation uses the networks beside it, without onnx

    return write_bundle(source, Path(out), task, version or VERSION)
