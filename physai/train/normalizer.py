"""Running normalisation of observations and rewards, with the semantics of stable-baselines3's VecNormalize.

Statistics are frozen while a fragment is collected. What the fragment saw comes back as moments, which the learner
merges once an iteration in the order of the groups: all actors and the stored observations use identical statistics.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from physai.config import NormalizerConfig
from physai_envs import registry

EPSILON = 1e-8  # as in VecNormalize


@dataclass(frozen=True)
class Moments:
    """Mean, variance and number of the values of a fragment, over all but the last axes."""

    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    count: int

    @classmethod
    def of(cls, values: NDArray[Any]) -> Moments:
        """Measures `values`, (n, ...), along the first axis in double precision."""
        return cls(
            np.mean(values, axis=0, dtype=np.float64), np.var(values, axis=0, dtype=np.float64), int(values.shape[0])
        )


@dataclass(frozen=True)
class Frozen:
    """The statistics that one policy version goes with. None where something is not normalised."""

    mean: NDArray[np.float64] | None
    std: NDArray[np.float64] | None
    reward_std: float | None
    clip: float

    def observations(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalises observations (n, m)."""
        if self.mean is None or self.std is None:
            return raw
        scaled = (raw - self.mean) / self.std
        np.minimum(scaled, self.clip, out=scaled)
        return np.maximum(scaled, -self.clip, out=scaled).astype(np.float32)

    def rewards(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scales rewards of any shape."""
        if self.reward_std is None:
            return raw
        return np.clip(raw / np.float64(self.reward_std), -self.clip, self.clip).astype(np.float32)


class RunningNormalizer:
    """The statistics of a run.

    Args:
        config: what is normalised.
        gamma: discount of the return whose deviation scales rewards.
        shape: of one observation.
    """

    def __init__(self, config: NormalizerConfig, gamma: float, shape: tuple[int, ...]) -> None:
        self.config, self.gamma = config, gamma
        self.observation_moments = RunningMeanStd(shape=shape)
        self.return_moments = RunningMeanStd(shape=())

    def merge(self, observations: Iterable[Moments], returns: Iterable[Moments] = ()) -> None:
        """Adds what fragments saw; the caller gives them in the order of the groups."""
        for moments in observations:
            self.observation_moments.update_from_moments(moments.mean, moments.var, moments.count)
        for moments in returns:
            self.return_moments.update_from_moments(moments.mean, moments.var, moments.count)

    def freeze(self) -> Frozen:
        """Returns the statistics of now, for actors."""
        seen, returns, config = self.observation_moments, self.return_moments, self.config
        return Frozen(
            mean=np.array(seen.mean) if config.observations else None,
            std=np.sqrt(seen.var + EPSILON) if config.observations else None,
            reward_std=float(np.sqrt(returns.var + EPSILON)) if config.rewards else None,
            clip=config.clip,
        )

    def vecnormalize(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> bytes:
        """Returns a pickled VecNormalize that plain stable-baselines3 loads; it is frozen."""
        stub = DummyVecEnv([lambda: SpacesOnly(observation_space, action_space)])
        return pickle.dumps(self.wrap(stub))

    def wrap(self, env: VecEnv) -> VecNormalize:
        """Wraps an environment, whose observations may be a Dict, in the frozen statistics of now."""
        normalize = VecNormalize(
            env, training=False, norm_obs=self.config.observations, norm_reward=self.config.rewards,
            clip_obs=self.config.clip, clip_reward=self.config.clip, gamma=self.gamma, epsilon=EPSILON,
        )  # fmt: skip
        self.refresh(normalize)
        return normalize

    def refresh(self, normalize: VecNormalize) -> None:
        """Gives the statistics of now to what `wrap` returned."""
        if self.config.observations:
            normalize.obs_rms = _split(self.observation_moments, normalize.observation_space)
        normalize.ret_rms = self.return_moments

    def npz(self) -> bytes:
        """Returns the statistics as a numpy archive without pickle."""
        seen, returns = self.observation_moments, self.return_moments
        identity = not self.config.observations
        file = io.BytesIO()
        np.savez(
            file,
            mean=np.zeros_like(seen.mean) if identity else seen.mean,
            var=np.ones_like(seen.var) if identity else seen.var,
            count=seen.count, clip=np.inf if identity else self.config.clip, epsilon=0.0 if identity else EPSILON,
            running_mean=seen.mean, running_var=seen.var,
            return_mean=returns.mean, return_var=returns.var, return_count=returns.count,
        )  # fmt: skip
        return file.getvalue()

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continues from what `npz` returned."""
        seen, returns = self.observation_moments, self.return_moments
        seen.mean, seen.var = np.array(arrays["running_mean"]), np.array(arrays["running_var"])
        seen.count = float(arrays["count"])
        returns.mean, returns.var = np.array(arrays["return_mean"]), np.array(arrays["return_var"])
        returns.count = float(arrays["return_count"])


def _split(moments: RunningMeanStd, space: gym.Space[Any]) -> Any:
    """Returns the moments as VecNormalize keeps them: for a Dict, those of each part of the flat vector."""
    if not isinstance(space, gym.spaces.Dict):
        return moments
    parts = {}
    for name, where in registry.slices(space).items():
        part = parts[name] = RunningMeanStd(shape=moments.mean[where].shape)
        part.mean, part.var, part.count = moments.mean[where], moments.var[where], moments.count
    return parts


class SpacesOnly(gym.Env[Any, Any]):
    """An environment that only says what it takes and gives: the learner simulates nothing."""

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Returns zeros; stable-baselines3 asks once for a first observation."""
        return np.zeros(self.observation_space.shape or (), self.observation_space.dtype), {}
