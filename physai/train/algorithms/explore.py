"""SAC, TQC and TD3 as actors run them: the actor alone, with the noise of stable-baselines3 and without its objects."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from physai.config import RunConfig
from physai.train import seeding
from physai.train.algorithms.network import Network
from physai.train.algorithms.off_policy import CLASSES, policy_arguments
from physai.train.behaviour import Package, take_over, tensor
from physai.train.fragment import Fragment, Job, ReplayFragment, Trace
from physai.train.normalizer import Frozen

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0  # as in stable-baselines3's SAC


class Explorer:
    """Draws actions of one policy version; at the beginning of a run, any that the action space has.

    Args:
        config: of the run; it decides the network.
        observation_space: flat.
        action_space: a flat box.
    """

    discrete = False
    fragment: type[Fragment] = ReplayFragment

    def __init__(self, config: RunConfig, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.config, plan = config, config.algorithm
        policy_class = CLASSES[plan.name].policy_aliases["MlpPolicy"]
        self.policy: Any = policy_class(observation_space, action_space, lambda _: 0.0, **policy_arguments(plan))
        self.policy.set_training_mode(False)
        actor: Any = self.policy.actor
        self._noise = float(getattr(plan, "noise", 0.0))
        self._actor = Network(actor.mu) if plan.name == "td3" else Network(actor.latent_pi, actor.mu)
        self._spread = None if plan.name == "td3" else Network(actor.latent_pi, actor.log_std)
        self._low, self._high = action_space.low, action_space.high  # type: ignore[attr-defined]
        self._loaded: tuple[str, int] | None = None
        self._normalizer: Frozen | None = None
        self._rng, self._steps = np.random.default_rng(0), 0
        self._stored: list[NDArray[np.float32]] = []

    def load(self, package: Package) -> None:
        """Takes over a policy version."""
        if self._loaded == (package.learner, package.version):
            return
        take_over(self.policy.actor, package.weights)
        self._normalizer, self._loaded = package.normalizer, (package.learner, package.version)

    def begin(self, job: Job, n: int) -> None:
        """Begins a fragment: its noise depends on group and iteration alone, as do the steps that are random."""
        self._rng = seeding.generator(self.config.seed, seeding.NOISE, job.group, job.iteration)
        self._steps = job.iteration * self.config.steps_per_iteration
        self._stored = []

    def sample(self, observations: NDArray[np.float32], starts: NDArray[np.bool_]) -> NDArray[Any]:
        """Draws actions (n, k) as `OffPolicyAlgorithm._sample_action` does."""
        shape = (len(observations), *self._low.shape)
        if self._steps < self.config.algorithm.learning_starts:
            actions = self._rng.uniform(self._low, self._high, shape).astype(np.float32)
        else:
            seen = tensor(self._seen(observations))
            squashed = self._actor(seen)
            if self._spread is not None:
                std = torch.clamp(self._spread(seen), LOG_STD_MIN, LOG_STD_MAX).exp()
                squashed = torch.tanh(squashed + torch.empty(squashed.shape).normal_() * std)
            actions = self.policy.unscale_action(squashed.numpy())
        scaled = self.policy.scale_action(actions)
        if self._noise:
            noise = self._rng.normal(0.0, self._noise, shape).astype(np.float32)
            scaled = np.clip(scaled + noise, -1.0, 1.0)
        self._steps += self.config.rollout.groups * len(observations)
        self._stored.append(scaled)
        return self.policy.unscale_action(scaled)

    def _seen(self, observations: NDArray[np.float32]) -> NDArray[np.float32]:
        return observations if self._normalizer is None else self._normalizer.observations(observations)

    def describe(self, trace: Trace) -> dict[str, Any]:
        """Returns the fields of `ReplayFragment`."""
        following = np.concatenate([trace.observations[1:], trace.last[None]])
        dones, timeouts = np.zeros(trace.rewards.shape, bool), np.zeros(trace.rewards.shape, bool)
        for t, e, observation, cut_off in trace.ended:
            following[t, e], dones[t, e], timeouts[t, e] = observation, True, cut_off
        return {
            "observations": trace.observations,
            "next_observations": following,
            "actions": np.stack(self._stored),
            "rewards": trace.rewards,
            "dones": dones,
            "timeouts": timeouts,
        }

    def memory(self) -> None:
        """Returns None: nothing is remembered."""
        return

    def best(self, observations: NDArray[np.float32]) -> NDArray[Any]:
        """Returns the squashed means (n, k), in the range of actions."""
        mean = self._actor(tensor(self._seen(observations)))
        squashed = mean if self._spread is None else torch.tanh(mean)
        return self.policy.unscale_action(squashed.numpy())

    def forget(self) -> None:
        """Does nothing: there is no memory."""
