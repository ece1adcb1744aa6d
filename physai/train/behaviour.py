"""The policy as actors run it: the numbers of stable-baselines3, without the objects it builds at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from torch.distributions import Categorical, Distribution, Normal

from physai.config import RunConfig
from physai.spec import PolicySpec
from physai.train.algorithms.network import Network
from physai.train.algorithms.ppo import policy_arguments
from physai.train.fragment import Fragment, Job, OnPolicyFragment, Trace
from physai.train.normalizer import Frozen


@dataclass(frozen=True)
class Package:
    """What goes out to the actors once an iteration: one policy version and the statistics it goes with.

    `learner` is a word that no other learner has: after a restart, the same number can mean another policy. Episodes
    with a seed in `skip` are not played: they are in quarantine.
    """

    version: int
    learner: str
    weights: Mapping[str, NDArray[Any]]
    normalizer: Frozen
    skip: frozenset[int] = frozenset()


class Behaviour(Protocol):
    """What actors ask of an algorithm: actions, and what a fragment must carry for the learner.

    Attributes:
        discrete: whether actions are choices.
        fragment: class of fragments, whose own fields `describe` returns.
    """

    discrete: bool
    fragment: type[Fragment]

    def load(self, package: Package) -> None:
        """Takes over a policy version and its statistics."""
        ...

    def begin(self, job: Job, n: int) -> None:
        """Begins the fragment of a job, of `n` environments; PyTorch's generator has been seeded for it."""
        ...

    def sample(self, observations: NDArray[np.float32], starts: NDArray[np.bool_]) -> NDArray[Any]:
        """Draws actions (n, k), or (n,) for choices, for raw observations (n, m); `starts`: of which episodes begin."""
        ...

    def describe(self, trace: Trace) -> dict[str, Any]:
        """Returns the arrays of the fragment that has been sampled."""
        ...

    def memory(self) -> NDArray[np.float32] | None:
        """Returns what the policy remembers after the fragment, (n, ...); None if it remembers nothing."""
        ...

    def best(self, observations: NDArray[np.float32]) -> NDArray[Any]:
        """Returns the deterministic actions (n, k), or (n,) for choices; the next of an episode if it remembers."""
        ...

    def forget(self) -> None:
        """Begins an episode of deterministic actions."""
        ...


