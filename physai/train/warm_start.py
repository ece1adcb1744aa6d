"""Clones the task's scripted expert before reinforcement learning begins.

Source: Ross, Gordon, Bagnell 2011, DAgger, https://arxiv.org/abs/1011.0686. The policy is rolled out in a mixture with
the expert, the expert labels every step, and the mean of the policy is fitted to all labels so far. The value function
is left to the algorithm (`algorithm.value_warmup_iterations`): returns of a mixture are not those of the clone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from physai.config import RunConfig, WarmStartConfig
from physai.errors import ConfigError, EpisodeError
from physai.train import seeding
from physai.train.algorithms.ppo import FleetPPO
from physai.train.behaviour import BehaviourPolicy, Deterministic, Package
from physai.train.normalizer import Moments, RunningNormalizer
from physai.train.work import Fleet
from physai_envs import registry


@dataclass(frozen=True)
class Demonstrations:
    """Episodes `first` to `last` (excluded) of a round."""

    round: int
    first: int
    last: int
    beta: float


@dataclass(frozen=True)
class Labels:
    """What an episode teaches: raw observations (n, m), what the expert would have done (n, k)."""

    observations: NDArray[np.float32]
    actions: NDArray[np.float32]
    return_moments: Moments
    success: bool | None


def check(env: gym.Env[Any, Any], task: str) -> None:
    """Refuses a task without an expert, before anything is started.

    Raises:
        ConfigError: says what to do.
    """
    declared = getattr(env.unwrapped, "task", None)
    if not hasattr(env.unwrapped, "expert_action") or (declared is not None and declared.expert is None):
        raise ConfigError(f"{task} has no scripted expert to start from; remove warm_start from the configuration")
    if not isinstance(env.action_space, gym.spaces.Box):
        raise ConfigError(
            f"{task} acts by choices, and only vectors are cloned; remove warm_start from the configuration"
        )


def demonstrate(
    env: gym.Env[Any, Any], policy: BehaviourPolicy, package: Package, config: RunConfig, job: Demonstrations
) -> list[Labels]:
    """Plays the episodes of a job. Each is a function of the seed, the round and its number alone."""
    actor = Deterministic(policy, registry.policy_spec(env))
    indices = range(job.first, job.last)
    return [_episode(env, actor, config, job, n) for n in indices if _seed(config, job, n) not in package.skip]


def _seed(config: RunConfig, job: Demonstrations, index: int) -> int:
    return seeding.episode(config, seeding.DEMONSTRATIONS, job.round, index)[0]


def _episode(
    env: gym.Env[Any, Any], actor: Deterministic, config: RunConfig, job: Demonstrations, index: int
) -> Labels:
    seed, options = seeding.episode(config, seeding.DEMONSTRATIONS, job.round, index)
    rng = seeding.generator(config.seed, seeding.MIXTURE, job.round, index)
    expert: Any = env.unwrapped
    seen, wanted, returns = [], [], []
    total, done, info = 0.0, False, {}
    try:
        observation, _ = env.reset(**seeding.reset_arguments(seed, options))
        while not done:
            label = expert.expert_action()
            seen.append(np.array(observation, np.float32))
            wanted.append(np.array(label, np.float32))
            action = label if rng.random() < job.beta else actor.act(seen[-1][None])[0]
            observation, reward, terminated, truncated, info = env.step(action)
            total = total * config.algorithm.gamma + float(reward)
            returns.append(total)
            done = bool(terminated or truncated)
    except Exception as error:
        text = f"{error or type(error).__name__} (demonstration with seed {seed}, step {len(seen)})"
        raise EpisodeError(text, seed, len(seen)) from error  # in its reset nothing was seen
    success = bool(info["is_success"]) if "is_success" in info else None
    labels = Labels(np.stack(seen), np.stack(wanted), Moments.of(np.array(returns)), success)
    if not (np.isfinite(labels.observations).all() and np.isfinite(labels.actions).all() and np.isfinite(total)):
        text = f"{config.task}: a demonstration is not finite (seed {seed}); look at the expert there"
        raise EpisodeError(text, seed, len(seen))
    return labels


def clone(
    config: RunConfig,
    model: FleetPPO,
    normalizer: RunningNormalizer,
    fleet: Fleet,
    package: Callable[[], Package],
    waiting: Callable[[str], None],
    say: Callable[[str], None],
) -> int:
    """Runs all rounds; model and normaliser are changed in place.

    Args:
        config: of the run.
        model: whose policy is fitted.
        normalizer: gets its statistics from the demonstrations.
        fleet: plays the episodes.
        package: makes a new policy version of the model as it is now.
        waiting: called now and then with what goes on.
        say: called with one line a round.

    Returns:
        number of control steps played.
    """
    plan = config.warm_start
    if plan is None:
        return 0
    labels: list[Labels] = []
    for number in range(plan.rounds):
        what = f"warm start, round {number + 1} of {plan.rounds}"
        beta = plan.beta**number
        size = max(1, plan.episodes // (4 * fleet.workers))
        jobs = [
            Demonstrations(number, first, min(first + size, plan.episodes), beta)
            for first in range(0, plan.episodes, size)
        ]
        fleet.start("demonstrate", package(), jobs)
        new = [episode for answer in fleet.finish(lambda what=what: waiting(what)) for episode in answer]  # type: ignore[misc]
        normalizer.merge([Moments.of(episode.observations) for episode in new], [e.return_moments for e in new])
        labels += new
        error = fit(model, normalizer, labels, plan, config.seed, number, lambda what=what: waiting(f"{what}: fitting"))  # type: ignore[misc]
        say(f"{what}: {_successes(new)} with {beta:.0%} expert, error of the clone {error:.4f}")
    return sum(len(episode.observations) for episode in labels)


def _successes(episodes: Sequence[Labels]) -> str:
    told = [episode.success for episode in episodes if episode.success is not None]
    return f"{sum(told)} of {len(told)} succeeded" if told else f"{len(episodes)} episodes"


def fit(
    model: FleetPPO,
    normalizer: RunningNormalizer,
    labels: Sequence[Labels],
    plan: WarmStartConfig,
    seed: int,
    number: int,
    waiting: Callable[[], None],
) -> float:
    """Fits the mean of the policy to the labels by least squares, and returns the last epoch's mean squared error."""
    frozen = normalizer.freeze()
    observations = frozen.observations(np.concatenate([episode.observations for episode in labels]))
    seen = torch.from_numpy(observations).to(model.device)
    wanted = torch.from_numpy(np.concatenate([episode.actions for episode in labels])).to(model.device)
    policy: Any = model.policy
    body, head = policy.mlp_extractor.policy_net, policy.action_net
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=plan.learning_rate)
    rng = seeding.generator(seed, seeding.CLONING, number)
    error = 0.0
    for _ in range(plan.epochs):
        waiting()
        order, total = torch.from_numpy(rng.permutation(len(seen))), 0.0
        for batch in order.split(plan.batch_size):
            loss = torch.nn.functional.mse_loss(head(body(seen[batch])), wanted[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        error = total / len(seen)
    return error
