"""The words a task is declared with. Frozen data: names are Python objects, so a typo is an import error."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from physai.errors import TaskError
from physai.spec import ObservationSpec, PolicySpec, limits
from physai_envs.control import ActionTerm
from physai_envs.robot import Robot, RobotModel
from physai_envs.sensors import Sensor
from physai_envs.world import Body, Physics, Vector, World


class Scene:
    """What task functions see: the world, the robot, bodies by name, sensors, and the facts of this episode.

    Observation, reward, success and failure functions read it; only `build`, `reset` and `process` write.

    Attributes:
        memory: what `reset` decided and later functions need (start distance, goal, cart speeds).
        randomization: value of every declared randomisation in this episode, by name.
        command_delay_s: how late commands reach the drives in this episode, on average: each by whole control periods,
            rounded up or down by chance; the newest that has come counts. `terms.set_command_delay` sets it.
        difficulty: of this episode, 0 (easiest) to 1.
        rng: generator of this episode; sensor noise has its own.
        time_s: since reset [s].
        action: last action of the policy, in [-1, 1], (n,); `last_action` is the one before.
        shared: what functions marked with `shared` returned since the physics last moved.
    """

    def __init__(self, world: World, robot: Robot) -> None:
        self.world, self.robot = world, robot
        self.sensors: dict[str, Any] = {}
        self.memory = SimpleNamespace()
        self.randomization: dict[str, float] = {}
        self.command_delay_s = 0.0
        self.difficulty = 1.0
        self.rng = np.random.default_rng(0)
        self.time_s = 0.0
        self.action: list[float] = []
        self.last_action: list[float] = []
        self.shared = world.readings.shared
        self._bodies = world.bodies

    def __getitem__(self, name: str) -> Body:
        body = self._bodies.get(name)
        return self.world[name] if body is None else body  # the world says which bodies there are

    def add_sensor(self, name: str, sensor: Sensor) -> None:
        """Registers a sensor that is sampled after every physics step."""
        self.sensors[name] = sensor


Value = float | Sequence[float] | NDArray[Any]
Computed = TypeVar("Computed")


def shared(function: Callable[[Scene], Computed]) -> Callable[[Scene], Computed]:
    """Marks a function of the scene that several terms ask for: it is computed once until the physics moves."""

    @wraps(function)
    def look(s: Scene) -> Computed:
        computed = s.shared
        if function in computed:
            return computed[function]  # type: ignore[no-any-return]
        value = computed[function] = function(s)
        return value

    return look


@dataclass(frozen=True)
class Observation:
    """One named observation in SI units; see `physai.spec.ObservationSpec` for the noise model.

    `goal` marks a term that tells the goal, which the goal-conditioned variant moves to ``desired_goal``.
    """

    name: str
    function: Callable[[Scene], Value]
    shape: tuple[int, ...]
    unit: str
    low: float | Vector
    high: float | Vector
    frame: str = "world"
    noise_std: float = 0.0
    bias_std: float = 0.0
    dropout: float = 0.0
    delay_s: float = 0.0
    goal: bool = False

    def spec(self) -> ObservationSpec:
        """The part of the declaration that travels with the policy."""
        size = int(np.prod(self.shape, dtype=int))
        return ObservationSpec(
            self.name, self.shape, self.unit, limits(self.low, size), limits(self.high, size), self.frame,
            self.noise_std, self.bias_std, self.dropout, self.delay_s,
        )  # fmt: skip


@dataclass(frozen=True)
class Reward:
    """One named reward term: a pure function with values in [low, high], and its weight."""

    name: str
    function: Callable[[Scene], float]
    weight: float
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Randomize:
    """One quantity drawn uniformly from [low, high] in every episode, and the function that applies it."""

    name: str
    low: float
    high: float
    unit: str
    apply: Callable[[Scene, float], None]


@dataclass(frozen=True)
class Metric:
    """A figure of merit that evaluation reports, read when the episode ends; `what` is for functions without words."""

    name: str
    function: Callable[[Scene], float]
    unit: str
    what: str = ""


@dataclass(frozen=True)
class Goal:
    """Makes a task goal-conditioned: what is achieved, what is desired, and a reward of the two (vectorised).

    `reward(achieved (n, k), desired (n, k)) -> (n,)`.
    """

    achieved: Callable[[Scene], Value]
    desired: Callable[[Scene], Value]
    shape: tuple[int, ...]
    unit: str
    low: float
    high: float
    reward: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Camera:
    """Where somebody who watches stands, and where the lamp is, farther away than anything that is seen [m].

    With `follows`, eye and target are in the level frame of the robot's body: the watcher rides along.
    """

    eye: Vector
    target: Vector
    field_of_view_deg: float = 45.0
    light: Vector = (0.86, -0.57, 1.71)
    follows: bool = False


@dataclass(frozen=True)
class Task:
    """A task, complete. One file declares one.

    Attributes:
        success: true when the goal is reached; it must hold for `hold_s` before the episode ends.
        failure: ends the episode without success.
        process: what the scene does by itself before each control step (carts, belts).
        expert: scripted controller, scene -> action in [-1, 1], for demonstrations.
        action_delay_s: age of an action when it reaches the motors.
        solved_at: share of unseen episodes that a policy must pass to count as a solution; shipped ones are held to it.
    """

    id: str
    suite: str
    robot: RobotModel
    control_hz: float
    physics: Physics
    episode_s: float
    actions: tuple[ActionTerm, ...]
    observations: tuple[Observation, ...]
    rewards: tuple[Reward, ...]
    build: Callable[[Scene], None]
    reset: Callable[[Scene], None]
    success: Callable[[Scene], bool]
    failure: Callable[[Scene], bool]
    camera: Camera
    summary: str = ""
    randomization: tuple[Randomize, ...] = ()
    metrics: tuple[Metric, ...] = ()
    hold_s: float = 0.0
    action_delay_s: float = 0.0
    process: Callable[[Scene], None] | None = None
    expert: Callable[[Scene], Sequence[float]] | None = None
    goal: Goal | None = None
    solved_at: float = 0.95

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9]+-v\d+", self.id):
            raise TaskError(f"task id {self.id!r} is not of the form Name-v0")
        self.periods(1.0 / self.control_hz, "control period")
        for term in self.observations:
            self.control_steps(term.delay_s, f"delay of observation {term.name!r}")
        self.control_steps(self.hold_s, "hold_s")
        self.control_steps(self.action_delay_s, "action_delay_s")
        self.control_steps(self.episode_s, "episode_s")
        for kind, terms in (("observation", self.observations), ("reward", self.rewards), ("metric", self.metrics)):
            names = [term.name for term in terms]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise TaskError(f"{self.id}: two {kind} terms are named {min(twice)!r}; names must differ")

    @property
    def full_id(self) -> str:
        """The Gymnasium id."""
        return f"physai/{self.id}"

    @property
    def version(self) -> int:
        """Number after the last ``-v``."""
        return int(self.id.rsplit("-v", 1)[1])

    @property
    def substeps(self) -> int:
        """Physics steps in a control step."""
        return self.periods(1.0 / self.control_hz, "control period")

    @property
    def max_steps(self) -> int:
        """Control steps in an episode."""
        return self.control_steps(self.episode_s, "episode_s")

    def periods(self, seconds: float, what: str) -> int:
        """Converts a time to physics steps.

        Raises:
            TaskError: if it is not a whole number of them.
        """
        return _whole(seconds * self.physics.hz, f"{self.id}: {what} {seconds:g} s", f"physics at {self.physics.hz} Hz")

    def control_steps(self, seconds: float, what: str) -> int:
        """Converts a time to control steps.

        Raises:
            TaskError: if it is not a whole number of them.
        """
        return _whole(seconds * self.control_hz, f"{self.id}: {what} {seconds:g} s", f"control at {self.control_hz} Hz")

    def policy_spec(self, *, goal_env: bool = False) -> PolicySpec:
        """What a policy of this task sees and does."""
        physics = self.physics
        return PolicySpec(
            task=self.full_id,
            control_hz=self.control_hz,
            observations=tuple(term.spec() for term in self.observations if not (goal_env and term.goal)),
            actions=tuple(action.spec() for action in self.actions),
            action_delay_s=self.action_delay_s,
            physics={
                "engine": "bullet",
                "hz": physics.hz,
                "solver_iterations": physics.solver_iterations,
                "contact_threshold": physics.contact_threshold,
                "gravity": physics.gravity,
                **({} if physics.contact_erp is None else {"contact_erp": physics.contact_erp}),
            },
        )


def _whole(steps: float, what: str, clock: str) -> int:
    if abs(steps - round(steps)) > 1e-6:
        raise TaskError(f"{what} is {steps:.3f} steps of {clock}; it must be a whole number of steps")
    return round(steps)
