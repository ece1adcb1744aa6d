"""One class per failure. Each is a sentence for a person: what was given, what is allowed, what to do.

The command line prints the message without a traceback and exits with `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PhysaiError(Exception):
    """Base of every failure that physai explains itself; anything else is a bug."""

    exit_code = 2


class ConfigError(PhysaiError):
    """Raised when a run configuration has an unknown key, a wrong type or an impossible value; lists all of them."""


class TaskError(PhysaiError):
    """Raised when a task name is unknown, or when a task declaration contradicts itself."""


class AssetError(PhysaiError):
    """Raised when a URDF, a mesh or a shipped policy is missing or cannot be read."""


class SimulationError(PhysaiError):
    """Raised when the physics returns a state that is not finite, or when a name is not in the scene."""


class EpisodeError(SimulationError):
    """Raised when an episode cannot be played on; `seed` and `step` say where, 0 is its reset."""

    def __init__(self, message: str, seed: int, step: int) -> None:
        super().__init__(message, seed, step)  # all three, so that it can be pickled
        self.seed, self.step = seed, step

    def __str__(self) -> str:
        return str(self.args[0])


class ActionError(PhysaiError):
    """Raised when an action has the wrong shape or is not finite; the simulation has not moved."""


class CheckpointError(PhysaiError):
    """Raised when no readable checkpoint is left to continue from."""


class BundleError(PhysaiError):
    """Raised when an exported bundle is damaged, incomplete, or computes something else than it recorded."""


class DeployError(PhysaiError):
    """Raised when a robot cannot be run: it does not fit the policy, is too slow, or nothing may be armed."""


class ExportError(PhysaiError):
    """Raised when a policy cannot be exported, or when the export differs from the policy it came from."""


class ClusterError(PhysaiError):
    """Raised when Ray cannot be started, reached, or give the resources that a run needs."""


class DisplayError(PhysaiError):
    """Raised when a window cannot be opened, because nothing is there to show it."""


class StorageError(PhysaiError):
    """Raised when the run folder cannot be written: no space, no permission, not reachable."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """Returns a hint that names the closest allowed word, or lists all when none is close."""
    names = sorted(allowed)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(names)}"
