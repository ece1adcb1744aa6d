"""Shipped policies on the simulated cell, in real time and out of process: success, interventions, broken limits.

One row for each task and condition, as a Markdown table. `--kill` measures instead how long the robot moves after its
controller was frozen, killed, or found its disk full.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from physai.deploy.bundle import Bundle
from physai.deploy.link import LinkedRobot
from physai.deploy.log import Log
from physai.deploy.loop import Loop
from physai.deploy.run import load_to_run
from physai.deploy.runtime import Runtime
from physai.deploy.watchdog import Watchdog
from physai.policy import shipped_policy
from physai.twin.faults import Faults
from physai.twin.jobs import cell, run_jobs

TASKS = ("reach", "tidy_up", "peg_insertion", "amr_navigation")
CONDITIONS = {
    "as it is": Faults(),
    "20 ms from sensor to drive, jitter 10 ms": Faults(latency_s=0.01, jitter_s=0.005),
    "40 ms from sensor to drive, jitter 10 ms": Faults(latency_s=0.02, jitter_s=0.005),
    "5 % of observations lost": Faults(drop=0.05),
    "sensor frozen after 0.3 s": Faults(freeze_at_s=0.3),
    "nothing passes for 0.2 s": Faults(stall_at_s=0.3),
}
FIRST_SEED = 1_000_000
HEAD = ("task", "condition", "in training", "on the cell", "faults", "shield", "skipped", "late", "limits broken")
WAYS = {"kill -STOP": signal.SIGSTOP, "kill -9": signal.SIGKILL, "disk full": None}
DISK_FULL_BYTES = 6_000  # of the log: less than a job writes
MOVING = 7  # ticks after which the controller is attacked: the arm is on its way, and not there yet


def trained_success(name: str, episodes: int) -> int:
    """Successes of the same episodes in the training environment, one after the other, without a clock."""
    from physai.evaluate import evaluate

    report = evaluate(shipped_policy(name), episodes=episodes, workers=1, progress=False)
    return sum(bool(record.success) for record in report.records)


def row(name: str, condition: str, episodes: int, trained: int) -> tuple[str, ...]:
    """Measures one task under one condition."""
    bundle = load_to_run(shipped_policy(name), None, unsigned=True)
    jobs = run_jobs(bundle, range(FIRST_SEED, FIRST_SEED + episodes), CONDITIONS[condition])
    broken = sum(sum(job.violations.values()) for job in jobs)
    ticks = sum(job.ticks for job in jobs)
    return (
        name, condition, f"{trained} of {episodes}", f"{sum(job.success for job in jobs)} of {episodes}",
        str(sum(job.state.value == "fault" for job in jobs)),
        f"{sum(job.interventions for job in jobs) / ticks:.1%}", str(sum(job.skipped for job in jobs)),
        f"{max(job.late_s for job in jobs) * 1e3:.1f} ms", str(broken),
    )  # fmt: skip


def control(bundle: Bundle, path: Path, log: Path, small_disk: bool) -> None:
    """The controller that is attacked; with a small disk, its log has no room after a while."""
    robot = LinkedRobot(path, bundle.spec)
    watchdog = Watchdog(bundle.interface.control.watchdog_s, robot.stopper())
    robot.connect()
    watchdog.start()
    runtime = Runtime(bundle, robot, log=Log(log, bundle), watchdog=watchdog)
    if small_disk:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails then, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_FULL_BYTES, DISK_FULL_BYTES))
    robot.go(FIRST_SEED + 1)

    def told() -> bool:
        if runtime.ticks == MOVING:
            sys.stdout.write("moving\n")
            sys.stdout.flush()
        return False

    Loop(runtime).run(told)
    sys.stdout.write(f"{runtime.state.value}: {runtime.cause}\n")
    watchdog.close()


def attack(name: str, way: str) -> dict[str, Any]:
    """Lets a robot move, attacks its controller, and returns what the cell saw."""
    bundle = shipped_policy(name)
    with cell(bundle, Faults()) as (path, process), tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--control", name, str(path), str(Path(folder) / "run.mcap"), way]
        victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if victim.stdout is None or process.stdout is None:
            raise RuntimeError("both processes write to pipes")
        victim.stdout.readline()
        kind, attacked = WAYS[way], time.monotonic_ns()
        if kind is not None:
            victim.send_signal(kind)
            time.sleep(1.0)
            os.kill(victim.pid, signal.SIGKILL)
        victim.wait(60)
        seen: dict[str, Any] = json.loads(process.stdout.readline())
        return {**seen, "attacked_ns": attacked, "said": victim.stdout.read()}


def kills(name: str, tries: int) -> None:
    """Prints how long it took until the robot braked and rested, after each way to lose its controller."""
    sys.stdout.write("| what happened | tries | brakes after | rests after | safe stops | limits broken |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- | --- |\n")
    for way in WAYS:
        seen = [attack(name, way) for _ in range(tries)]
        times = [
            [(one[key] - one["attacked_ns"]) * 1e-6 for one in seen if one[key]] for key in ("braked_ns", "rested_ns")
        ]
        said = [f"{statistics.median(t):.0f} ms, at most {max(t):.0f} ms" if t and WAYS[way] else "-" for t in times]
        safe = sum(bool(one["rested_ns"] or "fault: the log" in one["said"]) for one in seen)
        broken = sum(sum(one["violations"].values()) for one in seen)
        sys.stdout.write(f"| {way} | {tries} | {said[0]} | {said[1]} | {safe} | {broken} |\n")
        sys.stdout.flush()


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=TASKS)
    parser.add_argument("--conditions", nargs="*", default=list(CONDITIONS))
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--kill", type=int, metavar="TRIES", help="measure lost controllers instead")
    parser.add_argument("--control", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.control:
        name, path, log, way = options.control
        control(load_to_run(shipped_policy(name), None, unsigned=True), Path(path), Path(log), WAYS[way] is None)
    elif options.kill:
        kills(options.tasks[0], options.kill)
    else:
        for line in (HEAD, ("---",) * len(HEAD)):
            sys.stdout.write(f"| {' | '.join(line)} |\n")
        for name in options.tasks:
            trained = trained_success(name, options.episodes)
            for condition in options.conditions:
                sys.stdout.write(f"| {' | '.join(row(name, condition, options.episodes, trained))} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
