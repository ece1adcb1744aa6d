"""The deterministic part of stable-baselines3 policies as plain torch modules: the action, then the whole command.

No `torch.distributions` here: their argument checks depend on data, which `torch.onnx.export` cannot trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.sac.policies import SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

from physai.deploy.bundle import acts_in_commands
from physai.errors import CheckpointError
from physai.spec import PolicySpec

BRIGHTEST = 255.0  # of a pixel, which stable-baselines3 takes for 1


class _Picture(nn.Module):
    """The flat vector as a picture again, and what stable-baselines3 does with it before the first layer."""

    def __init__(self, extractor: nn.Module, shape: tuple[int, ...], scale: float) -> None:
        super().__init__()
        self.extractor, self.shape, self.scale = extractor, shape, scale

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return self.extractor(observation.reshape(-1, *self.shape) / self.scale)


def _features(extractor: nn.Module, policy: Any) -> nn.Module:
    """Returns what stable-baselines3 does before the first layer; a Dict of goals comes here flat, in its order."""
    space = policy.observation_space
    if isinstance(space, spaces.Box) and len(space.shape) > 1:
        return _Picture(extractor, space.shape, BRIGHTEST if policy.normalize_images and is_image_space(space) else 1.0)
    return nn.Flatten() if isinstance(extractor, CombinedExtractor) else extractor


class ActorCriticHead(nn.Module):
    """PPO and A2C: mean of the action distribution, or the index of the likeliest choice."""

    def __init__(self, policy: ActorCriticPolicy, discrete: bool) -> None:
        super().__init__()
        self.features, self.body = _features(policy.pi_features_extractor, policy), policy.mlp_extractor
        self.last = policy.action_net
        self.discrete, self.squashed = discrete, bool(policy.squash_output)

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Maps normalised observations (n, m) to actions (n, k), or to indices (n, 1)."""
        action = self.last(self.body.forward_actor(self.features(observation)))
        if self.discrete:
            return torch.argmax(action, dim=-1, keepdim=True)
        return torch.tanh(action) if self.squashed else action


class SACHead(nn.Module):
    """SAC and TQC: the squashed mean, in [-1, 1]."""

    squashed = True

    def __init__(self, actor: Any) -> None:
        super().__init__()
        self.features, self.body, self.last = _features(actor.features_extractor, actor), actor.latent_pi, actor.mu

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Maps normalised observations (n, m) to actions (n, k)."""
        return torch.tanh(self.last(self.body(self.features(observation))))


class TD3Head(nn.Module):
    """TD3 and DDPG: the actor, in [-1, 1]."""

    squashed = True

    def __init__(self, actor: Any) -> None:
        super().__init__()
        self.features, self.body = _features(actor.features_extractor, actor), actor.mu

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        """Maps normalised observations (n, m) to actions (n, k)."""
        return self.body(self.features(observation))


class RecurrentHead(nn.Module):
    """RecurrentPPO: the same as `ActorCriticHead`, and what the actor remembers, two tensors (layers, 1, size)."""

    def __init__(self, policy: Any, discrete: bool) -> None:
        super().__init__()
        self.features, self.lstm = _features(policy.pi_features_extractor, policy), policy.lstm_actor
        self.body, self.last = policy.mlp_extractor, policy.action_net
        self.discrete, self.squashed = discrete, bool(policy.squash_output)
        layers, _, size = policy.lstm_hidden_state_shape
        self.memory = {"hidden": (layers, 1, size), "cell": (layers, 1, size)}

    def forward(self, observation: torch.Tensor, *memory: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps a normalised observation (1, m) to an action (1, k), and the memory to that of the next step."""
        latent, (hidden, cell) = self.lstm(self.features(observation).unsqueeze(0), memory)
        action = self.last(self.body.forward_actor(latent.squeeze(0)))
        if self.discrete:
            return torch.argmax(action, dim=-1, keepdim=True), hidden, cell
        return torch.tanh(action) if self.squashed else action, hidden, cell


