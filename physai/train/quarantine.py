"""Episodes that take down whoever plays them: how one is found, and the list of those that a run plays no more.

An episode is a pure function of its seed and its actions, so one that crashes once crashes wherever it is played. Where
a process died, nobody in it can say: the second try of a job is made with watched environments, which say where they
are before they go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import gymnasium as gym

from physai.config import RunConfig
from physai.errors import EpisodeError, SimulationError
from physai.train.behaviour import Package


@dataclass(frozen=True)
class Place:
    """The call that an environment is in; `seed` is None while it is made, and `step` 0 in its reset."""

    seed: int | None
    step: int

    def __str__(self) -> str:
        if self.seed is None:
            return "while the environment was made"
        return f"in the episode with seed {self.seed}, " + (f"step {self.step}" if self.step else "in its reset")


class Watched(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that tells where it is before each call.

    Args:
        env: the environment.
        tell: hears the place, and has passed it on when it returns.
    """

    def __init__(self, env: gym.Env[Any, Any], tell: Callable[[Place], None]) -> None:
        super().__init__(env)
        self._tell, self._seed, self._step = tell, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begins an episode."""
        self._seed, self._step = seed or 0, 0
        self._tell(Place(self._seed, 0))
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps it."""
        self._step += 1
        self._tell(Place(self._seed, self._step))
        return self.env.step(action)


@dataclass(frozen=True)
class Crash:
    """An episode in quarantine: where it failed and how, and in which kind of work."""

    seed: int
    step: int
    what: str
    work: str

    def __str__(self) -> str:
        return f"{Place(self.seed, self.step)}: {self.what}"


class Findings:
    """The episodes that the jobs of one batch had to leave out. A job is done again without them.

    Args:
        config: of the run.
    """

    def __init__(self, config: RunConfig) -> None:
        self._task, self._limits = config.task, config.rollout.quarantine
        self._known = 0
        self._found: dict[int, list[Crash]] = {}

    def begin(self, package: Package) -> None:
        """Begins a batch."""
        self._known, self._found = len(package.skip), {}

    def skip(self, number: int) -> frozenset[int]:
        """Seeds that a job leaves out, besides those of its package."""
        return frozenset(crash.seed for crash in self._found.get(number, ()))

    def package(self, number: int, package: Package) -> Package:
        """Returns the package as a job gets it."""
        return without(package, self.skip(number))

    @property
    def crashes(self) -> tuple[Crash, ...]:
        """All of them, in the order of the jobs: the same for any number of actors."""
        return tuple(crash for _, crashes in sorted(self._found.items()) for crash in crashes)

    def crashed(self, number: int, crash: Crash) -> None:
        """Takes an episode that took down its process.

        Raises:
            SimulationError: if there is to be no quarantine, or if it is full.
        """
        if self._limits.of == "nothing":
            raise SimulationError(
                f"{self._task} took down its process again and again {crash}; reset with this seed to look at it, or "
                "skip such episodes with rollout.quarantine.of=crashes"
            )
        self._add(number, crash)

    def raised(self, number: int, error: EpisodeError, work: str) -> None:
        """Takes an episode that raised.

        Raises:
            EpisodeError: the same, if errors are not for the quarantine.
            SimulationError: if it is full.
        """
        if self._limits.of != "errors":
            raise error
        self._add(number, Crash(error.seed, error.step, str(error), work))

    def _add(self, number: int, crash: Crash) -> None:
        if crash.seed in self.skip(number):
            raise SimulationError(f"{self._task} failed although that episode is in quarantine: {crash}")
        self._found.setdefault(number, []).append(crash)
        count = self._known + len({found.seed for found in self.crashes})
        if count > self._limits.most:
            raise SimulationError(
                f"{count} episodes of {self._task} are in quarantine, and rollout.quarantine.most is "
                f"{self._limits.most}; the last was {crash}. Mend the environment, see quarantine.json in the run "
                "folder, or allow more"
            )


def without(package: Package, seeds: frozenset[int]) -> Package:
    """Returns the package with more seeds to skip."""
    return replace(package, skip=package.skip | seeds) if seeds else package


class Quarantine:
    """The episodes that a run plays no more; a part of its checkpoints, so that a continued run skips the same."""

    def __init__(self) -> None:
        self.crashes: dict[int, Mapping[str, Any]] = {}  # by seed

    @property
    def seeds(self) -> frozenset[int]:
        """For the next package."""
        return frozenset(self.crashes)

    def add(self, found: Sequence[Crash], iteration: int) -> list[str]:
        """Takes what a batch found; returns a line for each that is new."""
        lines = []
        for crash in found:
            if crash.seed not in self.crashes:
                self.crashes[crash.seed] = {**asdict(crash), "iteration": iteration}
                lines.append(f"quarantine: no more episodes with seed {crash.seed} ({crash})")
        return lines

    def rows(self) -> list[Mapping[str, Any]]:
        """What a checkpoint and ``quarantine.json`` hold."""
        return list(self.crashes.values())

    def restore(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Takes over what `rows` returned."""
        self.crashes = {int(row["seed"]): row for row in rows}
