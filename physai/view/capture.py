"""Records episodes for a browser: what everything looks like, and where it is in every control step."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from physai.evaluate.episodes import finite
from physai.evaluate.progress import Meter
from physai.view import overlay
from physai.view.cameras import NAMED, OWN, moves, viewpoint
from physai.view.stage import Stage
from physai_envs import registry
from physai_envs.shapes import Shape, frame, shapes

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
    scenery, episodes = Scenery(stage), []
    for seed in seeds:
        stage.reset(seed)
        track = scenery.track()
        while not stage.ended and (max_steps is None or stage.steps < max_steps):
            stage.step()
            track.look()
            if meter is not None:
                meter.advance(1, f"seed {seed}, {stage.told_time(stage.steps)}")
        episodes.append(track.recorded())
    return {**scenery.described(camera, words), "episodes": episodes}


def packed(values: Any, kind: str = "<f4") -> str:
    """Returns numbers as base64, little-endian."""
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")


class Scenery:
    """What of a stage stays the same from episode to episode.

    Args:
        stage: one of our tasks.

    Raises:
        TaskError: if it is somebody else's.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage, self.env = stage, stage.ours()
        self._worn = shapes(self.env.scene.world)
        self.links = list(dict.fromkeys(shape.link for shape in self._worn))
        self._terms = [term for term in stage.spec.observations if term.size <= LARGEST_TERM]
        self.parts = [stage.spec.observation_slices[term.name] for term in self._terms]
        self.moving_cameras = [name for name in NAMED if moves(name, self.env)]

    def described(self, camera: str, words: str = "") -> dict[str, Any]:
        """Returns what a page has to know before the first episode."""
        stage, task = self.stage, self.env.task
        return {
            "task": registry.slug(stage.spec.task), "words": words or stage.words, "hz": stage.spec.control_hz,
            "fieldOfView": viewpoint(camera, self.env).field_of_view_deg, "light": list(task.camera.light),
            "camera": camera, "shapes": [self._drawn(shape) for shape in self._worn],
            "rewards": [term.name for term in task.rewards], "forces": list(overlay.forces(self.env.scene)),
            "observations": [
                {"name": term.name, "unit": overlay.written(term.unit), "size": term.size} for term in self._terms
            ],
            "metrics": {metric.name: overlay.written(metric.unit) for metric in task.metrics},
        }  # fmt: skip

    def track(self) -> Track:
        """Starts to record an episode, which has just been reset."""
        return Track(self)

    def _drawn(self, shape: Shape) -> dict[str, Any]:
        said: dict[str, Any] = {
            "link": self.links.index(shape.link), "kind": shape.kind, "size": list(shape.size),
            "color": list(shape.color), "at": [*shape.position, *shape.orientation],
        }  # fmt: skip
        if shape.mesh is not None:
            said["points"], said["faces"] = packed(shape.mesh[0]), packed(shape.mesh[1], "<u4")
        return said


class Track:
    """What is kept of one episode.

    Attributes:
        colors: what changed its colour: step, link, and the colour.
        goals: where the goal was from which step on [m].
    """

    def __init__(self, scenery: Scenery) -> None:
        self._scenery, self._stage, self._env = scenery, scenery.stage, scenery.env
        self.seed, self.actor = self._stage.seed, self._stage.words
        self.success_at: int | None = None
        self._poses: list[NDArray[np.float32]] = []
        self._rows: dict[str, list[Any]] = {"rewards": [], "observations": [], "forces": []}
        self._rays: list[NDArray[np.float32]] = []
        self._cameras: dict[str, list[list[float]]] = {name: [] for name in NAMED}
        self.colors: list[list[float]] = []
        self.goals: list[list[float]] = []
        self._known: dict[int, Any] = {}
        self.look()

    def look(self) -> None:
        """Keeps this moment."""
        stage, env, scenery = self._stage, self._env, self._scenery
        step = stage.steps
        if self.success_at is None and stage.success and step:
            self.success_at = step
        self._poses.append(np.array([frame(link) for link in scenery.links], np.float32))
        seen = finite(stage.observation, "an observation", stage.seed, step)
        terms = stage.info.get("reward_terms", {})
        self._rows["observations"].append(np.concatenate([seen[part] for part in scenery.parts] or [np.zeros(0)]))
        self._rows["rewards"].append([term.weight * terms.get(term.name, 0.0) for term in env.task.rewards])
        self._rows["forces"].append(list(overlay.forces(env.scene).values()))
        self._rays.append(np.array(overlay.sight(env.scene), np.float32).reshape(-1, 3))
        for name in NAMED if step == 0 else scenery.moving_cameras:
            camera = viewpoint(name, env)
            self._cameras[name].append([*camera.eye, *camera.target])
        for i, (body, link) in enumerate(scenery.links):
            color = body.colors.get(link)
            if color is not None and self._known.get(i) != color:
                self._known[i] = color
                self.colors.append([step, i, *color])
        place = overlay.goal(env.scene)
        if place is not None and (not self.goals or tuple(self.goals[-1][1:]) != place):
            self.goals.append([step, *place])

    def first(self) -> dict[str, Any]:
        """Returns what a live page has to know at the beginning of an episode."""
        return {
            "seed": self.seed, "actor": self.actor, "still": packed(self._poses[0]),
            "cameras": {name: rows[0] for name, rows in self._cameras.items()},
        }  # fmt: skip

    def latest(self) -> dict[str, Any]:
        """Returns this moment, as seen from the first one: whoever missed some in between misses nothing else."""
        pose, stage = self._poses[-1], self._stage
        moved = np.flatnonzero((pose != self._poses[0]).any(axis=1))
        return {
            "step": stage.steps, "successAt": self.success_at, "return": stage.total, "ended": stage.ended,
            "links": moved.tolist(), "poses": packed(pose[moved]), "rays": packed(self._rays[-1]),
            "cameras": {name: self._cameras[name][-1] for name in self._scenery.moving_cameras},
            **{name: packed(rows[-1]) for name, rows in self._rows.items()},
        }  # fmt: skip

    def recorded(self) -> dict[str, Any]:
        """Returns all of it, as part of a recording."""
        stage, poses = self._stage, np.stack(self._poses)
        moving = np.flatnonzero((poses != poses[0]).any(axis=(0, 2)))
        seen = any(map(len, self._rays))
        return {
            "seed": self.seed, "actor": self.actor, "steps": stage.steps, "successAt": self.success_at,
            "return": stage.total, "metrics": dict(stage.info.get("metrics", {})), "still": packed(poses[0]),
            "moving": moving.tolist(), "poses": packed(poses[:, moving]), "colors": self.colors, "goals": self.goals,
            "cameras": {name: packed(rows) for name, rows in self._cameras.items()},
            "rayCounts": [len(rays) for rays in self._rays] if seen else [],
            "rays": packed(np.concatenate(self._rays)) if seen else "",
            **{name: packed(rows) for name, rows in self._rows.items()},
        }  # fmt: skip
