"""RecurrentPPO of sb3-contrib on the fleet: a memory that lives in the state of a group. `train` and buffer are theirs.

The memory belongs to one policy version, so experience is never older than the policy (`max_policy_lag` 0). Fragments
carry the memory before their first step; what it was before each of the others is computed again by the learner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from torch.distributions import Distribution

from physai.config import RunConfig
from physai.train.algorithms.ppo import FromFragments, assemble
from physai.train.algorithms.ppo import policy_arguments as ppo_arguments
from physai.train.fragment import Episode, Fragment, Job, RecurrentFragment, Trace
from physai.train.normalizer import Frozen, SpacesOnly

if TYPE_CHECKING:
    from physai.train.behaviour import Package

BUFFERS = ("hidden_states_pi", "cell_states_pi", "hidden_states_vf", "cell_states_vf")  # order of a memory
State = tuple[torch.Tensor, torch.Tensor]


def policy_arguments(config: Any, action_space: gym.Space[Any]) -> dict[str, Any]:
    """Returns the arguments of sb3-contrib's policy class; learner and actors build the same network."""
    own = {"lstm_hidden_size": config.lstm_size, "n_lstm_layers": config.lstm_layers}
    return {**ppo_arguments(config, action_space), **own}


def to_states(memory: NDArray[np.float32], device: torch.device | str = "cpu") -> RNNStates:
    """Turns memories (n, 4, layers, size) into states of the two networks, tensors (layers, n, size)."""
    parts = [torch.tensor(np.ascontiguousarray(part), device=device) for part in memory.transpose(1, 2, 0, 3)]
    return RNNStates((parts[0], parts[1]), (parts[2], parts[3]))


def to_memory(states: RNNStates) -> NDArray[np.float32]:
    """Turns states of the two networks into memories (n, 4, layers, size)."""
    return torch.stack([*states.pi, *states.vf]).permute(2, 0, 1, 3).numpy().copy()


class FleetRecurrentPPO(FromFragments, RecurrentPPO):  # type: ignore[misc]
    """RecurrentPPO on a fleet."""

    def ingest(  # type: ignore[override]
        self, fragments: Sequence[RecurrentFragment], episodes: Sequence[Episode] | None = None
    ) -> None:
        """Fills the rollout buffer with the fragments of all groups, and with the memories before each step."""
        super().ingest(fragments, episodes)
        start = 0
        for fragment in fragments:
            width = fragment.rewards.shape[1]
            for name, states in zip(BUFFERS, self._memories(fragment), strict=True):
                getattr(self.rollout_buffer, name)[:, :, start : start + width] = states
            start += width

    def _memories(self, fragment: RecurrentFragment) -> NDArray[np.float32]:
        """Returns the memories before each step, (4, T, layers, E, size)."""
        policy: Any = self.policy
        states, found = to_states(fragment.memory, self.device), []
        with torch.no_grad():
            for seen, starts in zip(fragment.observations, fragment.episode_starts, strict=True):
                found.append(np.stack([part.cpu().numpy() for part in (*states.pi, *states.vf)]))
                features = policy.extract_features(torch.tensor(seen, device=self.device))
                begins = torch.tensor(starts, device=self.device)
                _, pi = policy._process_sequence(features, states.pi, begins, policy.lstm_actor)
                _, vf = policy._process_sequence(features, states.vf, begins, policy.lstm_critic)
                states = RNNStates(pi, vf)
        return np.stack(found, axis=1)


def build(
    config: RunConfig, observation_space: gym.Space[Any], action_space: gym.Space[Any], device: str = "cpu"
) -> FleetRecurrentPPO:
    """Builds the learner of a run, with the random numbers of its seed."""
    arguments = policy_arguments(config.algorithm, action_space)

    def stub() -> SpacesOnly:
        return SpacesOnly(observation_space, action_space)

    return assemble(FleetRecurrentPPO, RecurrentActorCriticPolicy, config, stub, arguments, device=device)


