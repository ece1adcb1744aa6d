"""Reference episodes: what an exported policy sees and does where it was trained, as numbers for its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.deploy.bundle import acts_in_commands
from physai.deploy.graph import Graph
from physai.evaluate.episodes import play
from physai.evaluate.progress import Meter
from physai.spec import ActionMap, PolicySpec
from physai_envs import registry

EPISODES, FIRST_SEED = 20, 0  # of the range that training draws from, so that the test range stays unseen
PERCENTILES = {"low": 0.0, "p0_1": 0.1, "p99_9": 99.9, "high": 100.0}

Array = NDArray[np.float64]


class Recorder:
    """Acts by the graph, and writes down what it saw and what the robot was told; has what `play` needs of a policy.

    Attributes:
        episodes: what was seen (t, m) and the commands (t, k) as the robot gets them, with their rate limits.
    """

    def __init__(self, graph: Graph, spec: PolicySpec) -> None:
        self.spec, self._graph, self._map = spec, graph, None if acts_in_commands(spec) else ActionMap(spec)
        self.episodes: list[tuple[list[Any], list[Any]]] = []

    def reset(self) -> None:
        """Begins the next episode."""
        self._graph.reset()
        if self._map is not None:
            self._map.reset()
        self.episodes.append(([], []))

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Maps one observation (1, m) to one action (1, k) in the policy's range."""
        seen = observations.astype(np.float32)
        command = self._graph(seen)
        action = command if self._map is None else self.spec.to_action(command)
        self.episodes[-1][0].append(seen[0].astype(np.float64))
        self.episodes[-1][1].append(command[0] if self._map is None else self._map(action[0]))
        return action


class Reference:
    """Statistics of the reference episodes.

    Attributes:
        seen: mean, std, extremes and percentiles of every observation, each (m,).
        rate, rate_change: largest change of a command from step to step, and of that change, from rest on, each (k,).
    """

    def __init__(self, episodes: list[tuple[list[Any], list[Any]]], spec: PolicySpec) -> None:
        observations = np.concatenate([np.array(seen) for seen, _ in episodes])
        self.steps = len(observations)
        self.seen: dict[str, Array] = {"mean": observations.mean(axis=0), "std": observations.std(axis=0)}
        for name, share in PERCENTILES.items():
            self.seen[name] = np.percentile(observations, share, axis=0)
        rest = np.clip(np.zeros(spec.action_size), spec.command_low, spec.command_high)
        self.rate = self.rate_change = np.zeros(spec.action_size)
        for _, commands in episodes:
            steps = np.diff(np.array([rest, rest, *commands], dtype=np.float64), axis=0)
            self.rate = np.maximum(self.rate, np.abs(steps).max(axis=0))
            self.rate_change = np.maximum(self.rate_change, np.abs(np.diff(steps, axis=0)).max(axis=0))

    def of_term(self, part: slice) -> Mapping[str, list[float]]:
        """Returns the statistics of one term, with seven digits: more are noise."""
        return {name: [float(f"{value:.7g}") for value in values[part]] for name, values in self.seen.items()}


def measure(graph: Graph, spec: PolicySpec, task: str, meter: Meter) -> Reference:
    """Plays the reference episodes.

    Raises:
        SimulationError: if an observation or an action is not finite.
    """
    recorder = Recorder(graph, spec)
    env = registry.make(task, goal_env=spec.goal_env)
    try:
        for seed in range(FIRST_SEED, FIRST_SEED + EPISODES):
            meter.advance(0, f"reference episode {seed - FIRST_SEED + 1} of {EPISODES}")
            play(env, recorder, seed)
    finally:
        env.close()
    return Reference(recorder.episodes, spec)
