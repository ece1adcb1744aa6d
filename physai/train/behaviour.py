"""The policy as actors run it: the numbers of stable-baselines3, without the objects it builds at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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


class BehaviourPolicy:
    """Computes actions, values and log-probabilities of one policy version.

    Args:
        config: of the run; it decides the network.
        observation_space: flat.
        action_space: a flat box or a number of choices.
    """

    def __init__(self, config: RunConfig, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        Distribution.set_default_validate_args(False)  # the checks cost as much as the network
        arguments = policy_arguments(config.algorithm, action_space)
        policy: Any = ActorCriticPolicy(observation_space, action_space, lambda _: 0.0, **arguments)
        policy.set_training_mode(False)
        self.policy = policy
        self.discrete = isinstance(action_space, gym.spaces.Discrete)
        self._actor = Network(policy.mlp_extractor.policy_net, policy.action_net)
        self._critic = Network(policy.mlp_extractor.value_net, policy.value_net)
        self._loaded: tuple[str, int] | None = None
        self._std = torch.zeros(0)

    def load(self, package: Package) -> None:
        """Takes over a policy version."""
        if self._loaded == (package.learner, package.version):
            return
        with torch.no_grad():
            for name, value in self.policy.state_dict().items():
                # Arrays from the object store are read-only, which torch warns about; parameters are small.
                value.copy_(torch.from_numpy(np.array(package.weights[name])))
            if not self.discrete:
                self._std = self.policy.log_std.exp()
        self._loaded = (package.learner, package.version)

    def sample(self, observations: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[Any]]:
        """Draws actions as `ActorCriticPolicy.forward` does, with the same use of PyTorch's generator.

        Args:
            observations: (n, m), normalised.

        Returns:
            actions (n, k), or (n,) for choices; values (n,); mean actions (n, k), or logits (n, choices). `log_probs`
            takes the last, for many steps at once.
        """
        seen = torch.from_numpy(observations)
        values, mean = self._critic(seen), self._actor(seen)
        if self.discrete:
            actions = Categorical(logits=mean).sample()
        else:
            actions = mean + torch.empty(mean.shape).normal_() * self._std
        return actions.numpy(), values.flatten().numpy(), mean.numpy()

    def log_probs(self, actions: NDArray[Any], means: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the log-probabilities of drawn actions; the last axis is that of the elements or choices."""
        drawn, mean = torch.from_numpy(actions), torch.from_numpy(means)
        if self.discrete:
            return Categorical(logits=mean).log_prob(drawn).numpy()
        return Normal(mean, self._std.expand_as(mean)).log_prob(drawn).sum(dim=-1).numpy()

    def mean(self, observations: NDArray[np.float32]) -> NDArray[Any]:
        """Returns the most likely actions (n, k), or (n,) for choices."""
        logits = self._actor(torch.from_numpy(observations))
        return (logits.argmax(dim=1) if self.discrete else logits).numpy()

    def values(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the values (n,) of normalised observations (n, m)."""
        return self._critic(torch.from_numpy(observations)).flatten().numpy()


class Deterministic:
    """The policy as it is judged: raw observations in, most likely actions out. What `evaluate.episodes.play` asks.

    Args:
        policy: with the version loaded.
        normalizer: statistics of that version.
        spec: of the task.
    """

    def __init__(self, policy: BehaviourPolicy, normalizer: Frozen, spec: PolicySpec) -> None:
        self.policy, self.normalizer, self.spec = policy, normalizer, spec

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Maps raw observations (n, m) to actions (n, k) in the policy's range."""
        with torch.inference_mode():
            actions = self.policy.mean(self.normalizer.observations(observations.astype(np.float32)))
        if self.policy.discrete:
            return actions.reshape(-1, 1)
        return np.clip(actions, self.spec.policy_low, self.spec.policy_high)

    def reset(self) -> None:
        """Forgets nothing: the policy has no memory."""