class RecurrentBehaviour:
    """RecurrentPPO as actors run it: sb3-contrib's own forward pass, and the memory of each environment.

    Args:
        config: of the run; it decides the network.
        observation_space: flat.
        action_space: a flat box or a number of choices.
    """

    fragment: type[Fragment] = RecurrentFragment

    def __init__(self, config: RunConfig, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        Distribution.set_default_validate_args(False)  # the checks cost as much as the network
        arguments = policy_arguments(config.algorithm, action_space)
        self.policy: Any = RecurrentActorCriticPolicy(observation_space, action_space, lambda _: 0.0, **arguments)
        self.policy.set_training_mode(False)
        self.discrete = isinstance(action_space, gym.spaces.Discrete)
        self._gamma = np.float32(config.algorithm.gamma)
        self._loaded: tuple[str, int] | None = None
        self._normalizer: Frozen | None = None
        self._first, self._states = self._blank(1), to_states(self._blank(1))
        self._judged: State | None = None  # memory of the deterministic policy
        self._steps: list[tuple[Any, ...]] = []  # observations, values, log-probabilities, critic's state afterwards

    def _blank(self, n: int) -> NDArray[np.float32]:
        layers, _, size = self.policy.lstm_hidden_state_shape
        return np.zeros((n, len(BUFFERS), layers, size), np.float32)

    def load(self, package: Package) -> None:
        """Takes over a policy version."""
        from physai.train.behaviour import take_over

        if self._loaded == (package.learner, package.version):
            return
        take_over(self.policy, package.weights)
        self._normalizer, self._loaded = package.normalizer, (package.learner, package.version)

    def _seen(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        return observations if self._normalizer is None else self._normalizer.observations(observations)

    def begin(self, job: Job, n: int) -> None:
        """Begins a fragment with the memories that the group had."""
        kept = [] if job.state is None else [env.memory for env in job.state if env.memory is not None]
        self._first = np.stack(kept) if len(kept) == n else self._blank(n)
        self._states, self._steps = to_states(self._first), []

    def sample(self, observations: NDArray[np.float32], starts: NDArray[np.bool_]) -> NDArray[Any]:
        """Draws actions as `RecurrentPPO.collect_rollouts` does."""
        seen, begins = self._seen(observations), torch.tensor(starts, dtype=torch.float32)
        actions, values, log_probs, self._states = self.policy(torch.tensor(seen), self._states, begins)
        self._steps.append((seen, values.flatten().numpy(), log_probs.numpy(), self._states.vf))
        return actions.numpy()

    def describe(self, trace: Trace) -> dict[str, Any]:
        """Returns the fields of `RecurrentFragment`."""
        observations, values, log_probs = (np.stack([step[i] for step in self._steps]) for i in range(3))
        rewards = trace.rewards if self._normalizer is None else self._normalizer.rewards(trace.rewards)
        for t, e, observation, cut_off in trace.ended:
            if cut_off:
                hidden, cell = self._steps[t][3]
                state = hidden[:, e : e + 1].contiguous(), cell[:, e : e + 1].contiguous()
                rewards[t, e] += self._gamma * self._values(observation[None], state, np.zeros(1, bool))[0]
        return {
            "observations": observations,
            "actions": trace.actions,
            "rewards": rewards,
            "episode_starts": trace.episode_starts,
            "values": values,
            "log_probs": log_probs,
            "last_values": self._values(trace.last, self._states.vf, trace.last_dones),
            "last_dones": trace.last_dones,
            "memory": self._first,
        }

    def _values(self, raw: NDArray[np.float32], state: State, starts: NDArray[np.bool_]) -> NDArray[np.float32]:
        seen = torch.tensor(self._seen(raw))
        return self.policy.predict_values(seen, state, torch.tensor(starts, dtype=torch.float32)).flatten().numpy()

    def memory(self) -> NDArray[np.float32]:
        """Returns the memories after the fragment, (n, 4, layers, size)."""
        return to_memory(self._states)

    def best(self, observations: NDArray[np.float32]) -> NDArray[Any]:
        """Returns the most likely next actions (n, k), or (n,) for choices, of n episodes."""
        if self._judged is None:
            self._judged = to_states(self._blank(len(observations))).pi
        begins = torch.zeros(len(observations))
        actions, self._judged = self.policy._predict(
            torch.tensor(self._seen(observations)), self._judged, begins, deterministic=True
        )
        return actions.numpy()

    def forget(self) -> None:
        """Begins episodes of deterministic actions."""
        self._judged = None
