"""Measures a policy on the held-out episodes of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from physai.config import RunConfig
from physai.evaluate.episodes import EpisodeRecord
from physai.train import seeding
from physai.train.behaviour import Package
from physai.train.work import Fleet


@dataclass(frozen=True)
class Verdict:
    """What a policy reached; `success` is None where no environment says."""

    success: float | None
    mean_return: float
    episodes: int

    def better_than(self, success: float | None, mean_return: float) -> bool:
        """Whether it succeeds more often than another, or as often with a higher return."""
        return (self.success or 0.0, self.mean_return) > (success or 0.0, mean_return)


def judge(config: RunConfig, fleet: Fleet, package: Package, waiting: Callable[[str], None]) -> Verdict:
    """Plays the held-out episodes with the deterministic policy.

    Args:
        config: of the run.
        fleet: plays.
        package: the policy.
        waiting: called now and then with what goes on.
    """
    seeds = seeding.validation_seeds(config)
    size = max(1, len(seeds) // (4 * fleet.workers))
    fleet.start("judge", package, [seeds[first : first + size] for first in range(0, len(seeds), size)])
    what = f"measuring on {len(seeds)} held-out episodes"
    records: list[EpisodeRecord] = [r for chunk in fleet.finish(lambda: waiting(what)) for r in chunk]
    told = [record.success for record in records if record.success is not None]
    mean_return = float(np.mean([record.episode_return for record in records]))
    unplayed = len(seeds) - len(records)  # in quarantine: what nobody can play is no success
    return Verdict(sum(told) / (len(told) + unplayed) if told else None, mean_return, len(records))
