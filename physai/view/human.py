"""A person acts: keys become actions, by the names of what the task drives."""

from __future__ import annotations

from collections.abc import Set

import numpy as np
from numpy.typing import NDArray

from physai.spec import PolicySpec
from physai_envs.window import DOWN_ARROW, LEFT_ARROW, RIGHT_ARROW, UP_ARROW

ARROWS = {UP_ARROW: "up", DOWN_ARROW: "down", LEFT_ARROW: "left", RIGHT_ARROW: "right"}

# For each element of a command, the key that drives it up and the one that drives it down.
HELD: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("x", "speed", "acceleration", "forward", "extension"), (UP_ARROW, DOWN_ARROW)),
    **dict.fromkeys(("y", "yaw_rate", "steering", "turning", "swing"), (LEFT_ARROW, RIGHT_ARROW)),
    **dict.fromkeys(("z", "lift"), (ord("w"), ord("s"))),
    **dict.fromkeys(("yaw", "sideways"), (ord("a"), ord("d"))),
    "roll": (ord("j"), ord("l")),
    "pitch": (ord("i"), ord("k")),
}
# Elements that stay where a key put them, as a valve does.
KEPT: dict[str, tuple[int, int]] = dict.fromkeys(("finger_speed", "valve"), (ord("o"), ord("c")))
SPINDLE = (ord("e"), ord("f"))
SLOW_TURN = 0.4  # share of the wheels' speed that steers


class Human:
    """Turns the keys that are down into actions of a task.

    Args:
        spec: of the task.

    Attributes:
        keys: what drives what, in words, for those who are to press them.
    """

    def __init__(self, spec: PolicySpec) -> None:
        self._low, self._high = spec.policy_low.astype(float), spec.policy_high.astype(float)
        self._held: list[tuple[int, int, float]] = []  # index, key, direction
        self._kept: list[tuple[int, int, float]] = []
        self.keys: list[tuple[str, str]] = []
        names = [(term.name, element) for term in spec.actions for element in term.elements]
        for index, (term, element) in enumerate(names):
            self._bind(index, term, element)
        self._stay = np.zeros(len(names))

    def _bind(self, index: int, term: str, element: str) -> None:
        if element.endswith("_wheel"):  # a machine that is steered by its wheels, as a tank is
            side = -1.0 if "left" in element else 1.0
            self._held += [(index, UP_ARROW, 1.0), (index, DOWN_ARROW, -1.0)]
            self._held += [(index, LEFT_ARROW, SLOW_TURN * side), (index, RIGHT_ARROW, -SLOW_TURN * side)]
            if not any(words == "wheels" for _, words in self.keys):
                self.keys.append(("arrows", "wheels"))
            return
        pair = SPINDLE if term == "spindle" else KEPT.get(element) or HELD.get(element)
        if pair is None:
            return
        bound = self._kept if element in KEPT else self._held
        bound += [(index, pair[0], 1.0), (index, pair[1], -1.0)]
        self.keys.append(("/".join(ARROWS.get(key, chr(key & 0x7F)) for key in pair), element.replace("_", " ")))

    def reset(self) -> None:
        """Lets go of everything."""
        self._stay[:] = 0.0

    def action(self, down: Set[int]) -> NDArray[np.float32]:
        """Returns what the keys that are down ask for, (k,) in the policy's range."""
        for index, key, direction in self._kept:
            if key in down:
                self._stay[index] = direction
        wish = self._stay.copy()
        for index, key, direction in self._held:
            if key in down:
                wish[index] += direction
        middle, half = 0.5 * (self._low + self._high), 0.5 * (self._high - self._low)
        return np.asarray(middle + half * wish.clip(-1.0, 1.0), dtype=np.float32)
