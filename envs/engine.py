"""The engine, loaded quietly. With `body` and `world` it is the simulation room; nothing else imports pybullet.

Bullet writes its build line to stderr when it is imported, and warnings to file descriptor 1 from C, where a JSON
report may be expected. `silenced` keeps both away.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

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


Value = TypeVar("Value")


class Readings:
    """What was read from the engine since the physics last moved, so that it can be forgotten when it moves.

    Attributes:
        made: where values are stored, and under which key.
        shared: what functions of the scene made of them, by function.
    """

    def __init__(self) -> None:
        self.made: list[tuple[dict[Any, Any], Any]] = []
        self.shared: dict[Any, Any] = {}

    def keep(self, where: dict[Any, Any], key: Any, value: Any) -> None:
        """Stores a value under `key` until `forget`."""
        where[key] = value
        self.made.append((where, key))

    def forget(self) -> None:
        """Removes all values: the state has changed."""
        for where, key in self.made:
            del where[key]
        self.made.clear()
        self.shared.clear()


class reading(Generic[Value]):  # noqa: N801 (used like `property`)
    """A property that is read once and is then a plain attribute, until the physics moves.

    Some are asked for a dozen times in a control step, and calling a function costs more than what most of them return.
    The owner has the `readings` of its world.
    """

    def __init__(self, read: Callable[[Any], Value]) -> None:
        self._read, self._name, self.__doc__ = read, read.__name__, read.__doc__

    @overload
    def __get__(self, owner: None, kind: Any = None) -> reading[Value]: ...
    @overload
    def __get__(self, owner: Any, kind: Any = None) -> Value: ...
    def __get__(self, owner: Any, kind: Any = None) -> Any:
        """Reads, and stores the value where the next look-up finds it before it comes here."""
        if owner is None:
            return self
        fields = owner.__dict__
        value = fields[self._name] = self._read(owner)
        owner.readings.made.append((fields, self._name))
        return value


@dataclass(frozen=True)
class Physics:
    """Engine settings of a task.

    `contact_threshold` is how far apart two surfaces may drift before Bullet forgets a contact point: 0.02 m for
    grasping, 0.002 m for a peg among the boxes of its hole, 0.0001 to 0.0005 m for wheels, whose stale points otherwise
    double the cost of a step. `contact_erp` is the share of a penetration that a physics step undoes; with 0.08, as in
    Bullet, what falls is millimetres deep in the floor for a quarter of a second.
    """

    hz: int = 240
    solver_iterations: int = 20
    contact_threshold: float = 0.02
    gravity: float = 9.81
    contact_erp: float | None = None
