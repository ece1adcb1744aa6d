"""Control steps a second of every task on one core, and where the time goes.

    python benchmarks/env_speed.py [--steps 1000] [--soak 20000] [TASK ...]

Three figures a task: control steps a second of CPU time; the share of it inside ``stepSimulation``; and what the Python
layer costs, that is everything that is not inside Bullet (its other calls, such as reading states or casting rays, are
shown by themselves). The last two come from rounds with a stopwatch around each call into Bullet; the stopwatch's own
cost is measured and taken off.

``--soak N`` resets Reach N times and prints by how much the process has grown.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from physai_envs import body, registry, robot, world
from physai_envs.env import TaskEnv

ROUNDS = 7
Drive = Callable[[TaskEnv], Any]
BARS = {"reach": 3500, "tidy_up": 1500, "amr_navigation": 2500}  # steps a second that we hold ourselves to


class Stopwatch:
    """Stands in for the engine module, and adds up the time inside its functions."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.seconds, self.stepping = 0.0, 0.0  # in all calls, and of them in stepSimulation
        self.calls, self.steps = 0, 0

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if not callable(function):
            return function

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments, **named)
            spent = time.perf_counter() - started
            self.seconds += spent
            self.calls += 1
            if name == "stepSimulation":
                self.stepping += spent
                self.steps += 1
            return result

        setattr(self, name, timed)
        return timed


def idle(env: TaskEnv) -> Any:
    """Stands still."""
    return np.zeros(env.action_space.shape, np.float32)


def scripted(env: TaskEnv) -> Any:
    """Follows the task's expert: the tidy-up arm is holding the object for much of the time."""
    return env.expert_action()


def wander(env: TaskEnv) -> Any:
    """Drives with a slowly turning command."""
    return np.full(env.action_space.shape, 0.3 * np.sin(0.2 * env.scene.time_s), np.float32)


DRIVES: dict[str, Drive] = {"reach": idle, "tidy_up": scripted, "amr_navigation": wander}


def run(env: TaskEnv, drive: Drive, steps: int) -> float:
    """CPU seconds that `steps` control steps take, resets and the choice of actions not counted."""
    spent, seed = 0.0, 0
    env.reset(seed=seed)
    for _ in range(steps):
        action = drive(env)
        started = time.thread_time()
        _, _, terminated, truncated, _ = env.step(action)
        spent += time.thread_time() - started
        if terminated or truncated:
            seed += 1
            env.reset(seed=seed)
    return spent


def measure(name: str, steps: int) -> tuple[float, float, float, float]:
    """(steps a second, share inside stepSimulation, us in other Bullet calls, us in Python).

    Rounds with and without the stopwatch take turns, and the fastest of each counts: other work on the machine only
    ever adds.
    """
    env = registry.make(name).unwrapped
    drive = DRIVES.get(name, wander)
    watch, noop = Stopwatch(world.bullet), Stopwatch(time)
    for _ in range(10_000):
        noop.monotonic()
    own = noop.seconds / noop.calls  # of the stopwatch, inside what it measures
    plain, stepping, other = [], [], []
    for _ in range(ROUNDS):
        plain.append(run(env, drive, steps) / steps)
        world.bullet = body.bullet = watch
        robot.multiply = watch.multiplyTransforms
        watch.seconds, watch.stepping, watch.calls, watch.steps = 0.0, 0.0, 0, 0
        run(env, drive, steps)
        world.bullet = body.bullet = watch._module
        robot.multiply = watch._module.multiplyTransforms
        stepping.append((watch.stepping - watch.steps * own) / steps)
        other.append((watch.seconds - watch.stepping - (watch.calls - watch.steps) * own) / steps)
    env.close()
    python = min(plain) - min(stepping) - min(other)
    return 1.0 / min(plain), min(stepping) / min(plain), min(other) * 1e6, python * 1e6


def soak(resets: int) -> float:
    """Growth of the process over `resets` resets [MB], after the first tenth."""
    env = registry.make("reach").unwrapped

    def resident() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    for seed in range(resets // 10):
        env.reset(seed=seed)
    before = resident()
    for seed in track(range(resets), description="resets"):
        env.reset(seed=seed % 1000)
    env.close()
    return resident() - before


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=[registry.slug(task.id) for task in registry.tasks()])
    parser.add_argument("--steps", type=int, default=1000, help="a round")
    parser.add_argument("--soak", type=int, default=0)
    arguments = parser.parse_args()
    console = Console()
    table = Table("task", "steps/s", "bar", "in stepSimulation", "other Bullet calls", "Python layer")
    for name in track(arguments.tasks, description="measuring", console=console, transient=True):
        rate, share, other, python = measure(name, arguments.steps)
        bar = str(BARS.get(name, ""))
        table.add_row(name, f"{rate:.0f}", bar, f"{share:.0%}", f"{other:.0f} us", f"{python:.0f} us")
    console.print(table)
    if arguments.soak:
        console.print(f"{arguments.soak} resets grew the process by {soak(arguments.soak):.2f} MB")


if __name__ == "__main__":
    main()
