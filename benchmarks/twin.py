"""Shipped policies on the simulated cell, in real time and out of process: success, interventions, broken limits.

One row for each task and condition, as a Markdown table. Rows are kept in a JSON file: a second call measures only
what is missing there, or belongs to a network, interface or limits that no longer ship. `--kill` measures instead how
long the robot moves after its controller was frozen, killed, or found its disk full.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from physai.deploy.bundle import Bundle, sign_bundle
from physai.deploy.files import MANIFEST, canonical_json, sha256
from physai.deploy.link import LinkedRobot
from physai.deploy.log import Log
from physai.deploy.loop import Loop
from physai.deploy.run import load_to_run
from physai.deploy.runtime import Runtime
from physai.deploy.signature import Approval, Trust, key_id
from physai.deploy.watchdog import Watchdog
from physai.errors import PhysaiError
from physai.evaluate.statistics import wilson_interval
from physai.policy import shipped_policy
from physai.twin.faults import Faults
from physai.twin.jobs import cell, run_jobs

TASKS = tuple(sorted(path.name for path in shipped_policy("reach").parent.iterdir() if path.is_dir()))
CONDITIONS = {
    "as it is": Faults(),
    "20 ms from sensor to drive, jitter 10 ms": Faults(latency_s=0.01, jitter_s=0.005),
    "5 % of observations lost": Faults(drop=0.05),
    "sensor frozen after 0.3 s": Faults(freeze_at_s=0.3),
    "nothing passes for 0.2 s": Faults(stall_at_s=0.3),
}
FIRST_SEED = 1_000_000
HEAD = (
    "task", "condition", "in training, 95 % of 200", "on the cell", "intervals", "faults", "shield", "skipped", "late",
    "limits broken",
)  # fmt: skip
RESULTS, LOST = (Path(__file__).with_name(name) for name in ("twin.json", "twin_lost.json"))
RUN = ("policy.onnx", "safety.json")  # files of a bundle that decide what it does
BUDGET_S = 540.0  # of a row: the successes of a policy that it has time for
EPISODES = (10, 30)  # the fewest and the most of a row
WAYS = {"kill -STOP": signal.SIGSTOP, "kill -9": signal.SIGKILL, "disk full": None}
DISK_FULL_BYTES = 6_000  # of the log: less than a job writes
MOVING = 7  # ticks after which the controller is attacked: the arm is on its way, and not there yet


def evaluated(name: str) -> dict[str, Any]:
    """Returns what was measured of a shipped policy in the training environment, out of its evidence."""
    report: dict[str, Any] = json.loads((shipped_policy(name) / "evidence" / "evaluation.json").read_text())
    return report


def runs(folder: Path) -> str:
    """Returns a digest of what a controller does with a bundle; its evidence may grow without another one."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    parts = [manifest[key] for key in ("policy", "interface", "control", "model")]
    return sha256(canonical_json([*parts, *(sha256((folder / name).read_bytes()) for name in RUN)]))


@contextmanager
def signed(name: str) -> Iterator[Bundle]:
    """A copy of a shipped policy, signed for this measurement, and loaded while nothing but that key is believed."""
    key = Ed25519PrivateKey.generate()
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(shipped_policy(name), Path(folder) / name)
        sign_bundle(copy, Approval(Path(__file__).name, datetime.now(timezone.utc).isoformat()), key)
        yield load_to_run(copy, Trust({key_id(key.public_key()): key.public_key()}), unsigned=False)


def row(name: str, condition: str) -> dict[str, Any]:
    """Measures one task under one condition; as many episodes as fit into BUDGET_S, within EPISODES."""
    episodes = min(max(EPISODES[0], round(BUDGET_S / evaluated(name)["time_to_success_s"]["mean"])), EPISODES[1])
    with signed(name) as bundle:
        jobs = run_jobs(bundle, range(FIRST_SEED, FIRST_SEED + episodes), CONDITIONS[condition])
    ticks = sum(job.ticks for job in jobs)
    return {
        "task": name, "condition": condition, "runs": runs(shipped_policy(name)), "episodes": episodes,
        "successes": sum(job.success for job in jobs), "faults": sum(job.state.value == "fault" for job in jobs),
        "causes": sorted({job.cause for job in jobs if job.cause}),
        "interventions": sum(job.interventions for job in jobs) / ticks, "skipped": sum(job.skipped for job in jobs),
        "late_ms": max(job.late_s for job in jobs) * 1e3,
        "broken": sum(sum(job.violations.values()) for job in jobs),
        "limits": sorted({name for job in jobs for name in job.violations}), "load": os.getloadavg()[0],
    }  # fmt: skip


def measure(names: list[str], conditions: list[str], path: Path, parallel: int) -> None:
    """Measures what `path` does not hold yet of these bundles, several cells at a time, and writes after each."""
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    digests = {name: runs(shipped_policy(name)) for name in names}
    rows = [one for one in rows if digests.get(one["task"], one["runs"]) == one["runs"]]
    known = {(one["task"], one["condition"]) for one in rows}
    longest_first = sorted(names, key=lambda name: -evaluated(name)["time_to_success_s"]["mean"])
    left = [pair for pair in itertools.product(longest_first, conditions) if pair not in known]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(parallel, mp_context=spawn, max_tasks_per_child=1) as pool:
        for done in as_completed([pool.submit(row, *pair) for pair in left]):
            try:
                rows.append(done.result())
            except PhysaiError as problem:  # the others are worth as much as before
                sys.stderr.write(f"{problem}\n")
            path.write_text(json.dumps(rows, indent=1) + "\n")


