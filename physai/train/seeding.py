"""Every random number of a run, as a function of its seed and of what it is for. Who asks, and when, is all one."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from physai.config import RunConfig

# Training draws the seeds of its episodes below, validation from here up; evaluation starts at one million.
VALIDATION_SEED_START, TEST_SEED_START = 900_000, 1_000_000

# What random numbers are for: streams of one seed never meet.
EPISODES, NOISE, LEARNING, DEMONSTRATIONS, MIXTURE, CLONING, VALIDATION = range(7)


def generator(*key: int) -> np.random.Generator:
    """Returns the generator of a key, such as (seed, stream, group, environment, episode)."""
    return np.random.default_rng(key)


def torch_seed(*key: int) -> int:
    """Returns a seed for PyTorch's generator."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def seed_learner(*key: int) -> None:
    """Seeds the global generators that stable-baselines3 draws from, so that an update repeats after a resume."""
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]))


def episode(config: RunConfig, stream: int, *key: int) -> tuple[int, dict[str, Any]]:
    """Returns seed and reset options of a training episode.

    Args:
        config: of the run.
        stream: `EPISODES` or `DEMONSTRATIONS`.
        key: group, environment, number of the episode (and round).
    """
    rng = generator(config.seed, stream, *key)
    seed = int(rng.integers(VALIDATION_SEED_START))
    options = dict(config.reset_options)
    if config.curriculum.easy_fraction > 0.0:
        easy, difficulty = rng.random() < config.curriculum.easy_fraction, float(rng.random())
        options["difficulty"] = difficulty if easy else 1.0
    return seed, options


def validation_seeds(config: RunConfig) -> list[int]:
    """Returns the seeds of the held-out episodes that decide when a run stops; training never draws them."""
    rng = generator(config.seed, VALIDATION)
    drawn = rng.choice(TEST_SEED_START - VALIDATION_SEED_START, size=config.stop.episodes, replace=False)
    return [VALIDATION_SEED_START + int(n) for n in drawn]


def reset_arguments(seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of `reset`; no options are none at all, which every environment takes."""
    return {"seed": seed, "options": dict(options) or None}
