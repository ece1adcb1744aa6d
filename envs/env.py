"""The one environment class. Every task is an instance of it; none subclasses it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from struct import Struct
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from physai.errors import ActionError, ConfigError, SimulationError, TaskError, nearest
from physai.spec import ActionMap, PolicySpec
from physai_envs.geometry import yaw_of
from physai_envs.robot import Robot
from physai_envs.task import Camera, Scene, Task
from physai_envs.world import Vector, World

TEST_SEED_START = 1_000_000  # training draws episode seeds below, evaluation from here up
DYNAMICS_STREAM, SENSOR_STREAM, LINK_STREAM, COMMAND_STREAM = 0, 1, 2, 3  # random streams of one episode
DISTURBANCES = {"noise_scale": "1", "action_delay_s": "s", "observation_delay_s": "s", "observation_drop": "1"}  # units
RESET_OPTIONS = ("difficulty", "randomization", *DISTURBANCES)
SMALL = 8  # numbers of an observation term up to which plain floats are faster than numpy
NOISE_BLOCK = 16  # steps whose sensor noise is drawn at once


class SensorModel:
    """Noise, bias, dropout and delay of the declared observations, on the flat vector."""

    def __init__(self, spec: PolicySpec) -> None:
        terms = spec.observations

        def spread(attribute: str) -> NDArray[np.float64]:
            return np.concatenate([np.full(term.size, getattr(term, attribute)) for term in terms])

        self._noise, self._bias_std, self._dropout = spread("noise_std"), spread("bias_std"), spread("dropout")
        self._inexact, self._drops = self._noise.any() or self._bias_std.any(), self._dropout.any()
        self._low, self._high = spec.observation_low.astype(float), spec.observation_high.astype(float)
        self._bias = np.zeros(spec.observation_size)
        self._delays = [
            (spec.observation_slices[term.name], round(term.delay_s * spec.control_hz))
            for term in terms
            if term.delay_s
        ]
        self._history: list[list[NDArray[np.float64]]] = []
        self._rng = np.random.default_rng(0)
        self._errors: Iterator[NDArray[np.float64]] = iter(())

    def reset(self, rng: np.random.Generator, scale: float = 1.0) -> None:
        """Draws the biases of an episode; noise and biases are `scale` times as large as declared."""
        self._rng = rng
        self._bias = rng.standard_normal(len(self._bias)) * (self._bias_std * scale)
        self._history = [[] for _ in self._delays]
        self._errors = self._noise_of_steps(self._noise * scale)

    def _noise_of_steps(self, noise: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Yields bias and noise of one step after the other; drawn in blocks, which costs a third of single draws."""
        while True:
            yield from self._rng.standard_normal((NOISE_BLOCK, len(noise))) * noise + self._bias

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Turns true values into readings within the declared limits, a new float32 array."""
        for (part, steps), history in zip(self._delays, self._history, strict=True) if self._delays else ():
            history.append(values[part].copy())
            if len(history) > steps + 1:
                del history[0]
            values[part] = history[0]
        if self._inexact:
            values += next(self._errors)
        if self._drops:
            np.copyto(values, self._high, where=self._rng.random(len(values)) < self._dropout)
        return values.clip(self._low, self._high, out=values).astype(np.float32)


class Link:
    """A slow and lossy way from the sensors to the policy: whole readings come late, or the one before comes again."""

    def __init__(self, delay_steps: int, drop: float, rng: np.random.Generator) -> None:
        self._delay_steps, self._drop, self._rng = delay_steps, drop, rng
        self._on_the_way: list[Any] = []
        self._arrived: Any = None

    def __call__(self, reading: Any) -> Any:
        """Takes the reading of this step, and returns what the policy gets."""
        self._on_the_way.append(reading)
        due = self._on_the_way.pop(0) if len(self._on_the_way) > self._delay_steps else self._on_the_way[0]
        if self._arrived is None or self._rng.random() >= self._drop:
            self._arrived = due
        return self._arrived


class TaskEnv(gym.Env[Any, NDArray[np.float32]]):
    """A task as a Gymnasium environment.

    An episode is a pure function of (task, version, seed, options, actions), bit for bit, in any process, after any
    history. `reset(seed=S)` plays episode S; without a seed, an episode below `TEST_SEED_START` is drawn.

    Args:
        task: the declaration.
        visual: load visual shapes so that `render` works; the physics is the same.
        goal_env: goal-conditioned variant with a Dict observation, for tasks that declare a goal.
        render_mode: ``rgb_array`` implies `visual`.
    """

    def __init__(
        self, task: Task, *, visual: bool = False, goal_env: bool = False, render_mode: str | None = None
    ) -> None:
        self.task, self.goal_env, self.render_mode = task, goal_env, render_mode
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": int(task.control_hz)}
        if goal_env and task.goal is None:
            raise ConfigError(f"{task.id} declares no goal, so it has no goal_env variant; leave goal_env out")
        self.policy_spec = task.policy_spec(goal_env=goal_env)
        self._terms = tuple(term for term in task.observations if not (goal_env and term.goal))
        world = World(task.physics, visual=visual or render_mode == "rgb_array")
        self.scene = Scene(world, Robot(world, task.robot))
        task.build(self.scene)
        self._substeps, self._period_s = task.substeps, 1.0 / task.control_hz
        self._max_steps = task.max_steps
        self._hold_steps = max(1, task.control_steps(task.hold_s, "hold_s"))
        self._delay_steps = task.control_steps(task.action_delay_s, "action_delay_s")
        self._bind_actions()
        self._bind_observations()
        self._rewards = [(term.name, term.function, term.weight) for term in task.rewards]
        self._sensors = tuple(self.scene.sensors.values())
        self._model = SensorModel(self.policy_spec)
        self._values = np.zeros(self.policy_spec.observation_size)
        self._ones = np.ones(self.policy_spec.observation_size)
        self._spaces()
        self._started = False

    def _bind_actions(self) -> None:
        spec = self.policy_spec
        self._action_map = ActionMap(spec)
        controllers = [term.bind(self.scene.robot, self._period_s) for term in self.task.actions]
        self._controllers = list(zip(controllers, spec.action_slices.values(), strict=True))
        self._before = tuple(c.before_physics_step for c in controllers if hasattr(c, "before_physics_step"))
        self._pending: list[list[float]] = []
        self._late_share, self._late_rng = 0.0, np.random.default_rng(0)
        self._link: Link | None = None

    def _bind_observations(self) -> None:
        """Small terms are gathered as plain numbers and written at once; a large one is an array by itself."""
        slices = self.policy_spec.observation_slices
        terms = [(term, slices[term.name], term.spec().size) for term in self._terms]
        self._small = [(term.function, size == 1) for term, _, size in terms if size <= SMALL]
        self._large = [(term.function, part) for term, part, size in terms if size > SMALL]
        places = [np.arange(part.start, part.stop) for _, part, size in terms if size <= SMALL]
        self._small_places = np.concatenate(places) if places and self._large else None
        self._fill = Struct(f"{self.policy_spec.observation_size}d").pack_into  # half the time of an assignment

    def _check_observations(self) -> None:
        """Refuses a term whose function does not return what it declares.

        Raises:
            TaskError: names the term.
        """
        for term in self._terms:
            got, size = np.shape(term.function(self.scene)), term.spec().size
            if got != () if size == 1 else got != (size,):
                raise TaskError(
                    f"{self.task.id}: observation {term.name!r} returns shape {got}; "
                    f"return {'a plain number' if size == 1 else f'{size} numbers'}, or correct its shape"
                )

    def _spaces(self) -> None:
        spec, goal = self.policy_spec, self.task.goal
        self._action_shape = (spec.action_size,)
        self.action_space = spaces.Box(-1.0, 1.0, self._action_shape, np.float32)
        vector = spaces.Box(spec.observation_low, spec.observation_high, dtype=np.float32)
        self.observation_space: spaces.Space[Any] = vector
        if self.goal_env and goal is not None:
            part = spaces.Box(goal.low, goal.high, goal.shape, np.float32)
            self.observation_space = spaces.Dict(observation=vector, achieved_goal=part, desired_goal=part)
            self.compute_reward = self._compute_reward  # its presence alone tells libraries that goals are used

    @property
    def seconds_in_physics(self) -> float:
        """Wall time spent inside the engine since construction [s]."""
        return self.scene.world.seconds_in_physics

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: which episode.
            options: ``difficulty`` in [0, 1], default 1. To see how much a policy bears: ``randomization``, a value for
                some of the declared randomisations; ``noise_scale``, how many times as large noise and biases of the
                sensors are; ``action_delay_s`` and ``observation_delay_s``, in whole control periods and beyond what is
                declared; ``observation_drop``, the chance in each step that the policy gets the reading before again.
                They change nothing else: what else is drawn stays the same.

        Raises:
            ConfigError: if an option is unknown or out of range.
        """
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(TEST_SEED_START))
        scene, task = self.scene, self.task
        options = _checked_options(options or {}, task)
        scene.difficulty = float(options.get("difficulty", 1.0))
        scene.world.reset()
        scene.rng = np.random.default_rng([seed, task.version, DYNAMICS_STREAM])
        scene.time_s = 0.0
        scene.action = scene.last_action = [0.0] * self.policy_spec.action_size
        scene.randomization = {r.name: float(scene.rng.uniform(r.low, r.high)) for r in task.randomization}
        scene.randomization.update(options.get("randomization", {}))
        for randomize in task.randomization:
            randomize.apply(scene, scene.randomization[randomize.name])
        task.reset(scene)
        scene.robot.hold_tool()
        self._action_map.reset()
        late_s, whole_steps = scene.command_delay_s, self._delay_steps + _steps(options, "action_delay_s", task)
        self._late_share, more = math.modf(late_s * task.control_hz)
        self._pending = [scene.action] * (whole_steps + int(more) + (self._late_share > 0.0))
        if self._late_share:
            self._late_rng = np.random.default_rng([seed, task.version, COMMAND_STREAM])
        for controller, _ in self._controllers:
            controller.reset()
        for sensor in self._sensors:
            sensor.reset()
        scale = float(options.get("noise_scale", 1.0))
        self._model.reset(np.random.default_rng([seed, task.version, SENSOR_STREAM]), scale)
        late, drop = _steps(options, "observation_delay_s", task), float(options.get("observation_drop", 0.0))
        self._link = None
        if late or drop:
            self._link = Link(late, drop, np.random.default_rng([seed, task.version, LINK_STREAM]))
        if not self._started:
            self._check_observations()
        self._steps, self._held, self._started = 0, 0, True
        info = {"seed": seed, "difficulty": scene.difficulty, "randomization": dict(scene.randomization)}
        observation = self._observe()
        return observation if self._link is None else self._link(observation), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Runs one control step.

        Raises:
            ActionError: if the action has another shape or is not finite; nothing has moved.
            SimulationError: if the simulation diverged.
        """
        scene, task = self.scene, self.task
        scene.last_action, scene.action = scene.action, self._checked(action)
        sent = scene.action
        if self._pending:
            self._pending.append(sent)
            sent = self._pending.pop(0)
            if self._late_share and self._late_rng.random() >= self._late_share:
                sent = self._pending[0]  # in time: the one before is no longer the newest
        command = self._action_map(sent)
        for controller, part in self._controllers:
            controller.apply(command[part])
        if task.process is not None:
            task.process(scene)
        after = [sensor.after_physics_step for sensor in self._sensors if sensor.start() is not False]
        scene.world.advance(self._substeps, self._before, after)
        scene.time_s += self._period_s
        self._steps += 1
        observation = self._observe()
        reward = 0.0
        terms = {}
        for name, function, weight in self._rewards:
            terms[name] = value = function(scene)
            reward += weight * value
        self._held = self._held + 1 if task.success(scene) else 0
        success = self._held >= self._hold_steps
        terminated = success or task.failure(scene)
        truncated = not terminated and self._steps >= self._max_steps
        info: dict[str, Any] = {"reward_terms": terms, "is_success": success}
        if terminated or truncated:
            info["metrics"] = {metric.name: float(metric.function(scene)) for metric in task.metrics}
        if self.goal_env:
            reward = self._compute_reward(observation["achieved_goal"], observation["desired_goal"], info)
        if self._link is not None:
            observation = self._link(observation)
        return observation, float(reward), terminated, truncated, info

    def _checked(self, action: Any) -> list[float]:
        given = np.asarray(action, dtype=np.float64)
        if given.shape != self._action_shape:
            raise ActionError(f"action has shape {given.shape}, {self.task.id} takes {self._action_shape}")
        if not self._started:
            raise ActionError(f"{self.task.id}: call reset() before step()")
        values: list[float] = given.tolist()
        total = sum(values)
        if total - total != 0.0:  # NaN or infinite, in one comparison
            bad = [name for name, part in self.policy_spec.action_slices.items() if not np.isfinite(given[part]).all()]
            raise ActionError(f"action {', '.join(bad)} is not finite: {values}; the robot has not moved")
        if max(values) <= 1.0 and min(values) >= -1.0:
            return values
        return [min(max(value, -1.0), 1.0) for value in values]

    def _observe(self) -> Any:
        values, scene = self._values, self.scene
        row: list[float] = []
        for function, scalar in self._small:
            if scalar:
                row.append(function(scene))  # type: ignore[arg-type]
            else:
                row.extend(function(scene))  # type: ignore[arg-type]
        if self._small_places is not None:
            values[self._small_places] = row
        elif row:
            self._fill(values, 0, *row)
        for function, part in self._large:
            values[part] = function(scene)
        total = values.dot(self._ones)
        if total - total != 0.0:
            bad = [n for n, part in self.policy_spec.observation_slices.items() if not np.isfinite(values[part]).all()]
            raise SimulationError(
                f"{self.task.id}: the simulation diverged, observation {', '.join(bad)} is not finite; reset to go on"
            )
        reading = self._model.apply(values)
        goal = self.task.goal
        if not self.goal_env or goal is None:
            return reading
        return {
            "observation": reading,
            "achieved_goal": np.asarray(goal.achieved(scene), dtype=np.float32),
            "desired_goal": np.asarray(goal.desired(scene), dtype=np.float32),
        }

    def _compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> NDArray[Any]:
        """Reward of goals, vectorised over the first axis, for hindsight relabelling."""
        return self.task.goal.reward(np.asarray(achieved_goal), np.asarray(desired_goal))

    def expert_action(self) -> NDArray[np.float32]:
        """What the task's scripted expert would do now, in [-1, 1].

        Raises:
            ConfigError: if the task has no expert.
        """
        if self.task.expert is None:
            raise ConfigError(f"{self.task.id} has no scripted expert; remove warm_start from the configuration")
        return np.clip(np.asarray(self.task.expert(self.scene), dtype=np.float32), -1.0, 1.0)

    def render(  # type: ignore[override]
        self, width: int = 640, height: int = 480, camera: Camera | None = None
    ) -> NDArray[np.uint8]:
        """Returns a picture from a camera, the task's own unless given, (height, width, 3) uint8.

        Raises:
            ConfigError: if the environment was made without visual shapes.
        """
        if not self.scene.world.visual:
            raise ConfigError("this environment has no visual shapes; make it with render_mode='rgb_array'")
        camera = camera or self.task.camera
        eye, target = self.viewpoint(camera)
        return self.scene.world.camera(eye, target, width, height, camera.field_of_view_deg, camera.light)

    def viewpoint(self, camera: Camera) -> tuple[Vector, Vector]:
        """Where a camera stands now, and where it looks, world frame [m]."""
        if not camera.follows:
            return camera.eye, camera.target
        position, orientation = self.scene.robot.body.pose
        yaw = yaw_of(orientation)
        return ride_along(position, yaw, camera.eye), ride_along(position, yaw, camera.target)

    def close(self) -> None:
        """Ends the simulation client."""
        self.scene.world.close()


def ride_along(position: Vector, yaw: float, point: Vector) -> Vector:
    """Where a point of a level frame at `position`, turned by `yaw` [rad], lies in the world [m]."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    x, y, z = point
    return position[0] + cos * x - sin * y, position[1] + sin * x + cos * y, position[2] + z


