"""Searches for a better configuration: each trial is a full run, and Ray Tune decides which ones go on.

A search leaves ``storage/<task>/<name>/``: ``best.yaml``, ``trials.csv``, ``trials/`` (a run folder for each) and
``ray_tune/`` (what Ray Tune needs to go on). Sources: Li et al. 2018, ASHA, https://arxiv.org/abs/1810.05934; Jaderberg
et al. 2017, population based training, https://arxiv.org/abs/1711.09846.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from ray import tune as ray_tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, TrialScheduler

from physai.config import RunConfig
from physai.errors import CheckpointError, ClusterError, ConfigError, PhysaiError
from physai.train import cluster, nodes, space
from physai.train.checkpoint import CheckpointStore
from physai.train.driver import train
from physai.train.fleet import ACTOR_CPUS
from physai.train.progress import Row, TerminalBoard
from physai.train.run_dir import CHECKPOINTS, RunFolder
from physai.train.space import Draw
from physai_envs import registry

SCORE, STEPS, FINISHED = "score", "steps", "finished"
TIE = 1e-6  # of the return is added to the success rate: before anything succeeds, the return tells who is ahead
TRIAL_CPUS = 0.1  # for the learner, whose actors wait while it works
SEARCH, BASE, SPACE, BEST, TABLE = "search.json", "base.yaml", "space.yaml", "best.yaml", "trials.csv"
STATE, TRIALS = "ray_tune", "trials"
ORIGIN = "origin.json"  # in a checkpoint that Ray Tune keeps: whose it is


@dataclass(frozen=True)
class Search:
    """What is searched: `trials` configurations, under `scheduler` (asha or pbt), in `folder`."""

    config: RunConfig
    space: Mapping[str, Draw]
    trials: int
    scheduler: str
    folder: Path

    @classmethod
    def create(cls, config: RunConfig, path: Path, trials: int, scheduler: str) -> Search:
        """Writes down a new search.

        Raises:
            ConfigError: if the space is wrong, or a search of that name is there already.
        """
        drawn = space.load(path, config, live=scheduler == "pbt")
        if "://" in config.storage:
            raise ConfigError(
                f"a search is kept in a folder; give storage=FOLDER that all nodes see, not {config.storage}"
            )
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        folder = Path(config.storage).absolute() / registry.slug(config.task) / (config.name or f"tune-{stamp}")
        if (folder / SEARCH).exists():
            raise ConfigError(
                f"search {folder} exists already; continue it with --resume {folder}, or give another name="
            )
        run = RunFolder(folder, config.checkpoint.keep)
        run.write(BASE, config.to_yaml())
        run.write(SPACE, path.read_text(encoding="utf-8"))
        run.write(SEARCH, json.dumps({"trials": trials, "scheduler": scheduler}) + "\n")
        return cls(config, drawn, trials, scheduler, folder)

    @classmethod
    def reopen(cls, folder: Path) -> Search:
        """Opens a search that is continued.

        Raises:
            CheckpointError: if it is none.
        """
        folder = folder.absolute()
        if not (folder / SEARCH).is_file():
            raise CheckpointError(
                f"{folder} is no search (no {SEARCH} in it); give the folder that `physai tune` printed"
            )
        told = json.loads((folder / SEARCH).read_text(encoding="utf-8"))
        config = RunConfig.load(folder / BASE)
        drawn = space.load(folder / SPACE, config, live=told["scheduler"] == "pbt")
        return cls(config, drawn, told["trials"], told["scheduler"], folder)


@dataclass(frozen=True)
class Found:
    """How a search ended: a row for each trial, the best first, and where the best configuration is."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: Path | None


