"""PPO of stable-baselines3 whose experience comes as fragments from elsewhere. The loss and the optimiser are theirs.

Source: Schulman et al. 2017, https://arxiv.org/abs/1707.06347; the seam is `OnPolicyAlgorithm.collect_rollouts`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from physai.algorithm_config import OnPolicyConfig
from physai.config import RunConfig
from physai.train.algorithms.update import update
from physai.train.collective import Collective
from physai.train.normalizer import RunningNormalizer, SpacesOnly

if TYPE_CHECKING:
    from physai.train.fragment import Episode, OnPolicyFragment

MODEL_ZIP = "model.zip"
Model = TypeVar("Model", bound="FromFragments")
ACTIVATIONS = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU, "elu": torch.nn.ELU}


def policy_arguments(config: OnPolicyConfig, action_space: gym.Space[Any]) -> dict[str, Any]:
    """Returns the arguments of stable-baselines3's policy class; learner and actors build the same network."""
    layers = list(config.network)
    arguments: dict[str, Any] = {
        "net_arch": {"pi": layers, "vf": layers},
        "activation_fn": ACTIVATIONS[config.activation],
        "optimizer_kwargs": {"eps": 1e-5, "fused": True},  # eps as stable-baselines3 has it where nothing is given
    }
    if isinstance(action_space, gym.spaces.Box):
        arguments["log_std_init"] = config.log_std_init
    return arguments


if TYPE_CHECKING:
    _OnPolicy = PPO
else:
    _OnPolicy = object


