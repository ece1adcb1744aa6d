"""Tiny environments for the tests of the trainer; registered on import: ``toys:Name-v0`` names them anywhere."""

from __future__ import annotations

import math
import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Target(gym.Env):
    """A point is pushed towards the origin; success is to end near it. Observations need normalising."""

    metadata: ClassVar = {"render_modes": [], "render_fps": 10}

    def __init__(self, steps: int = 12, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Box(-1000.0, 1000.0, (3,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.steps = steps

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.options = dict(options or {})
        self.at = self.np_random.uniform(-1, 1, 2) * self.options.get("difficulty", 1.0)
        self.t = 0
        return self.observe(), {}

    def observe(self):
        return np.array([100 * self.at[0], self.at[1], 500.0], np.float32)

    def step(self, action):
        assert np.abs(action).max() <= 1.0
        self.at = self.at + 0.3 * np.asarray(action, np.float64) + 0.01 * self.np_random.standard_normal(2)
        self.t += 1
        distance = float(np.hypot(*self.at))
        success, lost = distance < 0.1, distance > 3.0
        reward = 5.0 * success - 0.1 * distance  # to hover beside the goal for ever is worth less than to reach it
        info = {"is_success": success, "reward_terms": {"near": math.exp(-distance), "there": float(success)}}
        done, cut = success or lost, self.t >= self.steps
        if done or cut:
            info["metrics"] = {"distance": distance}
        return self.observe(), reward, done, cut and not done, info

    def expert_action(self):
        return np.clip(-self.at / 0.3, -1, 1).astype(np.float32)


class Poisoned(Target):
    """Its observation becomes NaN in the episodes of one seed in four."""

    def reset(self, *, seed=None, options=None):
        self.bad = seed is not None and seed % 4 == 0
        return super().reset(seed=seed, options=options)

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self.bad and self.t == 5:
            observation[0] = np.nan
        return observation, reward, terminated, truncated, info


class Deadly(Target):
    """Kills its own process once, then hangs once; files that begin as PHYSAI_TOY_ONCE says remember it."""

    def step(self, action):
        flag = os.environ.get("PHYSAI_TOY_ONCE", "")
        if flag and self.t == 3 and not Path(flag).exists():
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if flag and self.t == 5 and not Path(f"{flag}-hung").exists():
            Path(f"{flag}-hung").touch()
            time.sleep(1000)
        return super().step(action)


class Fatal(Target):
    """One episode in `one_in` fails, in its reset or in step 2: with `how` raise, kill (its process) or hang."""

    def __init__(self, how: str = "raise", one_in: int = 16, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.how, self.one_in = how, one_in

    def fail(self):
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "hang":
            time.sleep(1000)
        raise ZeroDivisionError("the simulator is upset")

    def reset(self, *, seed=None, options=None):
        self.bad = seed is not None and seed % self.one_in == 0
        if self.bad and seed % (2 * self.one_in):
            self.fail()
        return super().reset(seed=seed, options=options)

    def step(self, action):
        if self.bad and self.t == 1:
            self.fail()
        return super().step(action)


class Stuck(Target):
    """Hangs once in its construction in an actor, and once in a reset; files beside PHYSAI_TOY_ONCE remember it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.hang("construction")

    def hang(self, where: str) -> None:
        flag = Path(os.environ.get("PHYSAI_TOY_ONCE", "") + f"-{where}")
        if "RAY_RAYLET_PID" in os.environ and not flag.exists():  # an actor, and not the driver
            flag.touch()
            time.sleep(1000)

    def reset(self, *, seed=None, options=None):
        self.hang("reset")
        return super().reset(seed=seed, options=options)


def stall(phase: str) -> None:
    """Waits, once, if a file `stall` in PHYSAI_TOY_STALL says "phase path" and the path is there; says so in `reached`.

    So a test comes to a point of a run without sleeping: it kills something there, and then touches `go`.
    """
    folder = Path(os.environ.get("PHYSAI_TOY_STALL", "/nowhere"))
    try:
        wanted, _, path = (folder / "stall").read_text().rpartition(" ")
        if wanted != phase or not Path(path).exists():
            return
        claim = (folder / "stall").rename(folder / "reached.partial")  # one process alone
    except (OSError, ValueError):
        return
    claim.write_text(str(os.getpid()))
    claim.replace(folder / "reached")
    while not (folder / "go").exists():
        time.sleep(0.02)


class Staged(Target):
    """Can be stalled while it collects."""

    def step(self, action):
        if self.t == 3:
            stall("collecting")
        return super().step(action)


def stage() -> None:
    """Makes the learner of this process stall where it updates and where it writes a checkpoint."""
    from physai import storage
    from physai.train.learner import Learner
    from physai.train.recorder import Writer

    check, write, submit = Learner._check_finite, storage._write_durably, Writer.submit
    if getattr(check, "staged", False):
        return

    def checking(learner: Any) -> None:
        # Parameters have changed, and nobody has counted it yet.
        stall("updating" if learner.collective.leader else "updating beside the first")
        check(learner)

    def writing(path: Path, data: bytes) -> None:
        if path.name == "policy.json":  # in the middle of the files
            stall("checkpointing")
        write(path, data)

    def submitting(self: Writer, snapshot: Any) -> None:
        self.idle(10.0)  # on a busy machine a snapshot that waits is replaced, and a test waits for its checkpoint
        submit(self, snapshot)

    checking.staged = True  # type: ignore[attr-defined]
    Learner._check_finite, storage._write_durably, Writer.submit = checking, writing, submitting  # type: ignore[method-assign]


class Slow(Target):
    """Takes a minute for a step as soon as the file is there that PHYSAI_TOY_SLOW names."""

    def step(self, action):
        if Path(os.environ.get("PHYSAI_TOY_SLOW") or "/nowhere").exists():
            time.sleep(60)
        return super().step(action)


class Leisurely(Target):
    """Takes 10 ms a step, so that something can happen meanwhile."""

    def step(self, action):
        time.sleep(0.01)
        return super().step(action)


class Explosive(Target):
    """Pays rewards that make the loss infinite."""

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, 3e38, terminated, truncated, info


def register(name: str, entry: Any, **arguments: Any) -> None:
    """Registers once."""
    if name not in gym.registry:
        gym.register(name, entry, **arguments)


register("Target-v0", Target)
register("Poisoned-v0", Poisoned)
register("Deadly-v0", Deadly)
register("Raising-v0", Fatal)
register("Fatal-v0", Fatal, kwargs={"how": "kill"})
register("Hanging-v0", Fatal, kwargs={"how": "hang", "one_in": 32})
register("Stuck-v0", Stuck)
register("Staged-v0", Staged)
register("Slow-v0", Slow)
register("Explosive-v0", Explosive)
register("Leisurely-v0", Leisurely)


def small(task: str = "toys:Target-v0", **changes: Any) -> dict[str, Any]:
    """Values of a configuration that trains in a second; nested tables in `changes` are merged."""
    values: dict[str, Any] = {
        "task": task,
        "seed": 3,
        "name": "run",
        "algorithm": {"batch_size": 32, "epochs": 2, "network": [8]},
        "rollout": {"groups": 2, "envs_per_group": 2, "steps": 16, "actors": 2, "timeout_s": 60},
        "stop": {"steps": 64 * 5, "episodes": 4, "every_steps": 128},
        "checkpoint": {"every_iterations": 1, "keep": 3},
        "curriculum": {"easy_fraction": 0.5},
    }
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
    return values


stop_on = ""  # somebody asks the run to stop as soon as it says this


def learn(
    values: dict[str, Any], stop_after: int | None = None, collective: Any = None, *, beside: bool = False
) -> Any:
    """Trains in this process without Ray, and returns the learner; `stop_after` iterations somebody asks it to stop.

    With a collective this is one of several learners, and the first of them makes the run folder.
    `beside`: checkpoints are written while it learns, as usual; else each is waited for, so that none is skipped.
    """
    from physai.config import RunConfig
    from physai.storage import Storage
    from physai.train.driver import inspect
    from physai.train.learner import Learner
    from physai.train.progress import TerminalBoard
    from physai.train.run_dir import RunFolder
    from physai.train.work import InProcessFleet
    from physai_envs.registry import slug

    config = RunConfig.model_validate(values)
    folder = Storage.at(config.storage) / slug(config.task) / "run"
    if collective is not None and not collective.leader:
        run = RunFolder(folder, config.checkpoint.keep)
    else:
        run = RunFolder.reopen(folder, config) if (folder / "config.yaml").exists() else RunFolder.create(config)

    class Board(TerminalBoard):
        lines: ClassVar[list[str]] = []

        def show(self, row):
            if row["iteration"] == stop_after:
                self.stop_asked.set()

        def say(self, text):
            self.lines.append(text)

        def phase(self, text):
            if stop_on and stop_on in text:
                self.stop_asked.set()

    learner = Learner(
        config, inspect(config), InProcessFleet(config), run, Board("", shown=False), collective=collective
    )
    learner.board.lines = []
    if not beside:
        save = learner.store.save

        def save_and_wait(*arguments: Any) -> None:
            save(*arguments)
            learner.store.drain()

        learner.store.save = save_and_wait
    learner.outcome = learner.run()
    return learner
