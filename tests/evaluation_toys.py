"""Small environments for the tests of evaluation, export and viewing. Workers import them, so no torch here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from physai.spec import ActionSpec, ObservationSpec, PolicySpec

TASK = "evaluation_toys:EvaluationToy-v0"
BROKEN = "evaluation_toys:EvaluationToyBroken-v0"
CHOICE = "CartPole-v1"
SEEING, PICTURE = (
    "evaluation_toys:EvaluationToySeeing-v0",
    (1, 36, 36),
)  # the smallest that stable-baselines3's CNN takes
STEPS = 12
OFFSET = 300.0  # m: large beside what varies, so that a careless normaliser loses its digits
BROKEN_SEED = 1_000_003
SPEC = PolicySpec(
    task="EvaluationToy-v0",
    control_hz=10.0,
    observations=(
        ObservationSpec("position", (2,), "m", (-1e3, -1e3), (1e3, 1e3)),
        ObservationSpec("speed", (1,), "m/s", (-np.inf,), (np.inf,)),
    ),
    actions=(
        ActionSpec("velocity", ("x", "y"), "m/s", (-0.5, 0.0), (0.5, 3.0)),
        ActionSpec("turn", ("yaw",), "rad/s", (-2.0,), (2.0,)),
    ),
)


class Toy(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """A point that moves; success in every episode with an even seed, from step 5 on."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - as Gymnasium has it

    def __init__(self, render_mode: str | None = None, broken: bool = False) -> None:
        self.render_mode, self._broken = render_mode, broken
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.policy_spec = replace(SPEC, task="EvaluationToyBroken-v0") if broken else SPEC

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self._seed, self._time = seed, 0
        self._state = OFFSET + 0.01 * self.np_random.standard_normal(3)
        return self._state.astype(np.float32), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self._time += 1
        self._state = OFFSET + 0.9 * (self._state - OFFSET) + 0.01 * np.asarray(action)
        done = self._time == STEPS
        reward = float("nan") if self._broken and self._seed == BROKEN_SEED and self._time == 7 else 0.5
        success = self._seed is not None and self._seed % 2 == 0 and self._time >= 5
        info: dict[str, Any] = {"is_success": success, "reward_terms": {"half": 0.25, "step": float(self._time)}}
        if done:
            info["metrics"] = {"last_digit": float((self._seed or 0) % 10)}
        return self._state.astype(np.float32), reward, False, done, info

    def render(self) -> Any:
        picture = np.zeros((90, 160, 3), np.uint8)
        picture[:, : 10 * self._time, 0] = 255  # a red bar that grows with time
        return picture


class Seeing(Toy):
    """The same, seen by a camera: a bright square where the point is."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode)
        del self.policy_spec
        self.observation_space = spaces.Box(0, 255, PICTURE, np.uint8)

    def _picture(self) -> NDArray[np.uint8]:
        picture = self._noise.integers(0, 60, PICTURE, dtype=np.uint8)
        x, y = (int(np.clip(18 + 100 * (value - OFFSET), 0, 32)) for value in self._state[:2])
        picture[:, x : x + 4, y : y + 4] = 250
        return picture

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._noise = np.random.default_rng(seed)
        return self._picture(), {}

    def step(self, action: NDArray[np.float32]) -> Any:
        return self._picture(), *super().step(action)[1:]


class Blind(Toy):
    """The same without a camera, as where a library for drawing is missing."""

    def render(self) -> Any:
        raise gym.error.DependencyNotInstalled("no library for drawing")


gym.register("EvaluationToy-v0", entry_point=Toy)
gym.register("EvaluationToySeeing-v0", entry_point=Seeing)
gym.register("EvaluationToyBroken-v0", entry_point=lambda **rest: Toy(broken=True, **rest))
gym.register("EvaluationToyBlind-v0", entry_point=lambda **rest: Blind(**rest))