def tune(search: Search, *, address: str | None = None, quiet: bool = False) -> Found:
    """Runs the trials of a search, or those that are left of it.

    Raises:
        PhysaiError: with a sentence about what is wrong.
        KeyboardInterrupt: after Ctrl-C.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new reporter greets even when it is told to be silent
    with TerminalBoard(f"{search.config.task}: {search.folder}", shown=not quiet) as board:
        board.phase("starting Ray")
        with cluster.connected(address), board.watching(nodes.read):
            _check_room(search.config)
            if warning := nodes.check_storage(search.config.storage):
                board.say(warning)
            board.phase("running trials")
            teller = _Teller(board)
            results = _tuner(search, teller).fit()
            if (teller.ended or 0) < search.trials:  # Ray Tune takes Ctrl-C for itself, saves its state, and returns
                board.say(
                    f"stopped; {teller.ended} of {search.trials} trials have ended. Continue with: "
                    f"physai tune --resume {search.folder}"
                )
                raise KeyboardInterrupt
            found = _conclude(search, results)
        board.phase("")
    return found


def actors(config: RunConfig) -> int:
    """Returns how many rollout actors a trial has: as many as are asked for, or one, so that many trials run."""
    return 1 if config.rollout.actors == "auto" else config.rollout.actors


def _check_room(config: RunConfig) -> None:
    """Ray Tune waits for ever where no node can take a trial."""
    wanted = TRIAL_CPUS + ACTOR_CPUS * actors(config)
    largest = max((node.cpus for node in nodes.read() if node.alive), default=0.0)
    if wanted > largest:
        raise ClusterError(
            f"a trial needs {wanted:g} CPUs of one node (rollout.actors={actors(config)}), and the largest has "
            f"{largest:g}; give rollout.actors={max(1, int(largest))}"
        )


def _tuner(search: Search, teller: _Teller) -> ray_tune.Tuner:
    place = ray_tune.PlacementGroupFactory(
        [{"CPU": TRIAL_CPUS}, *[{"CPU": ACTOR_CPUS}] * actors(search.config)], strategy="STRICT_PACK"
    )
    paths = [os.path.abspath(path) for path in sys.path]
    told = {"base": search.config.to_yaml(), "folder": str(search.folder), "paths": paths}
    trainable = ray_tune.with_resources(ray_tune.with_parameters(_trial, told=told), place)
    state = search.folder / STATE
    if ray_tune.Tuner.can_restore(str(state)):
        tuner = ray_tune.Tuner.restore(str(state), trainable, resume_errored=True, param_space=_param_space(search))
        tuner._local_tuner.get_run_config().callbacks = [teller]  # those that were stored know no terminal
        return tuner
    return ray_tune.Tuner(
        trainable,
        param_space=_param_space(search),
        tune_config=ray_tune.TuneConfig(
            metric=SCORE, mode="max", num_samples=search.trials, scheduler=_scheduler(search), reuse_actors=False
        ),
        run_config=ray_tune.RunConfig(
            name=STATE,
            storage_path=str(search.folder),
            verbose=0,
            callbacks=[teller],
            failure_config=ray_tune.FailureConfig(max_failures=search.config.learner.max_failures),
        ),
    )


def _param_space(search: Search) -> dict[str, Any]:
    return {key: _domain(draw) for key, draw in search.space.items()}


def _domain(draw: Draw) -> Any:
    if draw.kind == "choice":
        return ray_tune.choice(list(draw.values))
    low, high = draw.values
    return getattr(ray_tune, draw.kind)(low, high + 1 if draw.kind == "randint" else high)


def _scheduler(search: Search) -> TrialScheduler:
    stop = search.config.stop
    if search.scheduler == "asha":
        return ASHAScheduler(time_attr=STEPS, max_t=max(stop.steps, stop.every_steps), grace_period=stop.every_steps)

    def inside(values: dict[str, Any]) -> dict[str, Any]:
        return {key: search.space[key].clipped(value) for key, value in values.items()}

    return PopulationBasedTraining(
        time_attr=STEPS,
        perturbation_interval=stop.every_steps,
        hyperparam_mutations={k: list(d.values) if d.kind == "choice" else _domain(d) for k, d in search.space.items()},
        custom_explore_fn=inside,
    )


# ---- a trial, in a process of its own --------------------------------------------------------------------------------


def _trial(values: dict[str, Any], told: Mapping[str, Any]) -> None:
    """Trains one configuration; continues its own run after a failure, or another trial's where PBT says so."""
    sys.path.extend(path for path in told["paths"] if path not in sys.path)
    base = RunConfig.load_data(yaml.safe_load(told["base"]))
    name = ray_tune.get_context().get_trial_id()
    own = {"storage": str(Path(told["folder"]) / TRIALS), "rollout.actors": actors(base), "learner.workers": 0}
    above = Path(str(own["storage"])) / registry.slug(base.task)
    inherited = ray_tune.get_checkpoint()
    origin = _origin(inherited)
    if origin.get("values") == values and origin["run"].partition("-")[0] == name:
        name, inherited = origin["run"], None  # it was only paused
    elif inherited is not None:
        name = next(free for free in (f"{name}-{n}" for n in range(1, 10**6)) if not (above / free).exists())
    config = space.varied(base, {**values, **own, "name": name})
    folder = above / name
    if inherited is not None:
        _inherit(config, inherited)
    resume = (folder / "config.yaml").is_file()
    store = CheckpointStore(folder / CHECKPOINTS, config.checkpoint.keep)
    board = _TrialBoard(config, store, {"run": name, "values": values}, since=origin.get("steps", 0))
    train(config, resume=str(folder) if resume else None, board=board)
    board.finish()