def _checked_options(options: Mapping[str, Any], task: Task) -> Mapping[str, Any]:
    for key in options:
        if key not in RESET_OPTIONS:
            raise ConfigError(f"unknown reset option {key!r}; {nearest(key, RESET_OPTIONS)}")
    difficulty = float(options.get("difficulty", 1.0))
    if not 0.0 <= difficulty <= 1.0:
        raise ConfigError(f"difficulty is {difficulty}; it must lie between 0 (easiest) and 1")
    declared = [randomize.name for randomize in task.randomization]
    for name, value in options.get("randomization", {}).items():
        if name not in declared:
            raise ConfigError(f"{task.id} draws no {name!r}; {nearest(name, declared)}")
        if not np.isfinite(value):
            raise ConfigError(f"{name} is {value}; give a finite number")
    for name in DISTURBANCES:
        value, most = float(options.get(name, 0.0)), 1.0 if name == "observation_drop" else np.inf
        if not (0.0 <= value <= most and np.isfinite(value)):
            raise ConfigError(f"{name} is {value}; it must be {f'between 0 and {most:g}' if most < 2 else '0 or more'}")
    return options


def _steps(options: Mapping[str, Any], name: str, task: Task) -> int:
    try:
        return task.control_steps(float(options.get(name, 0.0)), name)
    except TaskError as problem:
        raise ConfigError(f"reset option out of place: {problem}") from problem
