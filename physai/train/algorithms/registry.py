"""Which algorithm a name stands for: what the learner and what the actors build for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import gymnasium as gym
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger

from physai.config import RunConfig
from physai.train.normalizer import RunningNormalizer

if TYPE_CHECKING:
    from physai.train.behaviour import Behaviour
    from physai.train.checkpoint import Shared
    from physai.train.collective import Collective
    from physai.train.fragment import Episode, Fragment


class Algorithm(Protocol):
    """What the learner asks of an algorithm.

    Attributes:
        num_timesteps: control steps so far.
        policy: the network that learns, all of it.
        logger: where an update leaves its figures; each name that ends with ``loss`` must stay finite.
        observation_space: as stable-baselines3 is told it: a Dict for hindsight, else flat.
        replays: whether raw experience is kept, so that the first fragments teach before there are statistics.
    """

    num_timesteps: int
    policy: Any
    logger: Logger
    observation_space: gym.Space[Any]
    replays: bool

    def ingest(self, fragments: Sequence[Fragment], episodes: Sequence[Episode] | None = None) -> None:
        """Takes the experience of an iteration, the fragments of this rank's groups in order; `episodes` of all."""
        ...

    def update(self, normalizer: RunningNormalizer) -> None:
        """Learns from it. The global generators have been seeded for the iteration."""
        ...

    def weights(self) -> dict[str, NDArray[Any]]:
        """Returns a copy of the parameters that actors need."""
        ...

    def files(self) -> Mapping[str, bytes | Shared]:
        """Returns the files of a checkpoint: ``model.zip``, which stable-baselines3 loads, and what else goes on."""
        ...

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Continues from what `files` returned.

        Raises:
            ValueError: if they are those of another configuration.
        """
        ...


def build(
    config: RunConfig,
    observation_space: gym.Space[Any],
    action_space: gym.Space[Any],
    *,
    collective: Collective | None = None,
    device: str = "cpu",
) -> Any:
    """Builds the learner's side of the algorithm, with the random numbers of the run's seed.

    Args:
        config: of the run.
        observation_space: flat, or a Dict of goals.
        action_space: of the environment.
        collective: the learners of which this is one; None: it is the only one.
        device: on which it learns.
    """
    if config.algorithm.name == "ppo":
        from physai.train.algorithms.ppo import build as build_ppo

        return build_ppo(config, observation_space, action_space, collective=collective, device=device)
    if config.algorithm.name == "recurrent_ppo":
        from physai.train.algorithms.recurrent import build as build_recurrent

        return build_recurrent(config, observation_space, action_space, device)
    from physai.train.algorithms.off_policy import OffPolicy

    return OffPolicy(config, observation_space, action_space, device)


def build_behaviour(config: RunConfig, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> Behaviour:
    """Builds the actors' side of the algorithm; both spaces are flat."""
    if config.algorithm.name == "ppo":
        from physai.train.behaviour import BehaviourPolicy

        return BehaviourPolicy(config, observation_space, action_space)
    if config.algorithm.name == "recurrent_ppo":
        from physai.train.algorithms.recurrent import RecurrentBehaviour

        return RecurrentBehaviour(config, observation_space, action_space)
    from physai.train.algorithms.explore import Explorer

    return Explorer(config, observation_space, action_space)
