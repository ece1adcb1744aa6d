"""How a policy learns: one table of keys and ranges for each algorithm; `algorithm.name` decides which one holds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Common(Section):
    """What all algorithms have. `learning_rate` falls linearly to `learning_rate_final` over `stop.steps`."""

    learning_rate: Positive = 3e-4
    learning_rate_final: Positive | None = None
    batch_size: Annotated[int, Field(ge=2)] = 256
    gamma: Fraction = 0.99


class _OnPolicy(_Common):
    """What learns from the newest experience alone."""

    epochs: Count = 10
    gae_lambda: Fraction = 0.95
    clip_range: Positive = 0.2
    entropy: NotNegative = 0.0
    value_coefficient: NotNegative = 0.5
    max_grad_norm: Positive = 0.5
    target_kl: Positive | None = None
    network: tuple[Count, ...] = (64, 64)
    activation: Literal["tanh", "relu", "elu"] = "tanh"
    log_std_init: Annotated[float, Field(ge=-5.0, le=2.0)] = 0.0


class PPOConfig(_OnPolicy):
    """Proximal policy optimisation.

    For `value_warmup_iterations` iterations only the value function learns: a cloned policy is not spoilt by a critic
    that knows nothing.
    """

    name: Literal["ppo"] = "ppo"
    value_warmup_iterations: Annotated[int, Field(ge=0)] = 0


class RecurrentPPOConfig(_OnPolicy):
    """PPO with a memory: `lstm_layers` of `lstm_size` cells before `network`, for the actor and for the critic."""

    name: Literal["recurrent_ppo"]
    lstm_size: Count = 64
    lstm_layers: Count = 1


class HERConfig(Section):
    """Hindsight: of `n_sampled_goal` + 1 replayed steps, all but one are told that a goal was meant which was reached.

    It is one of the same episode: a later one (`future`), the last (`final`), or any (`episode`).
    """

    n_sampled_goal: Count = 4
    goal_selection_strategy: Literal["future", "final", "episode"] = "future"


class _OffPolicy(_Common):
    """What learns from a replay buffer, by `updates_per_step` gradient steps for each control step of any actor.

    Actions are random for the first `learning_starts` steps, in which nothing is learnt. The buffer keeps the newest
    `buffer_size` steps. Target networks follow by the fraction `tau` an update.
    """

    buffer_size: Count = 300_000
    learning_starts: Annotated[int, Field(ge=0)] = 2_000
    updates_per_step: Positive = 1.0
    tau: Annotated[float, Field(gt=0.0, le=1.0)] = 0.005
    network: tuple[Count, ...] = (256, 256)
    activation: Literal["tanh", "relu", "elu"] = "relu"
    her: HERConfig | None = None


class SACConfig(_OffPolicy):
    """Soft actor-critic. `entropy` is its weight; `auto` holds it at `target_entropy` (`auto`: minus one an action)."""

    name: Literal["sac"]
    entropy: Literal["auto"] | Positive = "auto"
    target_entropy: Literal["auto"] | float = "auto"


class TQCConfig(_OffPolicy):
    """Truncated quantile critics: SAC whose `critics` tell `quantiles` each, of which the `dropped` highest are cut."""

    name: Literal["tqc"]
    entropy: Literal["auto"] | Positive = "auto"
    target_entropy: Literal["auto"] | float = "auto"
    critics: Count = 2
    quantiles: Annotated[int, Field(ge=2)] = 25
    dropped: Annotated[int, Field(ge=0)] = 2


class TD3Config(_OffPolicy):
    """Twin delayed policy gradient: explores by `noise`, a deviation where actions lie in [-1, 1].

    The policy learns in one of `policy_delay` updates; target actions get clipped noise too.
    """

    name: Literal["td3"]
    noise: NotNegative = 0.1
    policy_delay: Count = 2
    target_noise: NotNegative = 0.2
    target_noise_clip: NotNegative = 0.5


OnPolicyConfig = PPOConfig | RecurrentPPOConfig
OffPolicyConfig = SACConfig | TQCConfig | TD3Config
KINDS: dict[str, type[_Common]] = {
    "ppo": PPOConfig,
    "recurrent_ppo": RecurrentPPOConfig,
    "sac": SACConfig,
    "tqc": TQCConfig,
    "td3": TD3Config,
}


def _name(value: Any) -> Any:
    """Name of the algorithm that a table is for; PPO where none is written."""
    return value.get("name", "ppo") if isinstance(value, dict) else getattr(value, "name", "ppo")


AlgorithmConfig = Annotated[
    Annotated[PPOConfig, Tag("ppo")]
    | Annotated[RecurrentPPOConfig, Tag("recurrent_ppo")]
    | Annotated[SACConfig, Tag("sac")]
    | Annotated[TQCConfig, Tag("tqc")]
    | Annotated[TD3Config, Tag("td3")],
    Discriminator(_name),
]
