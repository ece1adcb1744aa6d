"""Draws docs/images/tasks.png: the shipped policies at work, one tile a task.

python docs/picture.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from physai.policy import load_policy
from physai_envs import registry
from physai_envs.env import TEST_SEED_START

MOMENTS_S = {"reach": 0.4, "tidy_up": 1.9, "peg_insertion": 1.6, "amr_navigation": 4.0}  # into the episode
TILE = (480, 360)  # pixels


def moment(name: str, seconds: float) -> np.ndarray:
    """Returns what the camera of a task sees, `seconds` into the first test episode, with the shipped policy acting."""
    policy, env = load_policy(name), registry.make(name, visual=True)
    observation, _ = env.reset(seed=TEST_SEED_START)
    for _ in range(round(seconds * env.unwrapped.task.control_hz)):
        observation, *_ = env.step(policy.act(observation[None])[0])
    picture = env.unwrapped.render(*TILE)
    env.close()
    return picture


def main() -> None:
    """Draws the picture."""
    tiles = [moment(name, seconds) for name, seconds in MOMENTS_S.items()]
    rows = [np.hstack(tiles[first : first + 2]) for first in range(0, len(tiles), 2)]
    target = Path(__file__).parent / "images" / "tasks.png"
    target.parent.mkdir(exist_ok=True)
    Image.fromarray(np.vstack(rows)).save(target, optimize=True)


if __name__ == "__main__":
    main()
