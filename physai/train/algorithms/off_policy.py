"""SAC, TQC and TD3 of stable-baselines3 and sb3-contrib, whose experience comes as fragments; `train` is theirs.

The buffer keeps raw observations and rewards, and they are normalised when they are replayed, with the statistics of
then: a policy version is asked what it would do now, so it must see old steps as it sees new ones.
Sources: Haarnoja et al. 2018, https://arxiv.org/abs/1812.05905; Kuznetsov et al. 2020, https://arxiv.org/abs/2005.04269;
Fujimoto et al. 2018, https://arxiv.org/abs/1802.09477; hindsight: Andrychowicz et al. 2017, https://arxiv.org/abs/1707.01495.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
from numpy.typing import NDArray
from sb3_contrib import TQC
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.her import HerReplayBuffer

from physai.config import RunConfig
from physai.errors import ConfigError
from physai.train.algorithms import replay
from physai.train.algorithms.ppo import ACTIVATIONS, MODEL_ZIP
from physai.train.checkpoint import Shared
from physai.train.fragment import Episode, ReplayFragment
from physai.train.normalizer import RunningNormalizer, SpacesOnly

CLASSES: dict[str, Any] = {"sac": SAC, "tqc": TQC, "td3": TD3}


def policy_arguments(config: Any) -> dict[str, Any]:
    """Returns the arguments of stable-baselines3's policy class; learner and actors build the same network."""
    arguments: dict[str, Any] = {
        "net_arch": list(config.network),
        "activation_fn": ACTIVATIONS[config.activation],
        "optimizer_kwargs": {"fused": True},
    }
    if config.name == "tqc":
        arguments |= {"n_critics": config.critics, "n_quantiles": config.quantiles}
    return arguments


def _own_arguments(config: Any) -> dict[str, Any]:
    """Arguments that only this algorithm has."""
    if config.name == "td3":
        return {
            "policy_delay": config.policy_delay,
            "target_policy_noise": config.target_noise,
            "target_noise_clip": config.target_noise_clip,
        }
    own = {"ent_coef": config.entropy, "target_entropy": config.target_entropy}
    if config.name == "tqc":
        own["top_quantiles_to_drop_per_net"] = config.dropped
    return own


class OffPolicy:
    """The learner's side of SAC, TQC and TD3.

    After each iteration it makes `updates_per_step` gradient steps for every control step that was collected, whoever
    collected it; parts of a gradient step add up from iteration to iteration.

    Args:
        config: of the run.
        observation_space: flat, or a Dict of goals where hindsight is used.
        action_space: a flat box.
        device: on which it learns.

    Raises:
        ConfigError: if actions are choices.
    """

    replays = True

    def __init__(
        self,
        config: RunConfig,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        device: str = "cpu",
    ) -> None:
        self.config, plan = config, config.algorithm
        if not isinstance(action_space, gym.spaces.Box):
            raise ConfigError(f"{config.task} acts by choices, and {plan.name} needs a vector; give algorithm.name=ppo")
        n_envs = config.rollout.groups * config.rollout.envs_per_group
        stub: Any = DummyVecEnv([lambda: SpacesOnly(observation_space, action_space)] * n_envs)
        shape = (gym.spaces.flatdim(observation_space),)
        if config.normalizer.observations or config.normalizer.rewards:
            stub = RunningNormalizer(config.normalizer, plan.gamma, shape).wrap(stub)
        rate: Any = plan.learning_rate
        if plan.learning_rate_final is not None:
            rate = LinearSchedule(plan.learning_rate, plan.learning_rate_final, 1.0)
        goals = isinstance(observation_space, gym.spaces.Dict)
        self.model: Any = CLASSES[plan.name](
            "MultiInputPolicy" if goals else "MlpPolicy",
            stub,
            learning_rate=rate,
            buffer_size=plan.buffer_size,
            learning_starts=plan.learning_starts,
            batch_size=plan.batch_size,
            tau=plan.tau,
            gamma=plan.gamma,
            policy_kwargs=policy_arguments(plan),
            seed=config.seed,
            device=device,
            **_own_arguments(plan),
        )
        if plan.her is not None:  # put in afterwards: a zip that names it could not be loaded without an environment
            self.model.replay_buffer = replay.hindsight(config, self.model.replay_buffer)
        self._blocks = replay.Blocks(self.buffer)
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self._new = 0  # steps since the last update

    @property
    def num_timesteps(self) -> int:
        """Control steps so far."""
        return int(self.model.num_timesteps)

    @num_timesteps.setter
    def num_timesteps(self, steps: int) -> None:
        self.model.num_timesteps = steps

    @property
    def policy(self) -> Any:
        """Actor, critics and their targets."""
        return self.model.policy

    @property
    def logger(self) -> Logger:
        """Where an update leaves its figures."""
        return self.model.logger

    @property
    def observation_space(self) -> gym.Space[Any]:
        """Flat, or a Dict of goals."""
        return self.model.observation_space

    @property
    def buffer(self) -> ReplayBuffer:
        """The replay buffer."""
        return self.model.replay_buffer

    def ingest(self, fragments: Sequence[ReplayFragment], episodes: Sequence[Episode] | None = None) -> None:
        """Adds the fragments to the buffer, one group beside the other."""
        self._blocks.add(fragments)
        self._new = sum(fragment.steps for fragment in fragments)
        self.model.num_timesteps += self._new
        self.model._episode_num += sum(len(fragment.episodes) for fragment in fragments)

    def update(self, normalizer: RunningNormalizer) -> None:
        """Makes the gradient steps that the collected control steps ask for.

        Raises:
            ConfigError: if hindsight has no finished episode yet.
        """
        model, plan, steps = self.model, self.config.algorithm, self.num_timesteps
        self.logger.record("train/replay", self.buffer.size() * self.buffer.n_envs)
        if steps <= plan.learning_starts:
            return
        due = math.floor(steps * plan.updates_per_step) - math.floor((steps - self._new) * plan.updates_per_step)
        if due == 0:
            return
        if isinstance(self.buffer, HerReplayBuffer) and not self.buffer.ep_length.any():
            raise ConfigError(
                f"no episode has ended in {steps} steps, and hindsight learns from whole ones; give a larger "
                "algorithm.learning_starts (more than the steps of an episode times the environments)"
            )
        if model._vec_normalize_env is not None:
            normalizer.refresh(model._vec_normalize_env)
        stop = max(1, self.config.stop.steps)
        model._update_current_progress_remaining(min(steps, stop), stop)
        model.train(gradient_steps=due, batch_size=plan.batch_size)

    def weights(self) -> dict[str, NDArray[Any]]:
        """Returns a copy of the actor's parameters; critics stay here."""
        return {name: value.cpu().numpy().copy() for name, value in self.policy.actor.state_dict().items()}

    def files(self) -> dict[str, bytes | Shared]:
        """Returns the model, and the replay buffer in blocks beside it."""
        file = io.BytesIO()
        self.model.save(file)
        return {MODEL_ZIP: file.getvalue(), **self._blocks.files()}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Continues from what `files` returned: parameters, optimisers, counters and replay buffer.

        Raises:
            ValueError: if they are those of another configuration.
        """
        model = self.model
        data, parameters, variables = load_from_zip_file(io.BytesIO(files[MODEL_ZIP]), device=model.device)
        model.set_parameters(parameters, exact_match=True, device=model.device)
        for name, value in (variables or {}).items():  # the weight of the entropy
            getattr(model, name).data.copy_(value)
        for name in ("num_timesteps", "_n_updates", "_episode_num"):
            setattr(model, name, (data or {})[name])
        self._blocks.restore(files)
