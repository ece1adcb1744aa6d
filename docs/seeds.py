"""Trains a task's shipped configuration with other seeds, and keeps the records of 200 unseen episodes of each policy.

    python docs/seeds.py TASK SEED...

Each run leaves `docs/seeds/<task>-<seed>/`, from which `docs/results.md` is made.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import generate

from physai import catalog
from physai.cli.find import find_config
from physai.config import RunConfig
from physai.evaluate import evaluate
from physai.export.evidence import EVALUATION, RUN_FILES
from physai.train.driver import train
from physai_envs import registry

EPISODES = 200


def main() -> None:
    """Trains, measures, and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("seeds", nargs="+", type=int, metavar="SEED")
    given = parser.parse_args()
    name = registry.slug(registry.resolve(given.task))
    done = []
    for seed in given.seeds:
        config = RunConfig.load(find_config(name), [f"seed={seed}"])
        run = Path(str(train(config)))
        done.append((seed, run, evaluate(run, episodes=EPISODES)))
    for seed, run, report in done:  # not before: a run notes whether the source tree was changed
        record = generate.ROOT / "docs" / "seeds" / f"{name}-{seed}"
        record.mkdir(parents=True, exist_ok=True)
        figures = report.to_dict()
        del figures["records"]  # 100 kB of single episodes
        (record / EVALUATION).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        for file in RUN_FILES:
            if (run / file).is_file():
                shutil.copyfile(run / file, record / file)
        sys.stdout.write(f"{name}, seed {seed}: {catalog.recorded_success(record / EVALUATION)}\n")
    generate.write()


if __name__ == "__main__":
    main()