class BehaviourPolicy:
    """PPO: computes actions, values and log-probabilities of one policy version.

    Args:
        config: of the run; it decides the network.
        observation_space: flat.
        action_space: a flat box or a number of choices.
    """

    fragment: type[Fragment] = OnPolicyFragment

    def __init__(self, config: RunConfig, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        Distribution.set_default_validate_args(False)  # the checks cost as much as the network
        arguments = policy_arguments(config.algorithm, action_space)
        policy: Any = ActorCriticPolicy(observation_space, action_space, lambda _: 0.0, **arguments)
        policy.set_training_mode(False)
        self.policy, self._gamma = policy, np.float32(config.algorithm.gamma)
        self.discrete = isinstance(action_space, gym.spaces.Discrete)
        self._actor = Network(policy.mlp_extractor.policy_net, policy.action_net)
        self._critic = Network(policy.mlp_extractor.value_net, policy.value_net)
        self._loaded: tuple[str, int] | None = None
        self._normalizer: Frozen | None = None
        self._std = torch.zeros(0)
        self._steps: list[tuple[NDArray[Any], ...]] = []  # observations and means (or logits) of this fragment

    def load(self, package: Package) -> None:
        """Takes over a policy version."""
        if self._loaded == (package.learner, package.version):
            return
        take_over(self.policy, package.weights)
        with torch.no_grad():
            if not self.discrete:
                self._std = self.policy.log_std.exp()
        self._normalizer, self._loaded = package.normalizer, (package.learner, package.version)

    def _seen(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        return observations if self._normalizer is None else self._normalizer.observations(observations)

    def begin(self, job: Job, n: int) -> None:
        """Begins a fragment."""
        self._steps = []

    def sample(self, observations: NDArray[np.float32], starts: NDArray[np.bool_]) -> NDArray[Any]:
        """Draws actions as `ActorCriticPolicy.forward` does, with the same use of PyTorch's generator."""
        normalized = self._seen(observations)
        mean = self._actor(tensor(normalized))
        if self.discrete:
            actions = Categorical(logits=mean).sample()
        else:
            actions = mean + torch.empty(mean.shape).normal_() * self._std
        self._steps.append((normalized, mean.numpy()))
        return actions.numpy()

    def describe(self, trace: Trace) -> dict[str, Any]:
        """Returns the fields of `OnPolicyFragment`."""
        observations, means = (np.stack(arrays) for arrays in zip(*self._steps, strict=True))
        # Nobody needs them sooner, and here the network is not out of the caches each time. Step by step and not as one
        # batch: matrix products of another height differ in the last bit.
        values = np.stack([self.values(seen) for seen, _ in self._steps])
        rewards = trace.rewards if self._normalizer is None else self._normalizer.rewards(trace.rewards)
        for t, e, observation, cut_off in trace.ended:
            if cut_off:
                rewards[t, e] += self._gamma * self.values(self._seen(observation[None]))[0]
        return {
            "observations": observations,
            "actions": trace.actions,
            "rewards": rewards,
            "episode_starts": trace.episode_starts,
            "values": values,
            "log_probs": self.log_probs(trace.actions[..., 0] if self.discrete else trace.actions, means),
            "last_values": self.values(self._seen(trace.last)),
            "last_dones": trace.last_dones,
        }

    def memory(self) -> None:
        """Returns None: nothing is remembered."""
        return

    def log_probs(self, actions: NDArray[Any], means: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the log-probabilities of drawn actions; the last axis is that of the elements or choices."""
        drawn, mean = torch.from_numpy(actions), torch.from_numpy(means)
        if self.discrete:
            return Categorical(logits=mean).log_prob(drawn).numpy()
        return Normal(mean, self._std.expand_as(mean)).log_prob(drawn).sum(dim=-1).numpy()

    def best(self, observations: NDArray[np.float32]) -> NDArray[Any]:
        """Returns the most likely actions (n, k), or (n,) for choices."""
        logits = self._actor(tensor(self._seen(observations)))
        return (logits.argmax(dim=1) if self.discrete else logits).numpy()

    def forget(self) -> None:
        """Does nothing: there is no memory."""

    def values(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the values (n,) of normalised observations (n, m)."""
        return self._critic(tensor(observations)).flatten().numpy()


def take_over(module: torch.nn.Module, weights: Mapping[str, NDArray[Any]]) -> None:
    """Copies weights into a module in place: views of them stay valid."""
    with torch.no_grad():
        for name, value in module.state_dict().items():
            # Arrays from the object store are read-only, which torch warns about; parameters are small.
            value.copy_(torch.from_numpy(np.array(weights[name])))


def tensor(array: NDArray[Any]) -> torch.Tensor:
    """Copies an array to where torch keeps its own: the last bit of a matrix product depends on the alignment."""
    return torch.tensor(array)


class Deterministic:
    """The policy as it is judged: raw observations in, most likely actions out. What `evaluate.episodes.play` asks.

    Args:
        policy: with the version loaded.
        spec: of the task.
    """

    def __init__(self, policy: Behaviour, spec: PolicySpec) -> None:
        self.policy, self.spec = policy, spec

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Maps raw observations (n, m) to actions (n, k) in the policy's range."""
        with torch.inference_mode():
            actions = self.policy.best(observations.astype(np.float32))
        if self.policy.discrete:
            return actions.reshape(-1, 1)
        return np.clip(actions, self.spec.policy_low, self.spec.policy_high)

    def reset(self) -> None:
        """Begins an episode."""
        self.policy.forget()
