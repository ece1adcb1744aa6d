"""Draws the shipped policies at work: docs/images/<task>.png, and all of them in docs/images/tasks.png.

    python docs/picture.py [TASK ...]

Each is seen in the first test episode, when it is on its way: at 0.6 of the mean time to success.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from physai import catalog
from physai.policy import load_policy
from physai_envs import registry
from physai_envs.env import TEST_SEED_START

IMAGES = Path(__file__).parent / "images"
TILE = (480, 360)  # pixels
FINER = 3  # times as many are drawn each way: the renderer has ragged edges, and shadows with stripes
WAY = 0.6  # of the time to success
COLUMNS = 4  # of the picture of all
VARIANTS = ("peg_insertion_hard",)  # not in the picture of all: they look as what they vary


def moment(name: str) -> Image.Image:
    """Returns what the camera of a task sees in the first test episode, with the shipped policy acting."""
    record = json.loads(
        (catalog.shipped_policies() / name / "evidence" / "evaluation.json").read_text(encoding="utf-8")
    )
    policy, env = load_policy(name), registry.make(name, visual=True)
    task = env.unwrapped.task
    observation, _ = env.reset(seed=TEST_SEED_START)
    policy.reset()
    seconds = WAY * (record["time_to_success_s"] or {"mean": task.episode_s})["mean"]
    for _ in range(round(seconds * task.control_hz)):
        observation, *_ = env.step(policy.act(observation[None])[0])
    picture = env.unwrapped.render(*(FINER * side for side in TILE))
    env.close()
    return Image.fromarray(picture).reduce(FINER)


def main() -> None:
    """Draws the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="default: all; the picture of all is always drawn")
    names = [catalog.slug(task) for task in registry.tasks()]
    IMAGES.mkdir(exist_ok=True)
    for name in parser.parse_args().tasks or names:
        moment(name).quantize(256).save(IMAGES / f"{name}.png", optimize=True)
    tiles = [
        np.asarray(Image.open(IMAGES / f"{name}.png").convert("RGB").resize((320, 240)))
        for name in names
        if name not in VARIANTS
    ]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
    rows = [np.hstack(tiles[first : first + COLUMNS]) for first in range(0, len(tiles), COLUMNS)]
    Image.fromarray(np.vstack(rows)).quantize(256).save(IMAGES / "tasks.png", optimize=True)


if __name__ == "__main__":
    main()
