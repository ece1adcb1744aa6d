"""The simulated cell: drives that check and brake, sensors that fail, and the runtime on it as in training."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_toys import Clock

from physai.deploy.bundle import Bundle, load_bundle
from physai.deploy.io import Features, Reading
from physai.deploy.loop import Loop
from physai.deploy.runtime import Runtime, State
from physai.errors import DeployError
from physai.evaluate.episodes import play
from physai.policy import BundlePolicy, shipped_policy
from physai.twin.actuators import Actuators, Command
from physai.twin.cell import Cell
from physai.twin.faults import Faults
from physai.twin.jobs import run_jobs
from physai_envs import registry

PERIOD_NS = 50_000_000
FIRST_SEED = 1_000_000
QUICK = ("reach", "peg_insertion")  # of these the runtime is tried in `make test`, of all others in `make test-all`
NAMES = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in (registry.slug(task.id) for task in registry.tasks())
]


@pytest.fixture(scope="module")
def reach() -> Bundle:
    bundle = load_bundle(shipped_policy("reach"))
    bundle.seconds[:] = 0.0  # whatever else runs on this machine
    return bundle


class Drives:
    """The drives of the reach cell, and time that passes in periods."""

    def __init__(self, bundle: Bundle) -> None:
        self.drives = Actuators(bundle.safety, bundle.spec)
        self.now, self.tick = 0, 0

    def period(self, *values: float, skip: int = 0) -> list[float]:
        """Sends a command (or none), lets a period pass, and returns what was applied."""
        if values:
            self.tick += 1 + skip
            self.drives.receive(Command(self.now, self.now + round(2.5 * PERIOD_NS), self.tick, list(values)))
        self.now += PERIOD_NS
        return list(self.drives.apply(self.now - PERIOD_NS // 2))


def test_drives_apply_what_they_are_told(reach: Bundle) -> None:
    d = Drives(reach)
    assert d.period() == [0.0] * 3
    assert d.period(0.1, 0.0, -0.1) == [0.1, 0.0, -0.1]
    assert d.period() == [0.1, 0.0, -0.1], "one lost command is held"
    assert d.drives.violations == {}


def test_a_late_command_acts_a_period_later(reach: Bundle) -> None:
    d = Drives(reach)
    d.period(0.0, 0.0, 0.0)
    d.drives.receive(Command(d.now + 30_000_000, d.now + 10**9, 2, [0.2, 0.0, 0.0]))
    assert d.period() == [0.0] * 3
    assert d.period() == [0.2, 0.0, 0.0]


def test_drives_brake_when_commands_end_and_follow_again_from_rest(reach: Bundle) -> None:
    d = Drives(reach)
    for speed in (0.2, 0.4, 0.6, 0.6):
        d.period(speed, 0.0, 0.0)
    applied = [d.period() for _ in range(6)]
    assert applied[0][0] == applied[1][0] == pytest.approx(0.6), "2.5 periods"
    assert applied[-1] == [0.0] * 3
    assert not d.drives.follows
    assert 0 < d.drives.braked_ns <= d.drives.rested_ns
    assert d.period(0.5, 0.0, 0.0) == [0.0] * 3, "they rest, so they begin at rest"
    d.period(0.0, 0.0, 0.0)
    assert d.drives.follows
    assert d.period(0.2, 0.0, 0.0) == [0.2, 0.0, 0.0]


def test_after_a_stop_drives_follow_no_more(reach: Bundle) -> None:
    d = Drives(reach)
    d.period(0.2, 0.0, 0.0)
    d.drives.stop(d.now)
    for _ in range(6):
        d.period(0.0, 0.0, 0.0)
    assert d.period(0.2, 0.0, 0.0) == [0.0] * 3
    d.drives.begin()
    assert d.period(0.2, 0.0, 0.0) == [0.2, 0.0, 0.0]


@pytest.mark.parametrize(
    ("commands", "broken"),
    [
        ([(0.7, 0.0, 0.0)], "tip_velocity.x range"),
        ([(0.0, math.nan, 0.0)], "tip_velocity.y range"),
        ([(0.0, 0.0, 0.0), (0.0, 0.0, 0.6), (0.0, 0.0, -0.6)], "tip_velocity.z rate"),
        ([(0.0, 0.0, 0.0), (0.6, 0.0, 0.0), (0.0, 0.0, 0.0)], "tip_velocity.x rate_change"),
    ],
)
def test_the_cell_sees_every_limit_that_is_broken(reach: Bundle, commands: Any, broken: str) -> None:
    d = Drives(reach)
    for values in commands:
        d.period(*values)
    assert broken in d.drives.violations


def test_the_cell_sees_where_the_tip_really_is(reach: Bundle) -> None:
    d = Drives(reach)
    high = reach.safety.workspace.inside.high  # type: ignore[union-attr]
    d.drives.check_place((high[0] - 0.01, 0.0, 0.3))
    assert d.drives.violations == {}
    d.drives.check_place((high[0] + 0.001, 0.0, 0.3))
    assert d.drives.violations == {"workspace": 1}


def test_faults_are_switches() -> None:
    assert Faults().to_dict() == {}
    faults = Faults(latency_s=0.02, jitter_s=0.01, freeze_at_s=1.0, stall_at_s=0.5)
    delays = [faults.delay_s(np.random.default_rng(i)) for i in range(50)]
    assert 0.02 <= min(delays) < max(delays) <= 0.03
    assert [faults.stalled(t) for t in (0.4, 0.5, 0.6, 0.7)] == [False, True, True, False]
    assert [faults.frozen(t) for t in (0.9, 1.0)] == [False, True]
    assert Faults(**json.loads(json.dumps(faults.to_dict()))) == faults
    with pytest.raises(DeployError, match=r"fault drop is 1\.5; it must lie between 0 and 1"):
        Faults(drop=1.5)


def test_the_way_of_a_command_is_the_cells_own(reach: Bundle, tmp_path: Path) -> None:
    cell = Cell(reach, tmp_path / "cell", Faults(), print)
    cell._begin({"job": 1, "seed": FIRST_SEED})
    assert registry.make("reach").reset(seed=FIRST_SEED)[1]["randomization"]["command_delay"] > 0.0
    assert cell.env.unwrapped.scene.command_delay_s == 0.0
    cell.env.close()
    cell._listener.close()


class Lockstep:
    """A robot that is the training environment itself: a command is a step, and time passes in whole periods."""

    def __init__(self, bundle: Bundle, clock: Clock) -> None:
        self.spec, self.clock = bundle.spec, clock
        self.env = registry.make(bundle.manifest["task"])
        self.reading = Reading.empty(bundle.spec)
        self.steps, self.success, self.started = 0, False, False

    @property
    def features(self) -> Features:
        return Features.of(self.spec)

    def go(self, seed: int) -> None:
        self.reading.values[:], _ = self.env.reset(seed=seed)
        self.steps, self.success, self.started, self.reading.done = 0, False, False, False

    def connect(self) -> None: ...

    def read(self, wait_s: float) -> Reading:
        for term in range(len(self.reading.sequence)):
            self.reading.received_ns[term], self.reading.sequence[term] = self.clock(), self.reading.sequence[term] + 1
        return self.reading

    def send(self, command: Sequence[float], valid_s: float, tick: int) -> Sequence[float]:
        if self.started and not self.reading.done:
            seen, _, ended, late, info = self.env.step(self.spec.to_action(command))
            self.reading.values[:], self.reading.done = seen, ended or late
            self.steps, self.success = self.steps + 1, info["is_success"]
        self.started = True  # the command before the first observation was judged is that of a robot at rest
        return command

    def stop(self) -> None: ...

    def stopper(self) -> Callable[[], None]:
        return self.stop

    def close(self) -> None:
        self.env.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_runtime_does_what_training_saw(name: str) -> None:
    """The whole runtime with shield and blending, in step with the environment: as successful as the policy alone."""
    bundle, clock = load_bundle(shipped_policy(name)), Clock()
    bundle.seconds[:] = 0.0
    robot = Lockstep(bundle, clock)
    runtime = Runtime(bundle, robot, clock=clock)
    policy, alone, ours, shielded, ticks = BundlePolicy(bundle, name), 0, 0, 0, 0
    for seed in range(FIRST_SEED, FIRST_SEED + (8 if registry.task(name).episode_s < 10.0 else 2)):
        alone += bool(play(robot.env, policy, seed).success)
        robot.go(seed)
        assert Loop(runtime, clock, clock.sleep).run() is State.VERIFIED, runtime.cause
        ours, shielded, ticks = ours + robot.success, shielded + runtime.interventions, ticks + runtime.ticks
    robot.close()
    assert ours >= alone - 1
    assert shielded <= 0.05 * ticks, (
        "limits that a policy meets all the time would not be those that it was trained with"
    )


def test_jobs_run_in_another_process_and_break_no_limit(reach: Bundle) -> None:
    jobs = run_jobs(reach, range(FIRST_SEED, FIRST_SEED + 2), Faults(drop=0.05))
    assert [job.violations for job in jobs] == [{}, {}]
    assert all(job.state in (State.VERIFIED, State.FAULT) for job in jobs), (
        "at rest, whatever this machine was busy with"
    )
    assert all(job.steps > 0 or job.cause for job in jobs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "succeeds"),
    [
        (Faults(), True),
        (Faults(drop=0.05), True),
        (Faults(stall_at_s=0.3), True),
        (Faults(latency_s=0.02, jitter_s=0.005), True),
        (Faults(freeze_at_s=0.3), False),
    ],
    ids=str,
)
def test_whatever_fails_no_limit_is_broken(reach: Bundle, faults: Faults, succeeds: bool) -> None:
    jobs = run_jobs(reach, range(FIRST_SEED, FIRST_SEED + 10), faults)
    assert [job.violations for job in jobs] == [{}] * 10
    assert sum(job.success for job in jobs) >= (8 if succeeds else 0)
    if faults.freeze_at_s is not None:
        # The arm may come to rest within the goal, on the way that it began before.
        assert all(job.success or (job.state is State.FAULT and "frozen" in job.cause) for job in jobs)
        assert sum(job.state is State.FAULT for job in jobs) >= 5


@pytest.mark.slow
def test_a_lost_controller_ends_in_a_safe_stop(tmp_path: Path) -> None:
    """`kill -STOP`, `kill -9` and a full disk, three times each, as the benchmark does it."""
    script = Path(__file__).parent.parent / "benchmarks" / "twin.py"
    command = [
        sys.executable,
        str(script),
        "--tasks",
        "reach",
        "--kill",
        "3",
        "--results",
        str(tmp_path / "kills.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["kill -STOP", "kill -9", "disk full"]
    assert all(row[4:] == ["3", "0"] for row in rows), done.stdout
