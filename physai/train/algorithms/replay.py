"""The replay buffers of stable-baselines3: filled from fragments, and saved in blocks without pickle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.her import HerReplayBuffer

from physai.config import RunConfig
from physai.train.checkpoint import Shared, pack_arrays, unpack_arrays
from physai.train.fragment import ReplayFragment
from physai.train.normalizer import SpacesOnly
from physai_envs import registry

ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
EPISODES = ("ep_start", "ep_length")  # what hindsight knows of each step besides
REPLAY, BLOCK = "replay.npz", "replay-{:05d}.npz"
BLOCK_BYTES = 4_000_000  # 20,000 steps of Reach: a checkpoint writes one that has not changed much, a buffer has dozens


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


class Blocks:
    """A replay buffer in blocks of rows. A checkpoint takes along those that changed, and shares the others.

    Args:
        buffer: which `add` alone may change.
    """

    def __init__(self, buffer: ReplayBuffer) -> None:
        self._buffer = buffer
        self._rows = max(1, BLOCK_BYTES // sum(array[:1].nbytes for array in _arrays(buffer).values()))
        self._packed: dict[int, Shared] = {}  # as they are now

    def add(self, fragments: Sequence[ReplayFragment]) -> None:
        """Adds fragments of all groups to the buffer."""
        first, size = self._buffer.pos, self._buffer.buffer_size
        add(self._buffer, fragments)
        for row in range(first, first + len(fragments[0].rewards)):
            self._packed.pop(row % size // self._rows, None)

    def files(self) -> dict[str, bytes | Shared]:
        """Returns the buffer as numpy archives without pickle: where it stands, and its blocks."""
        buffer = self._buffer
        filled = buffer.buffer_size if buffer.full else buffer.pos
        for number in range(math.ceil(filled / self._rows)):
            if number not in self._packed:
                self._packed[number] = Shared(self._pack(number), self._again)
        told = {"position": np.array([buffer.pos, buffer.full, buffer.buffer_size, buffer.n_envs, self._rows])}
        if isinstance(buffer, HerReplayBuffer):  # the end of an episode changes all its rows, so they are in no block
            told["current_ep_start"] = buffer._current_ep_start
            for name in EPISODES:
                told[name], told[f"{name}.repeats"] = _runs(getattr(buffer, name)[:filled])
        return {REPLAY: pack_arrays(told), **{BLOCK.format(number): file for number, file in self._packed.items()}}

    def _pack(self, number: int) -> bytes:
        rows = slice(number * self._rows, (number + 1) * self._rows)
        filled = self._buffer.buffer_size if self._buffer.full else self._buffer.pos
        return pack_arrays({name: array[:filled][rows] for name, array in _arrays(self._buffer).items()})

    def _again(self, file: Shared) -> bytes | None:
        return next((self._pack(number) for number, packed in self._packed.items() if packed is file), None)

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Continues from what `files` returned.

        Raises:
            ValueError: if it is that of another configuration.
        """
        buffer, told = self._buffer, unpack_arrays(files[REPLAY])
        position, full, size, envs, rows = (int(value) for value in told["position"])
        if (size, envs) != (buffer.buffer_size, buffer.n_envs):
            raise ValueError(
                f"its replay buffer has {envs} environments and {size} steps of each, and the configuration gives "
                f"{buffer.n_envs} and {buffer.buffer_size}; keep rollout.groups, envs_per_group and buffer_size"
            )
        filled = size if full else position
        for number in range(math.ceil(filled / rows)):
            for name, values in unpack_arrays(files[BLOCK.format(number)]).items():
                _arrays(buffer)[name][number * rows :][: len(values)] = values
        if isinstance(buffer, HerReplayBuffer):
            buffer._current_ep_start = told["current_ep_start"]
            for name in EPISODES:
                getattr(buffer, name)[:filled] = np.repeat(told[name], told[f"{name}.repeats"]).reshape(envs, -1).T
        buffer.pos, buffer.full = position, bool(full)
        self._packed = {}


def _runs(columns: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns the values of (rows, environments), one environment after the other, and how often each is repeated."""
    flat = columns.T.ravel()
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]])) if len(flat) else np.zeros(0, int)
    return flat[starts], np.diff(starts, append=len(flat))


def _arrays(buffer: ReplayBuffer) -> dict[str, NDArray[Any]]:
    """The arrays of a buffer, (rows, environments, ...), by name; parts of a Dict have the name of both."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in ARRAYS:
        array: Any = getattr(buffer, name)
        if isinstance(array, dict):
            arrays |= {f"{name}.{key}": part for key, part in array.items()}
        else:
            arrays[name] = array
    return arrays
