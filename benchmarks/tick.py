"""What one tick of the runtime costs, apart from when the operating system wakes it up: read to log, without waiting.

Ticks follow each other on recorded observations, so caches are warm; in a loop at 20 Hz they are cold, and a tick
takes ten times as long. The garbage collector is off, and the priority as high as permitted, as in the loop. `--loop`
measures that loop instead: at 100 Hz and with a log, how much of a core it takes, and how late its ticks are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from physai.deploy.bundle import Bundle
from physai.deploy.clock import undisturbed
from physai.deploy.io import Reading, Replay
from physai.deploy.log import Log
from physai.deploy.loop import Loop
from physai.deploy.run import load_to_run
from physai.deploy.runtime import Runtime
from physai.policy import shipped_policy

TASKS = ("reach", "peg_insertion", "tidy_up", "amr_navigation")
WARM_UP = 500
LOOP_HZ = 100
BETWEEN_NS = 20_000_000  # what the clock of the runtime sees between ticks, so that no observation looks old


class Clock:
    """Real time within a tick, and a jump of one period between ticks."""

    def __init__(self) -> None:
        self.ahead = 0

    def __call__(self) -> int:
        """Returns the time [ns]."""
        return time.monotonic_ns() + self.ahead


def measure(bundle: Bundle, ticks: int, folder: Path, logged: bool) -> np.ndarray:
    """Returns the seconds of each tick."""
    golden = bundle.golden[0][0]
    clock = Clock()
    observations = np.resize(golden, (ticks + WARM_UP + 10, golden.shape[1]))
    robot = Replay(bundle.spec, observations, clock)
    log = Log(folder / f"{bundle.manifest['name']}.mcap", bundle) if logged else None
    runtime = Runtime(bundle, robot, log=log, clock=clock)
    runtime.arm()
    seconds = np.zeros(ticks + WARM_UP)
    with undisturbed():
        for index in range(len(seconds)):
            clock.ahead += BETWEEN_NS
            started = time.perf_counter()
            runtime.tick()
            seconds[index] = time.perf_counter() - started
            if log is not None and index % 100 == 0:
                time.sleep(0.005)  # as the loop sleeps, which is when the log is written
    if log is not None:
        log.close()
    return seconds[WARM_UP:]


class Paced(Replay):
    """A recording whose observations come at LOOP_HZ by the clock, as a sensor's do; it notes when each was read."""

    def read(self, wait_s: float) -> Reading:
        """Returns the next observation."""
        reading, now = super().read(wait_s), time.monotonic_ns()
        came = now - (now - self.began) % round(1e9 / LOOP_HZ)
        for term in range(len(reading.received_ns)):
            reading.received_ns[term] = came
        self.times.append(now)
        return reading

    def connect(self) -> None:
        """Begins."""
        super().connect()
        self.times: list[int] = []
        self.began = time.monotonic_ns()


def loop(name: str, seconds: float, folder: Path) -> None:
    """Prints what the loop costs at LOOP_HZ: time of the processor for everything in it, the log included."""
    bundle = load_to_run(shipped_policy(name), None, unsigned=True)
    control = replace(bundle.interface.control, period_s=1.0 / LOOP_HZ, deadline_s=0.5 / LOOP_HZ)
    bundle = replace(bundle, interface=replace(bundle.interface, control=control))
    golden = bundle.golden[0][0]
    robot = Paced(bundle.spec, np.resize(golden, (round(seconds * LOOP_HZ), golden.shape[1])), time.monotonic_ns)
    robot.connect()
    log = Log(folder / "loop.mcap", bundle)
    runtime = Runtime(bundle, robot, log=log)
    clock = Loop(runtime)
    load, wall, used = os.getloadavg()[0], time.monotonic(), time.process_time()
    state = clock.run().value
    used, wall = time.process_time() - used, time.monotonic() - wall
    log.close()
    apart = np.diff(np.array(robot.times[LOOP_HZ:])) * 1e-6
    sys.stdout.write(
        f"{name}: {runtime.ticks} ticks in {wall:.0f} s, ended {state} {runtime.cause}; {used / wall:.1%} of a core; "
        f"apart p50 {np.median(apart):.2f} ms, p99.9 {np.percentile(apart, 99.9):.2f}, at most {apart.max():.2f}; "
        f"skipped {clock.skipped}, missed {runtime.misses}; load {load:.1f} to {os.getloadavg()[0]:.1f}\n"
    )


def main() -> None:
    """Prints percentiles for each shipped policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=20_000)
    parser.add_argument("--loop", type=float, metavar="SECONDS", help="measure the loop instead, for so long")
    options = parser.parse_args()
    if options.loop:
        with tempfile.TemporaryDirectory() as folder:
            loop(TASKS[0], options.loop, Path(folder))
        return
    sys.stdout.write("| policy | log | p50 | p99 | p99.9 | largest |\n| --- | --- | --- | --- | --- | --- |\n")
    with tempfile.TemporaryDirectory() as folder:
        for name in TASKS:
            bundle = load_to_run(shipped_policy(name), None, unsigned=True)
            for logged in (False, True):
                seconds = measure(bundle, options.ticks, Path(folder), logged)
                figures = [f"{v * 1e6:.0f} us" for v in (*np.percentile(seconds, (50, 99, 99.9)), seconds.max())]
                sys.stdout.write(f"| {name} | {'yes' if logged else 'no'} | {' | '.join(figures)} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
