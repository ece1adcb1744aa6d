"""Who acts, and in which environment: what window, browser and film have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from physai.errors import AssetError, TaskError
from physai.evaluate.episodes import Actor, finite, finite_number, to_env
from physai.policy import Policy, load_policy, shipped_policy
from physai.spec import PolicySpec
from physai_envs import registry
from physai_envs.env import TaskEnv


class Understudy:
    """Acts where there is no policy: the task's scripted expert, or random actions, the same in every episode."""

    def __init__(self, env: gym.Env[Any, Any], *, scripted: bool | None = None) -> None:
        self.spec: PolicySpec = registry.policy_spec(env)
        self._env = env
        inner = env.unwrapped
        self._expert = inner.expert_action if isinstance(inner, TaskEnv) and inner.task.expert is not None else None
        if scripted is False:
            self._expert = None
        self.words = "random actions, no policy" if self._expert is None else "scripted expert, no policy"

    def reset(self) -> None:
        """Starts the random actions anew, so that every episode can be seen again."""
        self._env.action_space.seed(0)

    def act(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Returns one action (1, k)."""
        action = self._env.action_space.sample() if self._expert is None else self._expert()
        return np.asarray(action).reshape(1, self.spec.action_size)


class Stage:
    """An environment and who acts in it, one control step at a time; used as a context manager.

    The same seed gives the same episode as `physai.evaluate.episodes.play`, bit for bit.

    Args:
        source: anything that `physai.policy.load_policy` takes; for a task without a policy, its scripted expert acts,
            or random actions are taken.
        task: needed where the source does not name it.
        visual: with visual shapes, so that the environment can be rendered; the physics is the same.
        chosen: what `cast` returned for this source, for those who had to know it before.

    Attributes:
        task: name that `registry.make` takes.
        env: the environment.
        actor: who acts: a policy, or an `Understudy`.
        spec: what is seen and done, and at which rate.
        words: what the actor is called, such as ``ppo policy``.
        seed, steps, observation, info: of the running episode; `info` is that of the last step or of the reset.
        reward: of the last step.
        total: sum of the rewards so far.
        ended: whether the episode is over.

    Raises:
        PhysaiError: whatever `load_policy` and `registry.make` raise.
    """

    def __init__(
        self, source: str | Path, task: str | None = None, *, visual: bool = True,
        chosen: tuple[str, Policy | None] | None = None,
    ) -> None:  # fmt: skip
        self.task, policy = chosen or cast(source, task)
        goal_env = policy is not None and policy.spec.goal_env
        self.env: gym.Env[Any, Any] = registry.make(self.task, visual=visual, goal_env=goal_env)
        self.actor: Actor = Understudy(self.env) if policy is None else policy
        self.spec: PolicySpec = self.actor.spec
        self.words = called(self.actor)
        self.seed, self.steps, self.reward, self.total, self.ended = 0, 0, 0.0, 0.0, True
        self.observation: Any = None
        self.info: Mapping[str, Any] = {}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    @property
    def declared(self) -> TaskEnv | None:
        """The environment as one of ours, with `task` and `scene`; None where it is somebody else's."""
        inner = self.env.unwrapped
        return inner if isinstance(inner, TaskEnv) else None

    def ours(self) -> TaskEnv:
        """Returns `declared`.

        Raises:
            TaskError: if the environment is somebody else's.
        """
        if self.declared is None:
            raise TaskError(f"{self.spec.task} is not declared by physai, so it has one picture of its own and no more")
        return self.declared

    @property
    def time_s(self) -> float:
        """Time since the reset [s]."""
        return self.steps / self.spec.control_hz

    def told_time(self, steps: int) -> str:
        """Says how long an episode of so many steps took, and how long it can take where that is declared."""
        most = "" if self.declared is None else f" of at most {self.declared.task.episode_s:g}"
        return f"{steps / self.spec.control_hz:.1f}{most} s"

    @property
    def success(self) -> bool:
        """Whether the goal is reached now."""
        return bool(self.info.get("is_success"))

    def reset(self, seed: int) -> None:
        """Starts episode `seed`."""
        self.observation, self.info = self.env.reset(seed=seed)
        self.actor.reset()
        self.seed, self.steps, self.reward, self.total, self.ended = seed, 0, 0.0, 0.0, False

    def step(self, action: NDArray[Any] | None = None) -> None:
        """Runs one control step; `action` (k,) in the policy's range takes the place of the actor's.

        Raises:
            SimulationError: if an observation, an action or the reward is not finite; names the seed.
        """
        chosen = self.actor.act(finite(self.observation, "an observation", self.seed, self.steps)[None])[0]
        chosen = finite(chosen if action is None else action, "an action of the policy", self.seed, self.steps)
        self.observation, reward, terminated, truncated, self.info = self.env.step(to_env(self.spec, chosen))
        self.steps += 1
        self.reward = finite_number(reward, "the reward", self.seed, self.steps)
        self.total += self.reward
        self.ended = bool(terminated or truncated)

    def take_over(self, actor: Actor, words: str = "") -> None:
        """Lets somebody else act from now on, called `words`.

        Raises:
            TaskError: if it is made for something else; then the one before goes on.
        """
        if (actor.spec.task, actor.spec.observation_size) != (self.spec.task, self.spec.observation_size):
            raise TaskError(f"{called(actor)} acts in {actor.spec.task}, and this is {self.spec.task}")
        self.actor, self.words = actor, words or called(actor)

    def understudies(self) -> list[Actor]:
        """Who else could act without a policy: the scripted expert, if there is one, and chance."""
        env = self.declared
        scripted = (True, False) if env is not None and env.task.expert is not None else (False,)
        found = [Understudy(self.env, scripted=kind) for kind in scripted]
        return [understudy for understudy in found if understudy.words != self.words]

    def close(self) -> None:
        """Ends the simulation."""
        self.env.close()


def called(actor: Actor) -> str:
    """Returns what an actor is called, such as ``ppo policy``."""
    return f"{actor.algorithm} policy" if isinstance(actor, Policy) else str(getattr(actor, "words", "policy"))


def cast(source: str | Path, task: str | None) -> tuple[str, Policy | None]:
    """Returns the task to make, by a name that `registry.make` takes, and who acts (None: there is no policy).

    Raises:
        PhysaiError: whatever `load_policy` raises.
    """
    if not Path(source).exists():
        try:
            shipped_policy(str(source))
        except AssetError:  # a task, but none ships for it: the expert or chance steps in
            return str(source), None
    policy = load_policy(source, task)
    return policy.task, policy
