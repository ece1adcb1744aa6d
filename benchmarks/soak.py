"""Trains for a while and kills rollout actors, and now and then the learner, at random: does it survive, does it grow?

Prints memory and restarts while it goes on. At the end: whether the run went on to its last minute, how its policies
and the best of them did, how memory grew, and whether processes or files are left.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from scipy.stats import theilslopes

import physai_configs
from physai.config import RunConfig
from physai.train.checkpoint import CheckpointStore
from physai.train.driver import train
from physai.train.run_dir import CHECKPOINTS

ACTOR, LEARNER = "ray::RolloutActor", "ray::RayTrainWorker"
TITLES = (ACTOR, LEARNER)
MB = 1024 * 1024
SHOW_S = 15.0
GONE_S = 20.0  # so long the processes of a run may take to end
PARENT, BEGAN = 1, 19  # fields of /proc/N/stat after the name


def fields(process: int) -> list[str]:
    """Returns what `/proc/N/stat` says after the name of a process; nothing if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def below(parent: int) -> dict[int, str]:
    """Returns the titles of all processes that descend from one, by number."""
    found, above = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (told := fields(int(entry.name))):
            try:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue
            above[int(entry.name)] = int(told[PARENT])

    def descends(process: int) -> bool:
        while process in above:
            process = above[process]
            if process == parent:
                return True
        return False

    return {process: title for process, title in found.items() if descends(process)}