class FromFragments(_OnPolicy):
    """What is added to an on-policy algorithm of stable-baselines3, so that it is given its experience by `ingest`."""

    replays = False
    fragments: Sequence[OnPolicyFragment] = ()  # of the groups of this rank
    episodes: Sequence[Episode] | None = None  # finished ones of all ranks; None: those of the fragments
    collective: Collective
    value_warmup = 0  # iterations in which only the value function learns

    def ingest(self, fragments: Sequence[OnPolicyFragment], episodes: Sequence[Episode] | None = None) -> None:
        """Fills the rollout buffer with the fragments of this rank's groups; `episodes` are those of all ranks."""
        self.fragments, self.episodes = fragments, episodes
        self.collect_rollouts(self.env, self._init_callback(None), self.rollout_buffer, self.n_steps)
        self.fragments = ()

    def update(self, normalizer: RunningNormalizer) -> None:
        """Learns from the rollout buffer, whose contents are normalised already."""
        stop = max(1, self._total_timesteps)
        self._update_current_progress_remaining(min(self.num_timesteps, stop), stop)
        self.learn_values_only(self._n_updates // self.n_epochs < self.value_warmup)
        self.train()
        self.learn_values_only(False)

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fills the buffer with the fragments, one group beside the other, as if `env` had been stepped.

        Raises:
            ValueError: if the fragments do not have the size of the buffer.
        """
        fragments = self.fragments
        widths = [fragment.rewards.shape[1] for fragment in fragments]
        lengths = {fragment.rewards.shape[0] for fragment in fragments}
        if sum(widths) != rollout_buffer.n_envs or lengths != {n_rollout_steps}:
            raise ValueError(
                f"fragments of {sorted(lengths)} steps and {sum(widths)} environments were given; "
                f"the buffer takes {n_rollout_steps} steps and {rollout_buffer.n_envs} environments"
            )
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        start = 0
        for fragment, width in zip(fragments, widths, strict=True):
            part = slice(start, start + width)
            for name in ("observations", "actions", "rewards", "episode_starts", "values", "log_probs"):
                array, values = getattr(rollout_buffer, name), getattr(fragment, name)
                array[:, part] = values.reshape((n_rollout_steps, width, *array.shape[2:]))
            start += width
        rollout_buffer.pos, rollout_buffer.full = n_rollout_steps, True
        self.num_timesteps += n_rollout_steps * rollout_buffer.n_envs * self.collective.size
        episodes = [e for f in fragments for e in f.episodes] if self.episodes is None else self.episodes
        self.ep_info_buffer.extend({"r": e.episode_return, "l": e.length} for e in episodes)
        self.ep_success_buffer.extend(e.success for e in episodes if e.success is not None)
        callback.update_locals(locals())
        goes_on = callback.on_step()
        last_values = torch.from_numpy(np.concatenate([fragment.last_values for fragment in fragments]))
        dones = np.concatenate([fragment.last_dones for fragment in fragments])
        rollout_buffer.compute_returns_and_advantage(last_values=last_values, dones=dones)
        callback.on_rollout_end()
        return bool(goes_on)

    def learn_values_only(self, only: bool) -> None:
        """Freezes everything but the value function, or releases it."""
        policy: Any = self.policy
        frozen = [policy.action_net, policy.mlp_extractor.policy_net]
        parameters = [p for module in frozen for p in module.parameters()]
        if hasattr(policy, "log_std"):
            parameters.append(policy.log_std)
        for parameter in parameters:
            parameter.requires_grad_(not only)

    def weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """Returns a copy of the policy's parameters, without the optimiser."""
        return {name: value.cpu().numpy().copy() for name, value in self.policy.state_dict().items()}

    def files(self) -> dict[str, bytes]:
        """Returns what `PPO.load` reads, in any process that has stable-baselines3."""
        file = io.BytesIO()
        self.save(file)
        return {MODEL_ZIP: file.getvalue()}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Continues from what `files` returned: parameters, optimiser and counters."""
        model_zip = files[MODEL_ZIP]
        data, parameters, variables = load_from_zip_file(io.BytesIO(model_zip), device=self.device)
        self.set_parameters({**parameters, **(variables or {})}, exact_match=True, device=self.device)
        for name in ("num_timesteps", "_n_updates", "_episode_num", "ep_info_buffer", "ep_success_buffer"):
            setattr(self, name, (data or {})[name])

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "fragments", "value_warmup", "episodes", "collective"]


class FleetPPO(FromFragments, PPO):
    """PPO on a fleet."""

    def train(self) -> None:
        """Learns from the buffer, as `PPO.train` does."""
        update(self)


def build(
    config: RunConfig,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    *,
    collective: Collective | None = None,
    device: str = "cpu",
) -> FleetPPO:
    """Builds the learner of a run, with the random numbers of its seed; its buffer takes the groups of its rank."""
    plan: Any = config.algorithm
    arguments = policy_arguments(plan, action_space)

    def stub() -> SpacesOnly:
        return SpacesOnly(observation_space, action_space)

    model = assemble(FleetPPO, ActorCriticPolicy, config, stub, arguments, collective=collective, device=device)
    model.value_warmup = plan.value_warmup_iterations
    return model


def assemble(
    kind: type[Model],
    policy: type[ActorCriticPolicy],
    config: RunConfig,
    stub: Callable[[], SpacesOnly],
    arguments: dict[str, Any],
    *,
    collective: Collective | None = None,
    device: str = "cpu",
) -> Model:
    """Builds a model that never steps an environment.

    Args:
        kind: of algorithm.
        policy: its class of networks.
        config: of the run.
        stub: makes what says what is seen and done.
        arguments: of the policy.
        collective: the learners of which this is one; None: it is the only one.
        device: on which it learns.
    """
    algorithm: Any = config.algorithm
    rollout = config.rollout
    collective = collective or Collective()
    n_envs = len(collective.shard(rollout.groups)) * rollout.envs_per_group
    rate: Any = algorithm.learning_rate
    if algorithm.learning_rate_final is not None:
        rate = LinearSchedule(algorithm.learning_rate, algorithm.learning_rate_final, 1.0)
    model = kind(
        policy,
        DummyVecEnv([stub] * n_envs),
        learning_rate=rate,
        n_steps=rollout.steps,
        batch_size=rollout.steps * n_envs,
        n_epochs=algorithm.epochs,
        gamma=algorithm.gamma,
        gae_lambda=algorithm.gae_lambda,
        clip_range=algorithm.clip_range,
        ent_coef=algorithm.entropy,
        vf_coef=algorithm.value_coefficient,
        max_grad_norm=algorithm.max_grad_norm,
        target_kl=algorithm.target_kl,
        policy_kwargs=arguments,
        seed=config.seed,
        device=device,
    )
    model.collective = collective
    model.batch_size = algorithm.batch_size  # of all ranks; a rank's own rows may be fewer
    model.set_logger(Logger(folder=None, output_formats=[]))
    model._setup_learn(config.stop.steps)  # the loop is ours, so nobody else prepares counters and buffers
    return model
