"""What an evaluation costs beside the environment alone, in CPU time.

    python benchmarks/eval_speed.py [--episodes 50] [--whole 200] [SOURCE ...]

For each policy: microseconds a control step of CPU time, of the environment alone that plays the same actions on the
same seeds (resets included), and of the evaluation's loop, which also asks the policy, checks every number and keeps
the books. Both take turns in one process, and the fastest round of each counts: other work on the machine only ever
adds. The aim for their ratio is 1.25.

``--whole N`` runs a whole evaluation of N episodes with a worker on each core, and shows how long its start took
(interpreters, libraries, policy, simulator), how long the rest, and the CPU time that the workers spent on a step.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from physai.evaluate import evaluate
from physai.evaluate.episodes import play
from physai.policy import Policy, load_policy
from physai_envs import registry

ROUNDS = 5
AIM = 1.25
FIRST = 1_000_000


def actions_of(env: gym.Env[Any, Any], policy: Policy, seeds: range) -> dict[int, list[NDArray[Any]]]:
    """What the policy does in each episode."""
    found: dict[int, list[NDArray[Any]]] = {}
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        policy.reset()
        found[seed], done = [], False
        while not done:
            found[seed].append(policy.act(observation[None])[0])
            observation, _, terminated, truncated, _ = env.step(found[seed][-1])
            done = terminated or truncated
    return found


def alone(env: gym.Env[Any, Any], actions: dict[int, list[NDArray[Any]]]) -> float:
    """CPU seconds of the bare environment [s]."""
    started = time.thread_time()
    for seed, sent in actions.items():
        env.reset(seed=seed)
        for action in sent:
            env.step(action)
    return time.thread_time() - started


def evaluated(env: gym.Env[Any, Any], policy: Policy, seeds: range) -> float:
    """CPU seconds of the evaluation's loop [s]."""
    started = time.thread_time()
    for seed in seeds:
        play(env, policy, seed)
    return time.thread_time() - started


def measure(source: str, episodes: int) -> tuple[int, float, float]:
    """(steps, seconds of the environment alone, seconds of the evaluation's loop)."""
    policy = load_policy(source)
    env = registry.make(policy.task)
    seeds = range(FIRST, FIRST + episodes)
    actions = actions_of(env, policy, seeds)
    rounds = [(alone(env.unwrapped, actions), evaluated(env, policy, seeds)) for _ in range(ROUNDS)]
    env.close()
    bare, full = np.min(rounds, axis=0)
    return sum(map(len, actions.values())), float(bare), float(full)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", default=[registry.slug(task.id) for task in registry.tasks()])
    parser.add_argument("--episodes", type=int, default=50, help="a round")
    parser.add_argument("--whole", type=int, default=0)
    arguments = parser.parse_args()
    console = Console()
    table = Table("policy", "steps", "environment alone", "evaluation", f"ratio (aim {AIM:g})")
    for source in arguments.sources:
        steps, bare, full = measure(source, arguments.episodes)
        row = (f"{seconds / steps * 1e6:.0f} us a step" for seconds in (bare, full))
        table.add_row(source, str(steps), *row, f"{full / bare:.2f}")
    console.print(table)
    for source in arguments.sources if arguments.whole else ():
        report = evaluate(source, episodes=arguments.whole, progress=False)
        spent, steps = report.timing, sum(record.steps for record in report.records)
        console.print(
            f"{source}: {arguments.whole} episodes, {steps} steps with {spent['workers']} workers: "
            f"start {spent['start_s']:.1f} s, play {spent['play_s']:.1f} s, "
            f"{spent['cpu_s'] / steps * 1e6:.0f} us of CPU a step"
        )


if __name__ == "__main__":
    main()
