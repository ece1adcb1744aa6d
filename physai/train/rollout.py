"""Collects experience: a group is a few environments that step together behind one policy.

A fragment is a pure function of (policy version, statistics, state of the group, seed, group, iteration): it does not
matter which actor computes it, or whether it is computed twice. It rests on episodes being pure functions of seed,
options and actions: a running environment is rebuilt bit for bit, anywhere, by playing its actions again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from physai.config import RunConfig
from physai.errors import EpisodeError
from physai.train import garbage, seeding
from physai.train.algorithms.registry import build_behaviour
from physai.train.behaviour import Behaviour, Package
from physai.train.fragment import EnvState, Episode, Fragment, GroupState, Job, Trace
from physai.train.normalizer import Moments
from physai_envs import registry

Make = Callable[[RunConfig], gym.Env[Any, Any]]


def make_env(config: RunConfig) -> gym.Env[Any, Any]:
    """Makes an environment of a run."""
    return registry.make(config.task, goal_env=config.goal_env)


def digest(state: GroupState) -> str:
    """Returns the same word for equal states: an actor that holds the group there need not rebuild it."""
    word = hashlib.blake2b(digest_size=16)
    for env in state:
        word.update(repr((env.episode, env.seed, sorted(env.options.items()), env.actions.shape)).encode())
        word.update(env.actions.tobytes())
    return word.hexdigest()


@dataclass
class _Running:
    """The episode that an environment plays now."""

    episode: int
    seed: int
    options: Mapping[str, Any]
    actions: list[NDArray[Any]] = field(default_factory=list)  # pieces (n, k), one for each fragment before this one
    first: int = 0  # step of this fragment at which it began
    length: int = 0
    terms: list[Mapping[str, float]] = field(default_factory=list)  # reward terms of each step


class Group:
    """E environments, which `make` makes, the episodes they play, and the loop that steps them."""

    def __init__(self, config: RunConfig, index: int, make: Make = make_env) -> None:
        self.config, self.index = config, index
        self.skip: frozenset[int] = frozenset()  # seeds in quarantine
        self.envs = [make(config) for _ in range(config.rollout.envs_per_group)]
        self._timed = [env.unwrapped for env in self.envs if hasattr(env.unwrapped, "seconds_in_physics")]
        self.action_space = self.envs[0].action_space
        self.observation_space = self.envs[0].observation_space
        self.at: str | None = None  # digest of the state that the environments are in
        self._running: list[_Running] = []
        shape = (len(self.envs), *(self.observation_space.shape or ()))
        self._raw = np.zeros(shape, np.float32)
        self._rewards = np.zeros(len(self.envs), np.float32)
        self._totals, self._discounted = np.zeros(len(self.envs)), np.zeros(len(self.envs))  # of the rewards so far

    def close(self) -> None:
        """Ends the environments."""
        for env in self.envs:
            env.close()

    # ---- episodes --------------------------------------------------------------------------------

    def _begin(self, e: int, episode: int, first: int) -> None:
        seed, options = seeding.episode(self.config, seeding.EPISODES, self.index, e, episode)
        while seed in self.skip:
            episode += 1
            seed, options = seeding.episode(self.config, seeding.EPISODES, self.index, e, episode)
        self._start(e, _Running(episode, seed, options, first=first))

    def _start(self, e: int, running: _Running) -> None:
        self._running[e] = running
        try:
            observation, _ = self.envs[e].reset(**seeding.reset_arguments(running.seed, running.options))
        except Exception as error:
            raise self._failed(e, f"failed in its reset: {error or type(error).__name__}") from error
        self._raw[e] = observation
        self._totals[e] = self._discounted[e] = 0.0

    def enter(self, state: GroupState | None) -> tuple[int, bool]:
        """Brings the environments into a state, if they are not there; an episode in quarantine gives way to the next.

        Returns:
            steps that were played again, and whether they led to the observations of the state.
        """
        here = state is not None and self.at == digest(state)
        self.at = None
        self._running = self._running if here else [_Running(0, 0, {}) for _ in self.envs]
        stay = [e for e, env in enumerate(state or ()) if env.seed not in self.skip]
        for e in range(len(self.envs)):
            if e not in stay:
                self._begin(e, 0 if state is None else state[e].episode + 1, 0)
        if state is None or here:
            return 0, True
        for e in stay:
            env = state[e]
            self._start(e, _Running(env.episode, env.seed, env.options, [env.actions]))
            for action in env.actions:
                self._advance(e, action)
                self._add_up(slice(e, e + 1))
        same = all(np.array_equal(state[e].observation, self._raw[e], equal_nan=True) for e in stay)
        return sum(len(state[e].actions) for e in stay), same

    def _advance(self, e: int, action: Any) -> tuple[bool, bool, dict[str, Any]]:
        """Steps one environment; returns terminated, truncated and info."""
        running = self._running[e]
        try:
            self._raw[e], self._rewards[e], terminated, truncated, info = self.envs[e].step(action)
        except Exception as error:
            raise self._failed(e, f"failed: {error or type(error).__name__}", 1) from error
        running.length += 1
        if terms := info.get("reward_terms"):
            running.terms.append(terms)
        return terminated, truncated, info

    def _add_up(self, part: slice) -> None:
        """Adds the rewards of a step to the returns of these environments' episodes."""
        rewards = self._rewards[part]
        total = float(rewards.sum())
        if total - total != 0.0:  # NaN or infinite, in one comparison; the sum alone may overflow
            for e in np.flatnonzero(~np.isfinite(rewards)):
                raise self._failed(part.start + int(e), f"gave the reward {rewards[e]}")
        self._totals[part] += rewards
        self._discounted[part] *= self.config.algorithm.gamma
        self._discounted[part] += rewards

    def _failed(self, e: int, what: str, ahead: int = 0) -> EpisodeError:
        running = self._running[e]
        options = f" and options {dict(running.options)}" if running.options else ""
        return EpisodeError(
            f"{self.config.task} {what} (group {self.index}, environment {e}, episode with seed {running.seed}"
            f"{options}, step {running.length}); reset with this seed to look at it",
            running.seed,
            running.length + ahead,
        )

    def _check_observations(self) -> None:
        total = float(self._raw.sum())
        if total - total != 0.0:  # NaN or infinite, in one comparison; the sum alone may overflow
            for e in np.flatnonzero(~np.isfinite(self._raw).all(axis=1)):
                raise self._failed(int(e), "gave an observation that is not finite")

    # ---- fragments -------------------------------------------------------------------------------

    def collect(self, policy: Behaviour, package: Package, job: Job) -> Fragment:
        """Collects a fragment.

        Raises:
            EpisodeError: if an environment fails or gives a number that is not finite.
        """
        self.skip = package.skip
        started, physics = time.perf_counter(), self._physics()
        policy.load(package)
        rebuilt, reproducible = self.enter(job.state)
        self.at = None  # whatever happens below, the environments have moved
        with torch.inference_mode(), torch.random.fork_rng(devices=[]), garbage.put_off():
            torch.manual_seed(seeding.torch_seed(self.config.seed, seeding.NOISE, self.index, job.iteration))
            policy.begin(job, len(self.envs))
            trace, episodes, returns = self._loop(policy)
            arrays = policy.describe(trace)
        state = self._state(trace.sent, policy.memory())
        self.at = digest(state)
        return policy.fragment(
            group=self.index,
            iteration=job.iteration,
            version=package.version,
            **arrays,
            observation_moments=Moments.of(trace.observations.reshape(-1, trace.last.shape[-1])),
            return_moments=Moments.of(returns.reshape(-1)),
            episodes=tuple(episodes),
            state=state,
            rebuilt=rebuilt,
            reproducible=reproducible,
            physics_s=self._physics() - physics,
            seconds=time.perf_counter() - started,
        )

    def _loop(self, policy: Behaviour) -> tuple[Trace, list[Episode], NDArray[np.float64]]:
        steps, n = self.config.rollout.steps, len(self.envs)
        trace, returns = self._trace(steps), np.zeros((steps, n))
        episodes: list[Episode] = []
        actions, sent, rewards = trace.actions, trace.sent, trace.rewards
        low, high = (None, None) if policy.discrete else (self.action_space.low, self.action_space.high)
        dones = np.array([running.length == 0 for running in self._running])
        self._check_observations()
        for t in range(steps):
            trace.observations[t], trace.episode_starts[t] = self._raw, dones
            drawn = policy.sample(trace.observations[t], dones)
            actions[t] = drawn.reshape(actions.shape[1:])
            sent[t] = drawn if low is None else np.minimum(np.maximum(drawn, low), high)
            dones = np.zeros(n, bool)
            ended = []
            for e in range(n):
                terminated, truncated, info = self._advance(e, int(sent[t, e]) if low is None else sent[t, e])
                if terminated or truncated:
                    ended.append((e, bool(truncated and not terminated), info))
            self._check_observations()
            self._add_up(slice(0, n))
            rewards[t], returns[t] = self._rewards, self._discounted
            for e, by_the_clock, info in ended:
                dones[e] = True
                trace.ended.append((t, e, self._raw[e].copy(), by_the_clock))
                episodes.append(self._finished(e, info))
                self._begin(e, self._running[e].episode + 1, t + 1)
            if ended:
                self._check_observations()
        trace.last, trace.last_dones = self._raw.copy(), dones
        return trace, episodes, returns

    def _trace(self, steps: int) -> Trace:
        n = len(self.envs)
        discrete = isinstance(self.action_space, gym.spaces.Discrete)
        action, kind = ((), np.int64) if discrete else (self.action_space.shape or (), np.float32)
        return Trace(
            observations=np.zeros((steps, *self._raw.shape), np.float32),
            actions=np.zeros((steps, n, *(action or (1,))), kind),
            sent=np.zeros((steps, n, *action), kind),
            rewards=np.zeros((steps, n), np.float32),
            episode_starts=np.zeros((steps, n), np.float32),
            last=self._raw,
            last_dones=np.zeros(n, bool),
        )

    def _finished(self, e: int, info: Mapping[str, Any]) -> Episode:
        running = self._running[e]
        return Episode(
            seed=running.seed,
            difficulty=float(running.options.get("difficulty", 1.0)),
            length=running.length,
            episode_return=float(self._totals[e]),
            success=bool(info["is_success"]) if "is_success" in info else None,
            reward_terms={n: float(sum(terms[n] for terms in running.terms)) for n in info.get("reward_terms", ())},
            metrics={name: float(value) for name, value in info.get("metrics", {}).items()},
        )

    def _state(self, sent: NDArray[Any], memory: NDArray[np.float32] | None) -> GroupState:
        """Where environments and policy stand after a fragment in which `sent` (T, E, k) was done."""
        states = []
        for e, running in enumerate(self._running):
            actions = np.concatenate([*running.actions, sent[running.first :, e]])
            running.actions, running.first = [actions], 0
            kept = None if memory is None else memory[e]
            states.append(EnvState(running.episode, running.seed, running.options, actions, self._raw[e].copy(), kept))
        return tuple(states)

    def _physics(self) -> float:
        return float(sum(env.seconds_in_physics for env in self._timed))


