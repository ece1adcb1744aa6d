"""What one tick of the runtime costs, apart from when the operating system wakes it up: read to log, without waiting.

Ticks follow each other on recorded observations, so caches are warm; in a loop at 20 Hz they are cold, and a tick
takes ten times as long. The garbage collector is off, and the priority as high as permitted, as in the loop.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from physai.deploy.bundle import Bundle
from physai.deploy.clock import undisturbed
from physai.deploy.io import Replay
from physai.deploy.log import Log
from physai.deploy.run import load_to_run
from physai.deploy.runtime import Runtime
from physai.policy import shipped_policy

TASKS = ("reach", "peg_insertion", "tidy_up", "amr_navigation")
WARM_UP = 500
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


def main() -> None:
    """Prints percentiles for each shipped policy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=20_000)
    options = parser.parse_args()
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