def table(path: Path) -> str:
    """Returns the rows of a file as a Markdown table."""
    order = list(CONDITIONS)
    lines = [HEAD, ("---",) * len(HEAD)]
    rows = json.loads(path.read_text())
    for one in sorted(rows, key=lambda one: (one["task"], order.index(one["condition"]))):
        low, high = evaluated(one["task"])["success"]["interval"]
        own = wilson_interval(one["successes"], one["episodes"])
        lines.append(
            (
                one["task"], one["condition"], f"{low:.1%} to {high:.1%}", f"{one['successes']} of {one['episodes']}",
                "agrees" if own[0] <= high and low <= own[1] else "differs", str(one["faults"]),
                f"{one['interventions']:.1%}", str(one["skipped"]), f"{one['late_ms']:.1f} ms", str(one["broken"]),
            )
        )  # fmt: skip
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def control(bundle: Bundle, path: Path, log: Path, small_disk: bool) -> None:
    """The controller that is attacked; with a small disk, its log has no room after a while."""
    robot = LinkedRobot(path, bundle.spec)
    watchdog = Watchdog(bundle.interface.control.watchdog_s, robot.stopper())
    robot.connect()
    watchdog.start()
    record = Log(log, bundle)
    runtime = Runtime(bundle, robot, log=record, watchdog=watchdog)
    failed_ns = 0
    if small_disk:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails then, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_FULL_BYTES, DISK_FULL_BYTES))
    robot.go(FIRST_SEED + 1)

    def told() -> bool:
        nonlocal failed_ns
        failed_ns = failed_ns or (time.monotonic_ns() if record.failed else 0)
        if runtime.ticks == MOVING:
            sys.stdout.write("moving\n")
            sys.stdout.flush()
        return False

    Loop(runtime).run(told)
    rested_ms = (time.monotonic_ns() - failed_ns) * 1e-6 if failed_ns else 0.0
    sys.stdout.write(f"{runtime.state.value}: {runtime.cause}; at rest after {rested_ms:.0f} ms\n")
    watchdog.close()


def attack(name: str, way: str) -> dict[str, Any]:
    """Lets a robot move, attacks its controller, and returns what the cell saw."""
    bundle = shipped_policy(name)
    with cell(bundle, Faults()) as (path, process), tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--control", name, str(path), str(Path(folder) / "run.mcap"), way]
        victim = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if victim.stdout is None or process.stdout is None:
            raise RuntimeError("both processes write to pipes")
        first = victim.stdout.readline()  # "moving", unless the disk was full before
        kind, attacked = WAYS[way], time.monotonic_ns()
        if kind is not None:
            victim.send_signal(kind)
            time.sleep(1.0)
            os.kill(victim.pid, signal.SIGKILL)
        victim.wait(60)
        seen: dict[str, Any] = json.loads(process.stdout.readline())
        return {**seen, "attacked_ns": attacked, "said": first.replace("moving\n", "") + victim.stdout.read()}


def kills(name: str, tries: int, path: Path) -> str:
    """Measures how long it takes until the robot brakes and rests, after each way to lose its controller; a table.

    Tries are kept in `path`; a second call makes only what is missing of them.
    """
    kept: dict[str, list[dict[str, Any]]] = json.loads(path.read_text()) if path.exists() else {}
    for _ in range(tries):
        for way in WAYS:
            if len(kept.setdefault(way, [])) < tries:
                seen = attack(name, way)
                kept[way].append({"said": seen["said"], "broken": sum(seen["violations"].values())})
                for key in ("braked_ns", "rested_ns"):
                    kept[way][-1][key] = seen[key] and seen[key] - seen["attacked_ns"]
                if WAYS[way] is None:  # from the moment when the log said that it cannot be written
                    told = seen["said"].rpartition(" after ")[2].split()
                    kept[way][-1].update(braked_ns=0, rested_ns=int(told[0]) * 1_000_000 if told else 0)
                path.write_text(json.dumps(kept, indent=1) + "\n")
    lines = [("what happened", "tries", "brakes after", "rests after", "safe stops", "limits broken"), ("---",) * 6]
    for way, seen in kept.items():
        times = [[one[key] * 1e-6 for one in seen if one[key]] for key in ("braked_ns", "rested_ns")]
        said = [f"{statistics.median(t):.0f} ms, at most {max(t):.0f} ms" if t else "-" for t in times]
        safe = sum(bool(one["rested_ns"] or "fault: the log" in one["said"]) for one in seen)
        broken = sum(one["broken"] for one in seen)
        lines.append((way, str(len(seen)), said[0], said[1], str(safe), str(broken)))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS, metavar="TASK")
    parser.add_argument("--conditions", nargs="*", default=list(CONDITIONS), choices=CONDITIONS, metavar="CONDITION")
    parser.add_argument("--results", type=Path, metavar="FILE.json", help="where figures are kept")
    parser.add_argument("--parallel", type=int, default=2, help="cells at a time")
    parser.add_argument("--kill", type=int, metavar="TRIES", help="measure lost controllers instead")
    parser.add_argument("--control", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.control:
        name, path, log, way = options.control
        control(load_to_run(shipped_policy(name), None, unsigned=True), Path(path), Path(log), WAYS[way] is None)
    elif options.kill:
        sys.stdout.write(kills(options.tasks[0], options.kill, options.results or LOST))
    else:
        path = options.results or RESULTS
        measure(options.tasks, options.conditions, path, options.parallel)
        sys.stdout.write(table(path))


if __name__ == "__main__":
    main()
