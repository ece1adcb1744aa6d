"""Records episodes for the browser: what everything looks like, and where it is in every control step."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.evaluate.episodes import finite
from physai.evaluate.progress import Meter
from physai.view.cameras import OWN, moves, viewpoint
from physai.view.stage import Stage
from physai_envs import registry
from physai_envs.env import TaskEnv
from physai_envs.shapes import Link, Shape, frame, shapes

LARGEST_TERM = 7  # numbers of an observation term that are still drawn as lines


def capture(
    stage: Stage, seeds: Iterable[int], *, camera: str = OWN, words: str = "", meter: Meter | None = None,
    max_steps: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Plays episodes, and returns a recording that `physai.view.page` shows: values of JSON, arrays as base64.

    Args:
        stage: who acts, and where.
        seeds: of the episodes.
        camera: where one stands first, a name of `physai.view.cameras`.
        words: of the title, beyond the task.
        meter: counts the steps.
        max_steps: ends an episode earlier.

    Raises:
        TaskError: if the task is somebody else's: then where its bodies are is not known.
        SimulationError: whatever `Stage.step` raises.
    """
    env = stage.ours()
    episodes, worn = [], shapes(env.scene.world)
    links = list(dict.fromkeys(shape.link for shape in worn))
    for seed in seeds:
        episodes.append(_episode(stage, env, seed, links, camera, meter, max_steps))
    return {
        "task": registry.slug(stage.spec.task), "words": words or stage.words, "hz": stage.spec.control_hz,
        "fieldOfView": viewpoint(camera, env).field_of_view_deg, "light": list(env.task.camera.light),
        "shapes": [_drawn(shape, links) for shape in worn], "rewards": [term.name for term in env.task.rewards],
        "observations": [
            {"name": term.name, "unit": term.unit, "size": term.size} for term in _small(stage)
        ], "episodes": episodes,
    }  # fmt: skip


def packed(values: Any, kind: str = "<f4") -> str:
    """Returns numbers as base64, little-endian."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")


def _small(stage: Stage) -> list[Any]:
    return [term for term in stage.spec.observations if term.size <= LARGEST_TERM]


def _drawn(shape: Shape, links: list[Link]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "link": links.index(shape.link), "kind": shape.kind, "size": list(shape.size), "color": list(shape.color),
        "at": [*shape.position, *shape.orientation],
    }  # fmt: skip
    if shape.mesh is not None:
        said["points"], said["faces"] = packed(shape.mesh[0]), packed(shape.mesh[1], "<u4")
    return said


class _Track:
    """What is kept of one episode."""

    def __init__(self, stage: Stage, env: TaskEnv, links: list[Link], camera: str) -> None:
        self._stage, self._env, self._links, self._camera = stage, env, links, camera
        self._parts = [stage.spec.observation_slices[term.name] for term in _small(stage)]
        self._following = moves(camera, env)
        self.poses: list[list[Any]] = []
        self.observations: list[NDArray[Any]] = []
        self.rewards: list[list[float]] = []
        self.cameras: list[list[float]] = []
        self.colors: list[list[float]] = []
        self._known: dict[int, Any] = {}

    def look(self) -> None:
        """Keeps this moment."""
        stage, step = self._stage, self._stage.steps
        self.poses.append([frame(link) for link in self._links])
        seen = finite(stage.observation, "an observation", stage.seed, step)
        self.observations.append(np.concatenate([seen[part] for part in self._parts] or [np.zeros(0)]))
        terms = stage.info.get("reward_terms", {})
        self.rewards.append([term.weight * terms.get(term.name, 0.0) for term in self._env.task.rewards])
        if step == 0 or self._following:
            camera = viewpoint(self._camera, self._env)
            self.cameras.append([*camera.eye, *camera.target])
        for i, (body, link) in enumerate(self._links):
            color = body.colors.get(link)
            if color is not None and self._known.get(i) != color:
                self._known[i] = color
                self.colors.append([step, i, *color])


def _episode(
    stage: Stage, env: TaskEnv, seed: int, links: list[Link], camera: str, meter: Meter | None, max_steps: int | None
) -> dict[str, Any]:
    track = _Track(stage, env, links, camera)
    stage.reset(seed)
    track.look()
    success_at = None
    while not stage.ended and (max_steps is None or stage.steps < max_steps):
        stage.step()
        track.look()
        if success_at is None and stage.success:
            success_at = stage.steps
        if meter is not None:
            meter.advance(1, f"seed {seed}, {stage.time_s:.1f} s")
    poses = np.array(track.poses, dtype=np.float32)
    moving = np.flatnonzero((poses != poses[0]).any(axis=(0, 2)))
    return {
        "seed": seed, "steps": stage.steps, "successAt": success_at, "return": stage.total,
        "still": packed(poses[0]), "moving": moving.tolist(), "poses": packed(poses[:, moving]),
        "colors": track.colors, "cameras": packed(track.cameras), "rewards": packed(track.rewards),
        "observations": packed(track.observations),
    }  # fmt: skip
