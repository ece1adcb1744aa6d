"""The engine, loaded quietly. With `body` and `world` it is the simulation room; nothing else imports pybullet.

Bullet writes its build line to stderr when it is imported, and warnings to file descriptor 1 from C, where a JSON
report may be expected. `silenced` keeps both away.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Vector = tuple[float, ...]
NO_ROTATION: Vector = (0.0, 0.0, 0.0, 1.0)
STDOUT, STDERR = 1, 2  # file descriptors


@contextlib.contextmanager
def silenced(*descriptors: int) -> Iterator[None]:
    """Sends what C code writes to these file descriptors nowhere."""
    sys.stdout.flush()
    saved, sink = [os.dup(descriptor) for descriptor in descriptors], os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(sink, descriptor)
    try:
        yield
    finally:
        for descriptor, copy in zip(descriptors, saved, strict=True):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.close(sink)


with silenced(STDOUT, STDERR):
    import pybullet as bullet
    import pybullet_data

MESHES = Path(pybullet_data.getDataPath())
multiply = bullet.multiplyTransforms
invert = bullet.invertTransform
quaternion_from_euler = bullet.getQuaternionFromEuler


@dataclass(frozen=True)
class Physics:
    """Engine settings of a task.

    `contact_threshold` is how far apart two surfaces may drift before Bullet forgets a contact point: 0.02 m for
    manipulation, 0.0001 to 0.0005 m for wheels, whose stale points otherwise double the cost of a step.
    """

    hz: int = 240
    solver_iterations: int = 20
    contact_threshold: float = 0.02
    gravity: float = 9.81