def _origin(inherited: ray_tune.Checkpoint | None) -> dict[str, Any]:
    """Returns which run a checkpoint is of, and with which values."""
    if inherited is None:
        return {}
    with inherited.as_directory() as there:
        origin: dict[str, Any] = json.loads((Path(there) / ORIGIN).read_text(encoding="utf-8"))
    return origin


def _inherit(config: RunConfig, inherited: ray_tune.Checkpoint) -> None:
    """Makes a run folder that begins with the checkpoint of another trial."""
    run = RunFolder.create(config)
    with inherited.as_directory() as there:
        (source,) = (path for path in Path(there).iterdir() if path.name.isdigit())
        files = {path.name: path.read_bytes() for path in source.iterdir()}
    run.checkpoints.save(int(source.name), files)


class _TrialBoard(TerminalBoard):
    """Reports every measurement on held-out episodes to Ray Tune, with the checkpoint of that moment."""

    def __init__(self, config: RunConfig, store: CheckpointStore, origin: Mapping[str, Any], *, since: int) -> None:
        super().__init__("", shown=False)
        self._every, self._store, self._origin = config.stop.every_steps, store, origin
        self._reported = since
        self._pending: dict[str, Any] | None = None
        self._latest: dict[str, Any] | None = None

    def show(self, row: Row) -> None:
        """Notes a measurement; it is reported when its checkpoint is there."""
        if row["steps"] - self._reported < self._every and row["steps"] < row["steps_total"]:
            return
        success, mean = row.get("validation/success"), row.get("validation/return")
        if mean is None:
            return
        self.report()
        self._reported = row["steps"]
        score = mean if success is None else success + TIE * mean
        self._pending = {
            SCORE: score, STEPS: row["steps"], "success": success, "return": mean, "iteration": row["iteration"],
        }  # fmt: skip

    def phase(self, text: str) -> None:
        """Reports as soon as the checkpoint is there."""
        if self._pending is not None and f"{self._pending['iteration']:06d}" in self._store.names()[:1]:
            self.report()

    def report(self) -> None:
        """Reports what was measured last, if it was not yet."""
        if self._pending is None:
            return
        row, self._latest, self._pending = self._pending, self._pending, None
        newest = self._store.newest()
        if newest is None:
            ray_tune.report(row)
            return
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / ORIGIN).write_text(json.dumps({**self._origin, "steps": row[STEPS]}), encoding="utf-8")
            copy = Path(folder) / f"{newest.iteration:06d}"
            copy.mkdir()
            for name, data in newest.files.items():
                (copy / name).write_bytes(data)
            ray_tune.report(row, checkpoint=ray_tune.Checkpoint.from_directory(folder))

    def finish(self) -> None:
        """Reports that the run came to its own end: the scheduler did not stop it."""
        self._pending = self._pending or self._latest
        if self._pending is not None:
            self._pending[FINISHED] = True
            self.report()


