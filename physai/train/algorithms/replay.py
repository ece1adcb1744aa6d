"""The replay buffers of stable-baselines3: filled from fragments, and saved without pickle."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.her import HerReplayBuffer

from physai.config import RunConfig
from physai.train.fragment import ReplayFragment
from physai.train.normalizer import SpacesOnly
from physai_envs import registry

ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
EPISODES = ("ep_start", "ep_length")  # what hindsight knows of each step besides


class GoalStub(SpacesOnly):
    """Answers `compute_reward` for relabelled goals; the environment that knows it is made when first asked.

    Args:
        observation_space: a Dict of goals.
        action_space: of the environment.
        make: makes the environment.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        make: Callable[[], gym.Env[Any, Any]],
    ) -> None:
        super().__init__(observation_space, action_space)
        self._make, self._env = make, None

    def compute_reward(self, achieved: NDArray[Any], desired: NDArray[Any], info: Any) -> NDArray[Any]:
        """Returns the rewards (n,) of goals (n, k)."""
        if self._env is None:
            self._env = self._make().unwrapped
        return np.asarray(self._env.compute_reward(achieved, desired, info))


def hindsight(config: RunConfig, like: ReplayBuffer) -> HerReplayBuffer:
    """Builds the buffer of a run with goals, of the size and spaces of `like`."""
    spaces = like.observation_space, like.action_space
    plan: Any = config.algorithm
    stub = GoalStub(*spaces, lambda: registry.make(config.task, goal_env=True))
    return HerReplayBuffer(
        like.buffer_size * like.n_envs,
        *spaces,
        env=DummyVecEnv([lambda: stub]),
        device=like.device,
        n_envs=like.n_envs,
        n_sampled_goal=plan.her.n_sampled_goal,
        goal_selection_strategy=plan.her.goal_selection_strategy,
    )


def add(buffer: ReplayBuffer, fragments: Sequence[ReplayFragment]) -> None:
    """Adds fragments of all groups, one group beside the other, as if one vector of environments had been stepped."""

    def beside(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(fragment, name) for fragment in fragments], axis=1)

    seen, then, timeouts = beside("observations"), beside("next_observations"), beside("timeouts")
    actions, rewards, dones = beside("actions"), beside("rewards"), beside("dones")
    space, told = buffer.observation_space, ({"TimeLimit.truncated": False}, {"TimeLimit.truncated": True})
    parts = registry.slices(space) if isinstance(space, gym.spaces.Dict) else None
    for t in range(len(rewards)):
        buffer.add(
            _parts(seen[t], parts),
            _parts(then[t], parts),
            actions[t],
            rewards[t],
            dones[t],
            [told[cut_off] for cut_off in timeouts[t].tolist()],
        )


def _parts(flat: NDArray[np.float32], parts: Mapping[str, slice] | None) -> Any:
    return flat if parts is None else {name: flat[:, where] for name, where in parts.items()}


def pack(buffer: ReplayBuffer) -> bytes:
    """Returns the steps in the buffer as a numpy archive without pickle, in its order."""
    rows = buffer.buffer_size if buffer.full else buffer.pos
    arrays = {name: array[:rows] for name, array in _arrays(buffer).items()}
    if isinstance(buffer, HerReplayBuffer):
        arrays["current_ep_start"] = buffer._current_ep_start
    file = io.BytesIO()
    np.savez(file, position=np.array([buffer.pos, buffer.full, buffer.buffer_size, buffer.n_envs]), **arrays)
    return file.getvalue()


def unpack(buffer: ReplayBuffer, data: bytes) -> None:
    """Restores what `pack` returned.

    Raises:
        ValueError: if it is that of another configuration.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as kept:
        position, full, rows, envs = (int(value) for value in kept["position"])
        if (rows, envs) != (buffer.buffer_size, buffer.n_envs):
            raise ValueError(
                f"its replay buffer has {envs} environments and {rows} steps of each, and the configuration gives "
                f"{buffer.n_envs} and {buffer.buffer_size}; keep rollout.groups, envs_per_group and buffer_size"
            )
        for name, array in _arrays(buffer).items():
            array[: len(kept[name])] = kept[name]
        if isinstance(buffer, HerReplayBuffer):
            buffer._current_ep_start = np.array(kept["current_ep_start"])
    buffer.pos, buffer.full = position, bool(full)


def _arrays(buffer: ReplayBuffer) -> dict[str, NDArray[Any]]:
    """The arrays of a buffer, (rows, environments, ...), by name; parts of a Dict have the name of both."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in (*ARRAYS, *(EPISODES if isinstance(buffer, HerReplayBuffer) else ())):
        array: Any = getattr(buffer, name)
        if isinstance(array, dict):
            arrays |= {f"{name}.{key}": part for key, part in array.items()}
        else:
            arrays[name] = array
    return arrays
