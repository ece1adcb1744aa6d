"""Plays whole episodes with the exported graph, and holds each command against what stable-baselines3 would do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.deploy.bundle import acts_in_commands, command_error
from physai.deploy.graph import Graph
from physai.errors import ExportError
from physai.evaluate.episodes import play
from physai.evaluate.progress import Meter
from physai.policy import SB3Policy
from physai_envs import registry
from physai_envs.env import TEST_SEED_START

EPISODES = 5
TOLERANCE = 1e-5  # of half an action's range; float32 leaves about 1e-6
REFERENCE = "stable-baselines3 predict(normalize_obs(observation), deterministic=True)"


@dataclass(frozen=True)
class Episode:
    """One closed-loop episode: observations (t, m), commands (t, k)."""

    seed: int
    observations: NDArray[np.float32]
    commands: NDArray[Any]


@dataclass(frozen=True)
class Parity:
    """How far the graph is from the policy, over all steps of all episodes."""

    episodes: tuple[Episode, ...]
    max_abs_error: float

    @property
    def steps(self) -> int:
        """Number of commands compared."""
        return sum(len(episode.commands) for episode in self.episodes)


class Lockstep:
    """Acts by the graph, as a robot would, and asks the original at every step; has what `play` needs of a policy."""

    def __init__(self, model: bytes, policy: SB3Policy) -> None:
        self.spec = policy.spec
        self._graph, self._policy = Graph(model, policy.memory), policy
        self.observations: list[NDArray[np.float32]] = []
        self.commands: list[NDArray[Any]] = []
        self.error = np.zeros(policy.spec.action_size)
        self.differs: tuple[int, int, float] | None = None  # step, element of the command, and by how much: the first

    def reset(self) -> None:
        """Begins the next episode."""
        self.observations, self.commands = [], []
        self._graph.reset()
        self._policy.reset()

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Maps one observation (1, m) to one action (1, k) in the policy's range."""
        seen = observations.astype(np.float32)
        command = self._graph(seen)
        error = command_error(self.spec, command, self._reference(seen))[0]
        # NaN must count as the worst, and maximum passes it on.
        self.error = np.maximum(self.error, error)
        wrong = ~(error <= TOLERANCE)  # written so that NaN is wrong
        if self.differs is None and wrong.any():
            first = int(np.argmax(wrong))
            self.differs = len(self.commands), first, float(error[first])
        self.observations.append(seen[0].copy())
        self.commands.append(command[0])
        return command if acts_in_commands(self.spec) else self.spec.to_action(command)

    def _reference(self, observation: NDArray[np.float32]) -> NDArray[Any]:
        action = self._policy.predict(observation)
        if acts_in_commands(self.spec):
            return action
        spec = self.spec
        return action * spec.command_scale.astype(np.float64) + spec.command_offset


def compare(model: bytes, policy: SB3Policy, meter: Meter) -> Parity:
    """Plays the first episodes of the test range with the graph.

    Raises:
        ExportError: if a command differs by more than the tolerance; names the step and the term where it first does.
    """
    lockstep = Lockstep(model, policy)
    episodes = []
    env = registry.make(policy.task, goal_env=policy.spec.goal_env)
    try:
        for seed in range(TEST_SEED_START, TEST_SEED_START + EPISODES):
            play(env, lockstep, seed)
            episodes.append(Episode(seed, np.array(lockstep.observations), np.array(lockstep.commands)))
            _judge(lockstep, policy, seed)
            meter.advance()
    finally:
        env.close()
    return Parity(tuple(episodes), float(lockstep.error.max()))


def _judge(lockstep: Lockstep, policy: SB3Policy, seed: int) -> None:
    if lockstep.differs is None:
        return
    step, element, by = lockstep.differs
    for term in policy.spec.actions:
        part = policy.spec.action_slices[term.name]
        if part.start <= element < part.stop:
            name = term.elements[element - part.start]
            raise ExportError(
                f"the exported network differs from {policy.source}: {term.name} {name!r} by {by:.2g} of half its "
                f"range, first in step {step} of the episode with seed {seed}; {TOLERANCE:g} is allowed, and nothing "
                "was written"
            )
