"""Which episodes are worth a film: the best, the worst, or random ones of those that were evaluated."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from physai.deploy.bundle import EVIDENCE
from physai.errors import ConfigError
from physai.evaluate.episodes import EpisodeRecord, play
from physai.evaluate.evaluation import first_seed
from physai.evaluate.progress import Meter
from physai.policy import Policy
from physai.view.stage import Stage

TRIED = 20  # episodes that are played to choose from where no record tells
RECORD = "evaluation.json"


class Pick(str, Enum):
    """What is looked for."""

    best = "best"
    worst = "worst"
    random = "random"


def pick_of(word: str | None) -> Pick | None:
    """Returns what a person asked for.

    Raises:
        ConfigError: if there is no such choice.
    """
    if word is not None and word not in [pick.value for pick in Pick]:
        raise ConfigError(f"episodes cannot be picked by {word!r}; allowed: best, worst, random")
    return None if word is None else Pick(word)


def picked(how: Pick, stage: Stage, source: str | Path, episodes: int, seed: int) -> tuple[list[int], str]:
    """Returns the seeds of episodes, and words for the caption that tell what they were chosen from.

    The record of the evaluation tells, where there is one of this very policy; else a few episodes are played first.

    Args:
        how: what is looked for; best and worst are judged by success, then by return.
        stage: who acts, and where.
        source: as the policy was named.
        episodes: how many.
        seed: of the evaluation, and of the choice of random ones.

    Raises:
        ConfigError: if more are asked for than there are to choose from.
    """
    known = _record(stage, source)
    if how is Pick.random:
        start, count = _span(known) if known else (first_seed(seed, TRIED), max(TRIED, episodes))
        _enough(episodes, count)
        drawn = np.random.default_rng(seed).choice(count, episodes, replace=False)
        return [start + int(i) for i in drawn], f", random of {count}"
    if known and len(ranked := _ranked(known, how)) >= episodes:
        return ranked[:episodes], f", {how.value} of {_span(known)[1]}"
    records = _played(stage, first_seed(seed, max(TRIED, episodes)), max(TRIED, episodes))
    records.sort(key=lambda record: (bool(record.success), record.episode_return), reverse=how is Pick.best)
    return [record.seed for record in records[:episodes]], f", {how.value} of {len(records)}"


def _record(stage: Stage, source: str | Path) -> dict[str, Any] | None:
    """The evaluation of this very policy, of the run or in the bundle, or None."""
    if not isinstance(stage.actor, Policy):
        return None
    actor = stage.actor
    # A bundle vouches for its evidence; beside a run may lie the record of another checkpoint.
    for path, vouched in ((Path(source) / RECORD, False), (Path(actor.source) / EVIDENCE / RECORD, True)):
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_bytes())
            if (vouched or found["policy"]["sha256"] == actor.digest) and _span(found)[1] > 0:
                return dict(found)
        except (ValueError, KeyError, TypeError):
            continue  # of another age or shape; then episodes are played
    return None


def _ranked(record: dict[str, Any], how: Pick) -> list[int]:
    """The seeds of a record, those looked for first; one that ships tells of its worst episodes alone."""
    if not (rows := record.get("records")):
        return [int(one["seed"]) for one in record.get("worst", ())] if how is Pick.worst else []
    rows = sorted(rows, key=lambda row: (bool(row["success"]), row["episode_return"]), reverse=how is Pick.best)
    return [int(row["seed"]) for row in rows]


def _span(record: dict[str, Any]) -> tuple[int, int]:
    return int(record["seeds"]["start"]), int(record["seeds"]["count"])


def _enough(episodes: int, count: int) -> None:
    if episodes > count:
        raise ConfigError(f"{episodes} episodes cannot be picked of {count}; ask for fewer")


def _played(stage: Stage, first: int, count: int) -> list[EpisodeRecord]:
    records = []
    with Meter("episodes to pick from", count) as meter:
        for seed in range(first, first + count):
            records.append(play(stage.env, stage.actor, seed))
            meter.advance()
    return records