# ---- what a person sees ----------------------------------------------------------------------------------------------


class _Teller(ray_tune.Callback):
    """Tells the board how the trials are doing."""

    def __init__(self, board: TerminalBoard) -> None:
        self._board = board
        self.ended: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Ray Tune stores its callbacks; a terminal cannot be

    def on_trial_result(self, iteration: int, trials: Sequence[Any], trial: Any, result: Any, **_: Any) -> None:
        """Shows a measurement."""
        self._board.say(
            f"trial {trial.trial_id}: {result[STEPS]:,} steps, {_measure(result)}  ({_words(trial.config)})"
        )

    def on_step_end(self, iteration: int, trials: Sequence[Any], **_: Any) -> None:
        """Counts."""
        self.ended = sum(trial.is_finished() for trial in trials)
        self._board.phase(f"{self.ended} of {len(trials)} trials have ended")

    def on_experiment_end(self, trials: Sequence[Any], **_: Any) -> None:
        """Counts, where nothing was left to do. Otherwise it is too late: what Ctrl-C ended looks finished here."""
        if self.ended is None:
            self.ended = sum(trial.is_finished() for trial in trials)

    def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **_: Any) -> None:
        """Shows a failure."""
        self._board.say(f"trial {trial.trial_id} failed  ({_words(trial.config)})")


def _measure(result: Mapping[str, Any]) -> str:
    success = result.get("success")
    return f"return {result['return']:.4g}" + ("" if success is None else f", success {success:.1%}")


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()
    )


def _conclude(search: Search, results: Any) -> Found:
    """Writes the table and the best configuration.

    Raises:
        PhysaiError: if no trial came as far as a measurement.
    """
    told = [(result, result.metrics or {}) for result in results]
    told.sort(key=lambda pair: pair[1].get(SCORE, float("-inf")), reverse=True)
    keys = list(search.space)
    rows = []
    for result, metrics in told:
        done = metrics.get(FINISHED) or metrics.get(STEPS, 0) >= search.config.stop.steps
        how = "failed" if result.error else "done" if done else "stopped"
        values = result.config or {}
        cells = [metrics.get("trial_id", ""), how, *(metrics.get(name) for name in ("success", "return", STEPS))]
        rows.append(tuple("" if cell is None else _cell(cell) for cell in [*cells, *(values.get(key) for key in keys)]))
    head = ("trial", "how it ended", "success", "return", STEPS, *keys)
    with (search.folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    best = next(((result, metrics) for result, metrics in told if SCORE in metrics), None)
    if best is None:
        errors = [str(result.error).strip().splitlines()[-1] for result in results if result.error]
        raise TuneError(f"no trial was measured ({errors[0] if errors else 'none ran'}); see {search.folder / TRIALS}")
    result, metrics = best
    config = space.varied(search.config, result.config)
    text = f"# The best of {len(told)} trials: {_measure(metrics)} after {metrics[STEPS]:,} steps.\n"
    if search.scheduler == "pbt":
        text += "# Found by PBT, which changed these values on the way; what it ended with is not how it began.\n"
    named = config.model_copy(update={"name": None})
    RunFolder(search.folder, config.checkpoint.keep).write(BEST, text + named.to_yaml())
    return Found(head, tuple(rows), search.folder / BEST)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class TuneError(PhysaiError):
    """Raised when a search has no result."""
