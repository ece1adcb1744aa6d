"""Runs jobs of a bundle on a simulated cell: the controller in this process, the cell in another, in real time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from physai.deploy.bundle import Bundle
from physai.deploy.ladder import Ladder
from physai.deploy.link import LinkedRobot
from physai.deploy.log import Log
from physai.deploy.loop import Loop
from physai.deploy.runtime import Runtime, State
from physai.deploy.watchdog import Watchdog
from physai.twin.faults import Faults
from physai_envs import registry as registry  # what is missing for a simulation is said here, not by the other process

CELL_ENDS_S = 60.0


@dataclass(frozen=True)
class Job:
    """One job: what the cell says about it, and what the runtime counted."""

    seed: int
    success: bool
    steps: int
    violations: dict[str, int]
    state: State
    cause: str
    ticks: int
    misses: int
    skipped: int
    interventions: int
    late_s: float


@contextmanager
def cell(bundle: Path, faults: Faults) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A cell in a process of its own, and the path of its socket; it ends by itself when its controller has gone."""
    with tempfile.TemporaryDirectory(prefix="physai-cell-") as folder:
        path = Path(folder) / "cell"
        command = [sys.executable, "-m", "physai.twin", str(bundle), str(path), json.dumps(faults.to_dict())]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            yield path, process
            process.wait(CELL_ENDS_S)
        finally:
            process.kill()
            process.wait()


def run_jobs(
    bundle: Bundle,
    seeds: Iterator[int] | range,
    faults: Faults | None = None,
    *,
    site: Any = None,
    log: Path | None = None,
    shadow: Bundle | None = None,
    ladder: Ladder | None = None,
    on_job: Callable[[Job], None] | None = None,
) -> list[Job]:
    """Runs one job for each seed, in real time. After a fault, somebody is told, and it is acknowledged for the next.

    Raises:
        DeployError: if the runtime refuses to run, or the log is not complete.
    """
    jobs = []
    with cell(bundle.path, faults or Faults()) as (path, _):
        robot = LinkedRobot(path, bundle.spec)
        watchdog = Watchdog(bundle.interface.control.watchdog_s, robot.stopper())
        record = None if log is None else Log(log, bundle)
        try:
            robot.connect()
            watchdog.start()
            runtime = Runtime(bundle, robot, site=site, log=record, watchdog=watchdog, shadow=shadow, ladder=ladder)
            for seed in seeds:
                jobs.append(_job(runtime, robot, seed))
                if on_job is not None:
                    on_job(jobs[-1])
                if runtime.state is State.FAULT:
                    runtime.acknowledge("the next job on the simulated cell")
        finally:
            watchdog.close()
            robot.close()
            if record is not None:
                record.close()
    return jobs


def _job(runtime: Runtime, robot: LinkedRobot, seed: int) -> Job:
    robot.go(seed)
    loop = Loop(runtime)
    state = loop.run()
    result = robot.result
    return Job(
        seed, bool(result.get("success")), int(result.get("steps", 0)), dict(result.get("violations", {})), state,
        runtime.cause, runtime.ticks, runtime.misses, loop.skipped, runtime.interventions, loop.late_s,
    )  # fmt: skip
