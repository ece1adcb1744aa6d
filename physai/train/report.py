"""What training episodes say about a policy that still explores: means over the latest of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from physai.train.fragment import Episode
from physai.train.summary import Summary

EPISODES = 100


class Window:
    """The latest finished training episodes."""

    def __init__(self) -> None:
        self.episodes: deque[Episode] = deque(maxlen=EPISODES)

    def add(self, fragments: Sequence[Summary]) -> None:
        """Adds the episodes of an iteration."""
        for fragment in fragments:
            self.episodes.extend(fragment.episodes)

    def pack(self) -> list[dict[str, Any]]:
        """Returns them as plain JSON types."""
        return [asdict(episode) for episode in self.episodes]

    def restore(self, packed: Sequence[Mapping[str, Any]]) -> None:
        """Continues from what `pack` returned."""
        self.episodes = deque((Episode(**episode) for episode in packed), maxlen=EPISODES)


def training_row(window: Window, fragments: Sequence[Summary], seconds: float, workers: int) -> dict[str, Any]:
    """Returns the figures of an iteration.

    Args:
        window: the latest episodes.
        fragments: of this iteration.
        seconds: wall time of the iteration.
        workers: how many collected.
    """
    episodes = list(window.episodes)
    told = [episode.success for episode in episodes if episode.success is not None]
    row: dict[str, Any] = {
        "seconds": seconds,
        "steps_per_s": sum(fragment.steps for fragment in fragments) / seconds,
        "success": float(np.mean(told)) if told else None,
        "return": float(np.mean([episode.episode_return for episode in episodes])) if episodes else None,
        "length": float(np.mean([episode.length for episode in episodes])) if episodes else None,
        "physics": sum(fragment.physics_s for fragment in fragments) / (seconds * workers),
        "collected_s": sum(fragment.seconds for fragment in fragments),
        "rebuilt": sum(fragment.rebuilt for fragment in fragments),
    }
    for kind, named in (("term", "reward_terms"), ("metric", "metrics")):
        names = {name for episode in episodes for name in getattr(episode, named)}
        for name in sorted(names):
            values = [getattr(episode, named)[name] for episode in episodes if name in getattr(episode, named)]
            row[f"{kind}/{name}"] = float(np.mean(values))
    return row
