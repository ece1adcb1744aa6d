"""What physai costs before it does anything: seconds until a command answers, and memory of environments and actors.

Commands run in processes of their own, and the fastest of several counts: other work on the machine only ever adds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table
from soak import ACTOR, MB, below, memory_mb, rows_of

from physai_envs import registry

PHYSAI = str(Path(sys.executable).with_name("physai"))
COMMANDS: tuple[tuple[str, Sequence[str], float | None], ...] = (  # what is shown, what runs, aim [s]
    ("physai --help", (PHYSAI, "--help"), 0.5),
    ("physai tasks", (PHYSAI, "tasks"), 1.0),
    ("import physai_envs", (sys.executable, "-c", "import physai_envs"), None),
    ("import physai.deploy", (sys.executable, "-c", "import physai.deploy"), 0.7),
)
POLL_S = 0.2
WORLDS = 16  # of a task, to tell what one takes


def seconds(command: Sequence[str]) -> float:
    """Returns how long a command takes [s]."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    return time.perf_counter() - started


def of_an_environment(name: str) -> float:
    """Returns how much memory another environment of a task takes after its first episode has begun [MB]."""
    worlds = [registry.make(name)]
    worlds[0].reset(seed=0)
    before = memory_mb(os.getpid())
    for seed in range(1, WORLDS + 1):
        worlds.append(registry.make(name))
        worlds[-1].reset(seed=seed)
    grown = memory_mb(os.getpid()) - before
    for world in worlds:
        world.close()
    return grown / WORLDS


def own_memory(process: int) -> float:
    """Returns what a process does not share with others [MB]."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / MB


def of_training(name: str) -> tuple[float, float, float]:
    """Returns seconds until the first iteration of a training is done; memory of an actor, in all and its own [MB]."""
    with tempfile.TemporaryDirectory() as storage:
        started = time.perf_counter()
        command = (PHYSAI, "train", name, f"storage={storage}", "stop.success=null", "stop.steps=1000000")
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not rows_of(Path(storage)):
            if run.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended with {run.returncode} before its first iteration")
            time.sleep(POLL_S)
        took = time.perf_counter() - started
        actors = [process for process, title in below(run.pid).items() if title.startswith(ACTOR)]
        memory = max(memory_mb(actor) for actor in actors), max(own_memory(actor) for actor in actors)
        run.terminate()
        run.wait()
    return took, *memory


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    console, table = Console(), Table("command", "seconds", "aim")
    for shown, command, aim in track(COMMANDS, description="starting", console=console, transient=True):
        best = min(seconds(command) for _ in range(options.rounds))
        table.add_row(shown, f"{best:.2f}", "" if aim is None else f"{aim:g}")
    took, actor, own = of_training("reach")
    table.add_row("physai train reach, until its first iteration is done", f"{took:.1f}", "")
    console.print(table)
    table = Table("memory of", "MB")
    names = [registry.slug(task.id) for task in registry.tasks()]
    fresh = multiprocessing.get_context("spawn")  # a process each: what one has freed, the next would take
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as pool:
        grown = pool.map(of_an_environment, names)
        for name in track(names, description="environments", console=console, transient=True):
            table.add_row(f"an environment of {name}", f"{next(grown):.1f}")
    table.add_row("an actor of reach", f"{actor:.0f}, of which it shares {actor - own:.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