def memory_mb(process: int) -> float:
    """Returns the resident memory of a process, 0 if it is gone."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB
    except (OSError, IndexError):
        return 0.0


class Killer(threading.Thread):
    """Kills a part of this process's run every few seconds, and prints memory.

    Args:
        every_s: between two kills.
        learner_every: every so many kills it is the learner, if that is a process of its own; 0 is never.
        storage: where the run is.
    """

    def __init__(self, every_s: float, learner_every: int, storage: Path) -> None:
        super().__init__(daemon=True)
        self.every_s, self.learner_every, self.storage = every_s, learner_every, storage
        self.kills = {title: 0 for title in TITLES}
        self.memory: list[tuple[float, float, float]] = []  # seconds, MB of the driver, MB of the largest actor
        self.seen: set[tuple[int, str]] = set()  # every process that ever belonged to the run, and when it began
        self.ended = threading.Event()
        self._random = random.Random(0)

    def run(self) -> None:
        """Works until the run has ended."""
        started, shown, killed = time.monotonic(), 0.0, time.monotonic()
        while not self.ended.wait(0.5):
            now, living = time.monotonic(), below(os.getpid())
            self.seen |= {(process, told[BEGAN]) for process in living if (told := fields(process))}
            if now - killed > self.every_s and rows_of(self.storage):  # not before it has begun
                killed = now
                self._kill(living)
            if now - shown > SHOW_S:
                shown = now
                actors = [memory_mb(process) for process, title in living.items() if title.startswith(ACTOR)]
                self.memory.append((now - started, memory_mb(os.getpid()), max(actors, default=0.0)))
                self._show(*self.memory[-1], count=len(actors))

    def _kill(self, living: dict[int, str]) -> None:
        number = sum(self.kills.values()) + 1
        wanted = LEARNER if self.learner_every and number % self.learner_every == 0 else ACTOR
        victims = [process for process, title in living.items() if title.startswith(wanted)]
        if victims:
            os.kill(self._random.choice(victims), signal.SIGKILL)
            self.kills[wanted] += 1

    def _show(self, seconds: float, driver: float, actor: float, *, count: int) -> None:
        last = rows_of(self.storage)[-1:]
        told = f"{last[0]['steps']} steps, {last[0]['restarts']} restarts" if last else "no iteration yet"
        sys.stdout.write(
            f"{seconds:5.0f} s: driver {driver:,.0f} MB, {count} actors of at most {actor:,.0f} MB; "
            f"{sum(self.kills.values())} kills; {told}\n"
        )
        sys.stdout.flush()


def rows_of(storage: Path) -> list[dict[str, str]]:
    """Returns the figures of the run in a folder."""
    found = list(storage.glob("*/*/progress.csv"))
    return list(csv.DictReader(found[0].open(newline="", encoding="utf-8"))) if found else []


def slope(memory: list[tuple[float, float, float]], column: int) -> float:
    """Returns MB a minute over the second half of a run, when everything is warm; some odd values do not count."""
    half = [sample for sample in memory[len(memory) // 2 :] if sample[column]]
    if len(half) < 2:
        return 0.0
    return float(theilslopes([sample[column] for sample in half], [sample[0] / 60 for sample in half]).slope)


def leftovers(seen: set[tuple[int, str]], before: set[str]) -> list[str]:
    """Returns processes and files that the run left: also processes whose parent is gone.

    In an hour numbers of processes come round again; with the time when it began, a process is itself.
    """

    def living() -> list[int]:
        return sorted(process for process, began in seen if fields(process)[BEGAN : BEGAN + 1] == [began])

    ends = time.monotonic() + GONE_S
    while living() and time.monotonic() < ends:
        time.sleep(0.5)
    processes = [f"process {process}" for process in living()]
    new = {str(path) for path in Path(tempfile.gettempdir()).glob("ray-*")} - before
    return processes + [f"file {path}" for path in sorted(new)]


def main() -> None:
    """Trains, kills, and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="reach", help="one of configs/, by name")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--kill-every", type=float, default=20.0, help="seconds")
    parser.add_argument("--learner-every", type=int, default=6, help="kill the learner instead, every so many kills")
    parser.add_argument("overrides", nargs="*", help="key=value, such as learner.workers=1")
    options = parser.parse_args()
    path = Path(physai_configs.__path__[0]) / f"{options.config}.yaml"
    endless = ["stop.success=null", "stop.steps=1000000000", f"learner.max_failures={10**6}", *options.overrides]
    config = RunConfig.load(path, endless)
    before = {str(path) for path in Path(tempfile.gettempdir()).glob("ray-*")}
    with tempfile.TemporaryDirectory() as folder:
        config = config.model_copy(update={"storage": folder})
        killer = Killer(options.kill_every, options.learner_every, Path(folder))
        # Counted from here, starting Ray included.
        timer = threading.Timer(options.seconds, lambda: os.kill(os.getpid(), signal.SIGTERM))
        killer.start()
        timer.start()
        ended = "by itself"
        try:
            train(config, quiet=True)
        except SystemExit:
            ended = "when it was told to"
        killer.ended.set()
        timer.cancel()
        rows = rows_of(Path(folder))
        partial = [str(path) for path in Path(folder).rglob(".*partial*")]
        measured = [row["validation/success"] for row in rows if row.get("validation/success")]
        (run,) = Path(folder).glob("*/*/")
        best = (CheckpointStore(run / CHECKPOINTS, 1).best() or {}).get("success")
        iterations = [int(row["iteration"]) for row in rows]
    left = leftovers(killer.seen, before) + partial
    sys.stdout.write(
        f"ended {ended} after {len(rows)} iterations and {rows[-1]['steps']} steps; kills {killer.kills}; restarts "
        f"{rows[-1]['restarts']}, redone {rows[-1]['redone']}, quarantined {rows[-1]['quarantined']}; iterations "
        f"{'each once' if iterations == list(range(1, len(rows) + 1)) else 'NOT each once'}\n"
        f"success held out: {', '.join(measured[-5:])}; of the best checkpoint, which an export takes: {best}\n"
        f"memory in the second half: driver {slope(killer.memory, 1):+.1f} MB a minute, largest actor "
        f"{slope(killer.memory, 2):+.1f} MB a minute\n"
        f"left: {'; '.join(left) or 'nothing'}\n"
    )
    if left or ended != "when it was told to":
        sys.exit(1)


if __name__ == "__main__":
    main()
