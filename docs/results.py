"""Plays 200 unseen episodes with every policy that ships, writes the records and the tables made from them.

    python docs/results.py [TASK ...]

Exit status 1 if a policy is below what its task is held to.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import generate
from rich.console import Console

from physai import catalog
from physai.evaluate import evaluate
from physai.export.evidence import EVALUATION
from physai.export.migrate import attach
from physai_envs import registry

EPISODES = 200


def main() -> int:
    """Evaluates and writes; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="default: all")
    wanted = parser.parse_args().tasks
    tasks = [registry.task(name) for name in wanted] if wanted else list(registry.tasks())
    below = []
    for task in tasks:
        source = f"assets/policies/{catalog.slug(task)}"
        report = evaluate(source, episodes=EPISODES)
        with tempfile.TemporaryDirectory() as records:
            report.write(f"{records}/{EVALUATION}")
            attach(Path(source), Path(records))
        sys.stdout.write(f"{catalog.slug(task)}: {catalog.shipped_success(catalog.slug(task))}\n")
        sys.stdout.flush()
        if not report.passed(task.solved_at):
            below.append(f"{catalog.slug(task)} is held to {task.solved_at:.0%}")
    generate.write()
    Console().print("\n".join(below) or "all are as good as they are held to be")
    return int(bool(below))


if __name__ == "__main__":
    sys.exit(main())
