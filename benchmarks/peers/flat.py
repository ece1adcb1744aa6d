"""PandaReach of panda-gym with its observation as one vector (12,), which all three trainers take."""

import gymnasium as gym
import panda_gym  # noqa: F401  registers its tasks
from gymnasium.wrappers import FlattenObservation


def make() -> gym.Env:
    """Makes it; rewards are the negative distances, as in panda-gym's dense variant."""
    return FlattenObservation(gym.make("PandaReachDense-v3"))


gym.register("FlatPandaReach-v0", make)
