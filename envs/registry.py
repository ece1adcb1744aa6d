"""Finds the task files, registers them with Gymnasium, and makes any environment by name. Starts no simulator."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from dataclasses import replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import registry as gymnasium_registry
from gymnasium.wrappers import FlattenObservation

from physai.errors import TaskError, nearest
from physai.spec import GOAL_TERMS, ActionSpec, ObservationSpec, PolicySpec

SUITES = ("home", "assembly", "mobility")
NAMESPACE = "physai/"
IMAGE_DIMENSIONS = 3  # channels, height, width
GOAL_KEYS, COMPUTE_REWARD = {"observation", *GOAL_TERMS}, "compute_reward"  # what tells a goal-conditioned environment


@cache
def _modules() -> dict[str, str]:
    """Module of each task by its file name: ``peg_insertion`` -> ``physai_envs.assembly.peg_insertion``."""
    found: dict[str, str] = {}
    for suite in SUITES:
        package = importlib.import_module(f"physai_envs.{suite}")
        for module in pkgutil.iter_modules(package.__path__):
            if module.name in found:
                raise TaskError(f"two task files are named {module.name}.py; rename one")
            found[module.name] = f"{package.__name__}.{module.name}"
    return found


def _id_of(slug_: str) -> str:
    """Full id that a task file declares, read without importing it."""
    source = importlib.util.find_spec(_modules()[slug_])
    text = Path(source.origin).read_text(encoding="utf-8") if source and source.origin else ""
    match = re.search(r'^\s+id="([A-Za-z0-9]+-v\d+)"', text, re.MULTILINE)
    if match is None:
        raise TaskError(f"{_modules()[slug_]} declares no Task with a literal id; see CONTRIBUTING")
    return NAMESPACE + match.group(1)


def register_all() -> None:
    """Registers every task with Gymnasium; importing a task waits until it is made.

    Raises:
        TaskError: if two files declare the same id.
    """
    owners: dict[str, str] = {}
    for name, module in _modules().items():
        full_id = _id_of(name)
        if full_id in owners:
            raise TaskError(f"{full_id} is declared by {owners[full_id]} and by {module}; ids must differ")
        owners[full_id] = module
        if full_id not in gymnasium_registry:
            gym.register(
                full_id,
                entry_point="physai_envs.registry:_make_ours",
                order_enforce=False,  # the environment says so itself, without a call around every step
                kwargs={"module": module},
            )


def _make_ours(module: str, **arguments: Any) -> gym.Env[Any, Any]:
    from physai_envs.env import TaskEnv

    return TaskEnv(importlib.import_module(module).TASK, **arguments)


def slug(name: str) -> str:
    """File-name form of an id: ``physai/PegInsertion-v0`` and ``Pendulum-v1`` give ``peg_insertion``, ``pendulum``."""
    word = re.sub(r"-v\d+$", "", name.split(":")[-1].split("/")[-1])
    word = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", word)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", word).lower()


def resolve(name: str) -> str:
    """Returns the full Gymnasium id of any spelling of a task, of a Gymnasium id, or of ``module:Id``.

    Raises:
        TaskError: if there is no such task, naming the nearest, or the module cannot be imported.
    """
    if ":" in name:
        module, _, rest = name.partition(":")
        try:
            importlib.import_module(module)
        except ImportError as failure:
            raise TaskError(f"cannot import {module!r} of task {name!r}: {failure}") from failure
        name = rest
    if name in gymnasium_registry:
        return name
    wanted = slug(name)
    if wanted in _modules() and _matches(name, wanted):
        return _id_of(wanted)
    known = [*_modules(), *gymnasium_registry]
    raise TaskError(f"no task {name!r}; {nearest(name, known) if len(name) > 2 else 'see `physai tasks`'}")


def _matches(name: str, wanted: str) -> bool:
    """Whether suite and version, if the name has them, are right."""
    full_id, module = _id_of(wanted), _modules()[wanted]
    prefix = name.split("/")[0] if "/" in name else ""
    version = re.search(r"-v\d+$", name)
    right_suite = prefix in ("", "physai", module.split(".")[1])
    return right_suite and (version is None or full_id.endswith(version.group(0)))


def task(name: str) -> Any:
    """Returns the declaration of one of our tasks.

    Raises:
        TaskError: if there is none by that name.
    """
    full_id = resolve(name)
    if not full_id.startswith(NAMESPACE):
        raise TaskError(f"{full_id} is not declared by physai; its own documentation describes it")
    return importlib.import_module(_modules()[slug(full_id)]).TASK


def tasks() -> tuple[Any, ...]:
    """Returns all declarations, by suite and name."""
    return tuple(importlib.import_module(_modules()[name]).TASK for name in _modules())


def make(name: str, *, visual: bool = False, goal_env: bool = False) -> gym.Env[Any, Any]:
    """Makes an environment by any name that `resolve` takes.

    A goal-conditioned one observes a flat vector too: its parts in the order of its Dict space, as `policy_spec` says;
    and so does one with pictures, row by row.

    Args:
        name: the task.
        visual: make it so that `render` returns pictures.
        goal_env: the goal-conditioned variant of a task of ours.

    Raises:
        TaskError: if it does not exist or cannot be made.
    """
    full_id = resolve(name)
    if full_id.startswith(NAMESPACE):
        env = gym.make(
            full_id, visual=visual, goal_env=goal_env, render_mode="rgb_array" if visual else None,
            disable_env_checker=True,
        )  # fmt: skip
        return FlattenObservation(env) if goal_env else env
    try:
        env = gym.make(full_id, **({"render_mode": "rgb_array"} if visual else {}))  # not all of them take it
    except (gym.error.Error, ImportError) as failure:
        raise TaskError(f"Gymnasium cannot make {full_id!r}: {failure}") from failure
    return env if goal_space(env) is None and image_space(env) is None else FlattenObservation(env)


def image_space(env: gym.Env[Any, Any]) -> spaces.Box | None:
    """Returns the space of an environment that shows pictures, also where it has been flattened; None for others."""
    space = env.unwrapped.observation_space
    return space if isinstance(space, spaces.Box) and len(space.shape) == IMAGE_DIMENSIONS else None


def goal_space(env: gym.Env[Any, Any]) -> spaces.Dict | None:
    """Returns the Dict space of a goal-conditioned environment, also where it has been flattened; None for others."""
    space = env.unwrapped.observation_space
    goals = isinstance(space, spaces.Dict) and set(space.spaces) == GOAL_KEYS and hasattr(env.unwrapped, COMPUTE_REWARD)
    return space if goals else None


def slices(space: spaces.Dict) -> dict[str, slice]:
    """Returns where the parts of a Dict of vectors lie when it is flattened."""
    ends = list(accumulate(spaces.flatdim(part) for part in space.values()))
    return {name: slice(end - spaces.flatdim(part), end) for (name, part), end in zip(space.items(), ends, strict=True)}


def policy_spec(env: gym.Env[Any, Any]) -> PolicySpec:
    """Returns the spec that an environment declares, or derives one from its spaces.

    Raises:
        TaskError: if a space is not supported (observations: a flat Box or pictures; actions: a flat Box or Discrete).
    """
    spec, goals = getattr(env.unwrapped, "policy_spec", None), goal_space(env)
    if isinstance(spec, PolicySpec):
        return spec if goals is None else replace(spec, observations=_goal_terms(env, goals, spec.observations))
    full_id = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    seen, act = image_space(env) or env.observation_space, env.action_space
    if not isinstance(seen, spaces.Box) or len(seen.shape) not in (1, IMAGE_DIMENSIONS):
        raise TaskError(f"{full_id} observes {seen}; only vectors and pictures (Box) are supported")
    observations: tuple[ObservationSpec, ...] = (_term("observation", seen),)
    if goals is not None:
        observations = _goal_terms(env, goals, (_term("observation", goals["observation"]),))
    if isinstance(act, spaces.Discrete):
        low, high = (float(act.start),), (float(act.start + act.n - 1),)
        action = ActionSpec("choice", ("choice",), "", low, high, "", None, low, high, "discrete")
    elif isinstance(act, spaces.Box) and len(act.shape) == 1:
        low, high = _floats(act.low), _floats(act.high)
        action = ActionSpec("action", tuple(f"action_{i}" for i in range(len(low))), "", low, high, "", None, low, high)
    else:
        raise TaskError(f"{full_id} acts in {act}; only flat Box and Discrete actions are supported")
    return PolicySpec(full_id, float(env.metadata.get("render_fps") or 1.0), observations, (action,))


def _term(name: str, space: Any, unit: str = "") -> ObservationSpec:
    return ObservationSpec(name, space.shape, unit, _floats(space.low), _floats(space.high))


def _goal_terms(
    env: gym.Env[Any, Any], goals: spaces.Dict, observations: tuple[ObservationSpec, ...]
) -> tuple[ObservationSpec, ...]:
    """Terms of a flattened goal-conditioned observation, in the order of the Dict space."""
    goal = getattr(getattr(env.unwrapped, "task", None), "goal", None)  # others may have a task with a goal, too
    unit = getattr(goal, "unit", "")
    parts = [observations if name == "observation" else (_term(name, space, unit),) for name, space in goals.items()]
    return tuple(term for part in parts for term in part)


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in np.asarray(values, dtype=np.float64).reshape(-1))
