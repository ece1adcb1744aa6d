"""Who computes a command: the server, else the last one while it is valid, else the policy on board; else it brakes.

    REMOTE -> HELD -> LOCAL      at once, when an answer does not come within its budget
    REMOTE <- HELD or LOCAL      after CLIMB answers in a row that would have been in time

A tick waits for the network no longer than the budget, and after a miss not at all: requests go on as probes, whose
answers are judged and thrown away. HELD is only there for a policy on board that is another, weaker one: where it is
the same bundle, the right command is at hand. A recurrent policy does not hold either, for its memory would miss a
step; that memory stays on the robot, and travels with each request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Protocol

import numpy as np

from physai.deploy.bundle import Bundle
from physai.deploy.infer import Array
from physai.deploy.remote import Answer
from physai.errors import DeployError

BUDGET_SHARE = 0.5  # of the deadline, for the way there and back; the other half is for the policy on board
CLIMB = 10  # answers in a row: at 20 Hz half a second, longer than a handover between radio cells shakes a link
PROBE_EVERY = 5  # ticks, while answers do not come: the radio sleeps in between


class Link(Protocol):
    """What the ladder needs of `Remote`; neither call waits longer than it is told to."""

    def ask(self, sequence: int, budget_s: float, observation: Array, memory: Mapping[str, Array]) -> bool:
        """Sends a request; False if nobody would hear it."""
        ...

    def take(self, sequence: int, wait_s: float) -> Answer | None:
        """Returns the answer to a request, or None."""
        ...


class Rung(Enum):
    """Who computed a command; see the module."""

    REMOTE = "remote"
    HELD = "held"
    LOCAL = "local"


class Ladder:
    """Computes commands as `Graph` does, with the help of a server.

    Args:
        bundle: that the server computes.
        link: to the server.
        fallback: another policy for the same robot, computed on board; None computes the same bundle there.
        clock: of the robot [ns].

    Attributes:
        rung: who computed the last command; `valid_s` is for how long it may be used from now.
        counts: commands of each rung; `missed` are those that the server was waited for in vain.

    Raises:
        DeployError: if the policy on board sees or commands something else, or is too slow.
    """

    def __init__(
        self,
        bundle: Bundle,
        link: Link,
        fallback: Bundle | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.bundle, self.link, self.local, self.clock = bundle, link, fallback or bundle, clock
        if self.local.spec != bundle.spec:
            raise DeployError("the fallback sees or commands something else than the policy; give one of the same task")
        control = bundle.interface.control
        self.budget_s = BUDGET_SHARE * control.deadline_s
        slow = float(np.percentile(self.local.seconds, 99))
        if slow > control.deadline_s - self.budget_s:
            left = control.deadline_s - self.budget_s
            raise DeployError(
                f"the policy on board needs {slow * 1e3:.1f} ms here and {left * 1e3:g} ms are left beside "
                "the network; give a smaller one (--fallback)"
            )
        self._digest, self._expiry_ns = bytes.fromhex(bundle.digest), round(control.expiry_s * 1e9)
        self._budget_ns = round(self.budget_s * 1e9)
        self._holds = self.local is not bundle and not bundle.graph.initial
        self._sequence = 0
        self.counts = dict.fromkeys(Rung, 0)
        self.missed = 0
        self.rung, self.valid_s = Rung.REMOTE, control.expiry_s
        self._last_ns = self._good = self._since_probe = 0
        self._probe: tuple[int, int] | None = None
        self.reset()

    def reset(self) -> None:
        """Begins an episode: forgets what was seen and commanded, and not how the network is."""
        self.bundle.graph.reset()
        self.local.graph.reset()
        self._last: Any = None

    def __call__(self, observation: Array) -> Array:
        """Returns the command (1, k) for an observation (1, m)."""
        now = self.clock()
        self.valid_s = self._expiry_ns * 1e-9
        command = None
        if self.rung is Rung.REMOTE or self._recovered():
            command = self._remote(observation, now)
        elif self._good or self._since_probe >= PROBE_EVERY or not self._since_probe:
            self._since_probe = 1
            sequence = self._ask(observation)
            self._probe = None if sequence is None else (sequence, now)
        else:
            self._since_probe += 1
        if command is None:
            command = self._on_board(observation, now)
        self.counts[self.rung] += 1
        return command

    def _ask(self, observation: Array) -> int | None:
        self._sequence += 1
        sent = self.link.ask(self._sequence, self.budget_s, observation[0], self.bundle.graph.memory)
        return self._sequence if sent else None

    def _remote(self, observation: Array, now: int) -> Array | None:
        sequence = self._ask(observation)
        answer = None if sequence is None else self.link.take(sequence, self.budget_s)
        if answer is None or not self._in_time(answer, sequence, now):
            self.missed += 1
            return None
        self.rung, self._good, self._probe = Rung.REMOTE, 0, None
        self.bundle.graph.memory = answer.memory
        self._last, self._last_ns = answer.command, now
        return answer.command

    def _in_time(self, answer: Answer | None, sequence: int | None, asked_ns: int) -> bool:
        """Whether an answer is of this request, this bundle, and within its budget, by this robot's clock alone."""
        if answer is None or answer.sequence != sequence or answer.digest != self._digest:
            return False
        return answer.received_ns - asked_ns <= self._budget_ns

    def _recovered(self) -> bool:
        """Judges the last probe, and says whether enough of them came back in time."""
        if self._probe is not None:
            sequence, asked_ns = self._probe
            good = self._in_time(self.link.take(sequence, 0.0), sequence, asked_ns)
            self._good, self._probe = self._good + 1 if good else 0, None
        return self._good >= CLIMB

    def _on_board(self, observation: Array, now: int) -> Array:
        if self.rung is Rung.REMOTE:
            self._since_probe = 0
            if self.local is not self.bundle:
                self.local.graph.reset()
                self.bundle.graph.reset()  # what it remembered is of an episode that goes on without it
        self._good = self._good if self._good < CLIMB else 0
        left = self._expiry_ns - (now - self._last_ns)
        if self._holds and self._last is not None and left > 0 and self.rung is not Rung.LOCAL:
            self.rung, self.valid_s = Rung.HELD, left * 1e-9
            return self._last  # type: ignore[no-any-return]
        self.rung, self._last = Rung.LOCAL, None
        return self.local.graph(observation)