def deterministic_head(model: BaseAlgorithm, discrete: bool) -> nn.Module:
    """Returns the network of `model` in evaluation mode, with `squashed`: whether its output must be unscaled.

    Raises:
        CheckpointError: if there is none for this policy class.
    """
    from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
    from sb3_contrib.tqc.policies import TQCPolicy

    policy = model.policy.eval()
    if isinstance(policy, RecurrentActorCriticPolicy):
        return RecurrentHead(policy, discrete)
    if isinstance(policy, ActorCriticPolicy):
        return ActorCriticHead(policy, discrete)
    if isinstance(policy, (SACPolicy, TQCPolicy)):
        return SACHead(policy.actor)
    if isinstance(policy, TD3Policy):
        return TD3Head(policy.actor)
    raise CheckpointError(
        f"policies of class {type(policy).__name__} are not supported; use PPO, RecurrentPPO, A2C, SAC, TD3 or TQC"
    )


@dataclass(frozen=True)
class Normalizer:
    """Running statistics of observations, applied as stable-baselines3's VecNormalize does.

    Attributes:
        mean, scale: float64, (m,); `scale` is the standard deviation, never zero.
        clip: largest absolute value of a normalised observation.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    clip: float

    @classmethod
    def of(cls, normalize: VecNormalize | None) -> Normalizer | None:
        """Takes the statistics of observations out of a VecNormalize; None if it normalises none."""
        if normalize is None or not normalize.norm_obs:
            return None
        moments: Any = normalize.obs_rms
        parts = [moments[name] for name in normalize.observation_space] if isinstance(moments, dict) else [moments]
        mean, var = (np.concatenate([getattr(part, name).ravel() for part in parts]) for name in ("mean", "var"))
        return cls(mean, np.sqrt(var + normalize.epsilon), float(normalize.clip_obs))

    def __call__(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalises (n, m)."""
        return np.clip((observation - self.mean) / self.scale, -self.clip, self.clip).astype(np.float32)


class CommandNetwork(nn.Module):
    """Raw observation (1, m) in SI units to command (1, k) in engineering units: what a bundle's graph computes.

    Attributes:
        memory: shapes of what it remembers, by name; it takes and returns them after the rest.
    """

    def __init__(self, head: nn.Module, normalizer: Normalizer | None, spec: PolicySpec) -> None:
        super().__init__()
        self.head, self.discrete, self.squashed = head, spec.discrete, bool(head.squashed)
        self.memory: dict[str, tuple[int, ...]] = getattr(head, "memory", {})
        self.clip = None if normalizer is None else normalizer.clip
        if normalizer is not None:
            # The mean in two parts keeps the digits that float32 would lose where it is large beside the deviation.
            coarse = normalizer.mean.astype(np.float32)
            self._constant("mean_coarse", coarse)
            self._constant("mean_fine", normalizer.mean - coarse)
            self._constant("deviation", normalizer.scale)
        self._constant("policy_low", spec.policy_low)
        self._constant("policy_high", spec.policy_high)
        self._constant("command_low", spec.command_low)
        self._constant("command_high", spec.command_high)
        self.identity = acts_in_commands(spec)  # also where limits are infinite and a scale would not be a number
        if not self.identity:
            self._constant("scale", spec.command_scale)
            self._constant("offset", spec.command_offset)

    def _constant(self, name: str, values: NDArray[Any]) -> None:
        self.register_buffer(name, torch.as_tensor(values, dtype=torch.float32))

    def forward(self, observation: torch.Tensor, *memory: torch.Tensor) -> Any:
        """Computes the command, and what is remembered."""
        seen = observation
        if self.clip is not None:
            seen = ((seen - self.mean_coarse) - self.mean_fine) / self.deviation
            seen = torch.clamp(seen, -self.clip, self.clip)
        if not self.memory:
            return self._command(self.head(seen))
        action, *following = self.head(seen, *memory)
        return self._command(action), *following

    def _command(self, action: torch.Tensor) -> torch.Tensor:
        if self.discrete:
            return action
        if self.squashed:
            action = self.policy_low + 0.5 * (action + 1.0) * (self.policy_high - self.policy_low)
        action = torch.minimum(torch.maximum(action, self.policy_low), self.policy_high)
        if self.identity:
            return action
        command = action * self.scale + self.offset
        return torch.minimum(torch.maximum(command, self.command_low), self.command_high)
