"""What a learner is made of, as the files of a checkpoint."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from physai.train.checkpoint import Shared, pack_arrays, pack_state, unpack_arrays, unpack_state

if TYPE_CHECKING:
    from physai.train.learner import Learner

COUNTERS = ("iteration", "measured_at", "primed", "best", "cloned", "validation", "dropped")


def pack(learner: Learner) -> dict[str, bytes | Shared]:
    """Returns the files from which a learner goes on exactly where this one is."""
    interface = learner.interface
    described = {**interface.spec.to_dict(), "algorithm": learner.config.algorithm.name}
    state = {name: getattr(learner, name) for name in COUNTERS}
    state |= {"window": learner.window.pack(), "quarantine": learner.quarantine.rows()}
    files: dict[str, bytes | Shared] = {
        **learner.model.files(),
        "vecnormalize.pkl": learner.normalizer.vecnormalize(interface.observation_space, interface.action_space),
        "normalizer.npz": learner.normalizer.npz(),
        "policy.json": json.dumps(described, indent=1).encode(),
        "state.npz": pack_state(state, learner.all_groups()),
    }
    if learner.behind is not None:  # with a lag, the next iteration is collected with these
        files["behind.npz"] = pack_arrays(learner.behind)
    return files


def packed(learner: Learner) -> bytes:
    """Returns what `pack` does in one piece, for the other learners. Those that share their work have no replay."""
    files = {name: data for name, data in pack(learner).items() if isinstance(data, bytes)}
    return pack_arrays({name: np.frombuffer(data, np.uint8) for name, data in files.items()})


def unpacked(data: bytes) -> dict[str, bytes]:
    """Returns the files that `packed` put together."""
    return {name: array.tobytes() for name, array in unpack_arrays(data).items()}


def restore(learner: Learner, files: Mapping[str, bytes]) -> None:
    """Continues from what `pack` returned."""
    learner.model.restore(files)
    with np.load(io.BytesIO(files["normalizer.npz"]), allow_pickle=False) as arrays:
        learner.normalizer.restore(arrays)
    state, groups = unpack_state(files["state.npz"])
    for name in COUNTERS:
        setattr(learner, name, state[name])
    learner.window.restore(state["window"])
    learner.quarantine.restore(state["quarantine"])
    if "behind.npz" in files:
        learner.behind = unpack_arrays(files["behind.npz"])
    rollout = learner.config.rollout
    if len(groups) == rollout.groups and all(len(group) == rollout.envs_per_group for group in groups.values()):
        learner.groups = groups  # else groups or environments were changed, and all episodes begin anew