class RolloutWorker:
    """What runs in an actor: it holds groups and answers with pure functions of what it is given."""

    def __init__(self, config: RunConfig, make: Make = make_env) -> None:
        self.config, self._make = config, make
        self._groups: dict[int, Group] = {}
        self._policy: Behaviour | None = None
        self._judged: gym.Env[Any, Any] | None = None  # plays held-out episodes and demonstrations

    def sample(self, package: Package, job: Job) -> Fragment:
        """Collects a fragment of a group, wherever it was before."""
        group = self._groups.get(job.group)
        if group is None:
            group = self._groups[job.group] = Group(self.config, job.group, self._make)
        return group.collect(self.policy(group.envs[0], package), package, job)

    def policy(self, env: gym.Env[Any, Any], package: Package) -> Behaviour:
        """Returns the policy with a version loaded."""
        if self._policy is None:
            self._policy = build_behaviour(self.config, env.observation_space, env.action_space)
        self._policy.load(package)
        return self._policy

    def judge(self, package: Package, seeds: Sequence[int]) -> list[Any]:
        """Plays held-out episodes with the deterministic policy at full difficulty; `EpisodeError` if one fails."""
        from physai.evaluate.episodes import play
        from physai.train.behaviour import Deterministic

        env = self._spare()
        policy = Deterministic(self.policy(env, package), registry.policy_spec(env))
        options = {k: v for k, v in self.config.reset_options.items() if k != "difficulty"}
        records = []
        for seed in seeds:
            try:
                records += [play(env, policy, seed, options)] if seed not in package.skip else []
            except Exception as error:
                raise EpisodeError(
                    f"{error or type(error).__name__} (held-out episode with seed {seed})", seed, 0
                ) from error
        return records

    def demonstrate(self, package: Package, job: Any) -> Any:
        """Plays episodes for cloning; see `warm_start.demonstrate`."""
        from physai.train.warm_start import demonstrate

        env = self._spare()
        return demonstrate(env, self.policy(env, package), package, self.config, job)

    def _spare(self) -> gym.Env[Any, Any]:
        if self._judged is None:
            self._judged = self._make(self.config)
        return self._judged

    def close(self) -> None:
        """Ends all environments."""
        for group in self._groups.values():
            group.close()
        if self._judged is not None:
            self._judged.close()
