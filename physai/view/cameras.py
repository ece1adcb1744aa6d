"""Where somebody who watches can stand: the task's own camera, and four that every task has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from physai.errors import ConfigError, nearest
from physai_envs.env import TaskEnv
from physai_envs.geometry import subtract
from physai_envs.task import Camera
from physai_envs.world import Vector

OWN = "task"
CLOSE = 0.45  # share of the task's own distance from which the close camera looks
BESIDE_RISE = math.radians(12.0)  # of the side camera above the level of what it looks at
STRAIGHT_DOWN = 1e-3  # of its height, by which the camera from above stands aside, so that it knows what is up
BEHIND, ABOVE = 1.0, 0.45  # of the follower, in shares of its distance


def viewpoint(name: str, env: TaskEnv) -> Camera:
    """Returns a camera by its name, for this moment.

    Raises:
        ConfigError: if there is none of that name.
    """
    check_camera(name)
    return NAMED[name](env)


def check_camera(name: str) -> None:
    """Sees to it that there is a camera of that name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in NAMED:
        raise ConfigError(f"there is no camera {name!r}; {nearest(name, NAMED)}")


def moves(name: str, env: TaskEnv) -> bool:
    """Whether a camera goes where the robot goes."""
    if name == "follow" or env.task.camera.follows:
        return True
    return name == "close" and not env.scene.robot.model.fixed_base


def _own(env: TaskEnv) -> Camera:
    """The task's own, where it stands now."""
    camera = env.task.camera
    eye, target = env.viewpoint(camera)
    return replace(camera, eye=eye, target=target, follows=False)


def _away(camera: Camera) -> float:
    return math.dist(camera.eye, camera.target)


def _job(env: TaskEnv) -> Vector:
    """What everything is about: the tip of an arm, or the middle of a machine that drives [m]."""
    robot = env.scene.robot
    if robot.model.fixed_base and robot.model.tool is not None:
        return robot.tip_position
    return robot.body.position if not robot.model.fixed_base else _own(env).target


def _top(env: TaskEnv) -> Camera:
    camera = _own(env)
    x, y, z = camera.target
    height = _away(camera)
    away_x, away_y, _ = subtract(camera.eye, camera.target)
    level = math.hypot(away_x, away_y) or 1.0
    aside = STRAIGHT_DOWN * height / level
    return replace(camera, eye=(x + aside * away_x, y + aside * away_y, z + height))


def _side(env: TaskEnv) -> Camera:
    """A quarter turn to the left of the task's own, and low."""
    camera = _own(env)
    x, y, z = camera.target
    away_x, away_y, _ = subtract(camera.eye, camera.target)
    level, distance = math.hypot(away_x, away_y) or 1.0, _away(camera)
    out = distance * math.cos(BESIDE_RISE) / level
    return replace(camera, eye=(x - out * away_y, y + out * away_x, z + distance * math.sin(BESIDE_RISE)))


def _close(env: TaskEnv) -> Camera:
    camera, job = _own(env), _job(env)
    shift = subtract(camera.eye, camera.target)
    return replace(camera, eye=tuple(j + CLOSE * s for j, s in zip(job, shift, strict=True)), target=job)


def _follow(env: TaskEnv) -> Camera:
    """Rides behind a machine that drives; keeps the tip of an arm in the middle of the picture."""
    camera, robot = _own(env), env.scene.robot
    if robot.model.fixed_base:
        return replace(camera, target=_job(env))
    distance = min(_away(camera), _riding_distance(env))
    riding = Camera(eye=(-BEHIND * distance, 0.0, ABOVE * distance), target=(0.3 * distance, 0.0, 0.0), follows=True)
    eye, target = env.viewpoint(riding)
    return replace(camera, eye=eye, target=target)


def _riding_distance(env: TaskEnv) -> float:
    """Four times the size of the machine [m], so that it fills a quarter of the picture."""
    return 4.0 * env.scene.robot.body.extent


NAMED: dict[str, Callable[[TaskEnv], Camera]] = {
    OWN: _own, "top": _top, "side": _side, "close": _close, "follow": _follow,
}  # fmt: skip
