"""A tiny goal-conditioned environment: ``goal_toys:Goals-v0`` names it anywhere."""

from __future__ import annotations

import numpy as np
import toys
from gymnasium import spaces


class Goals(toys.Target):
    """The same point with goals anywhere; the reward is -1 a step until it is within 0.4 of its goal."""

    def __init__(self, steps: int = 12, render_mode: str | None = None) -> None:
        super().__init__(steps, render_mode)
        part = spaces.Box(-10.0, 10.0, (2,), np.float32)
        self.observation_space = spaces.Dict(
            observation=spaces.Box(-1000.0, 1000.0, (3,), np.float32), achieved_goal=part, desired_goal=part
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        self.goal = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return self.observe(), {}

    def observe(self):
        vector = super().observe()
        if not hasattr(self, "goal"):
            return vector
        return {"observation": vector, "achieved_goal": self.at.astype(np.float32), "desired_goal": self.goal.copy()}

    def step(self, action):
        seen, _, _, _, _ = super().step(action)
        reward = float(self.compute_reward(seen["achieved_goal"][None], self.goal[None], {})[0])
        success = reward == 0.0
        return seen, reward, success, self.t >= self.steps and not success, {"is_success": success}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) >= 0.4).astype(np.float32)

    def expert_action(self):
        return np.clip((self.goal - self.at) / 0.3, -1, 1).astype(np.float32)


toys.register("Goals-v0", Goals)
