"""The loop that learns: collect, update, measure, save. It knows neither Ray nor a simulator.

With one seed and `max_policy_lag` 0, everything it does is a function of the configuration: random numbers come from
`seeding`, fragments are pure functions, and statistics are merged in the order of the groups. So a run that is
continued from a checkpoint computes what the undisturbed one would have.
"""

from __future__ import annotations

import io
import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from physai.config import RunConfig
from physai.errors import CheckpointError, PhysaiError
from physai.evaluate.episodes import EpisodeRecord
from physai.spec import PolicySpec
from physai.train import seeding, warm_start
from physai.train.algorithms.registry import Algorithm, build
from physai.train.behaviour import Package
from physai.train.checkpoint import Checkpoint, pack_arrays, pack_state, unpack_arrays, unpack_state
from physai.train.fragment import Fragment, GroupState, Job
from physai.train.normalizer import RunningNormalizer
from physai.train.progress import Board
from physai.train.recorder import Recorder
from physai.train.report import Window, training_row
from physai.train.run_dir import RunFolder
from physai.train.work import Fleet


class LearningError(PhysaiError):
    """Raised when the learner's numbers are no longer finite; the last checkpoint is from before."""


class StopAskedError(Exception):
    """Raised inside the loop when somebody asked the run to stop."""


@dataclass(frozen=True)
class Interface:
    """What the learner must know of the environment. Observations are flat, or a Dict of goals for hindsight."""

    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    spec: PolicySpec


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `met` is None where no bar was set; `stopped` when somebody asked."""

    steps: int
    stopped: bool
    met: bool | None
    best: Mapping[str, Any] | None


class Learner:
    """One training run.

    Args:
        config: of the run.
        interface: of its environment.
        fleet: collects and plays.
        run: its folder.
        board: hears what goes on.
    """

    def __init__(self, config: RunConfig, interface: Interface, fleet: Fleet, run: RunFolder, board: Board) -> None:
        self.config, self.interface, self.fleet, self.run_folder, self.board = config, interface, fleet, run, board
        self.model: Algorithm = build(config, interface.observation_space, interface.action_space)
        shape = (gym.spaces.flatdim(interface.observation_space),)
        self.normalizer = RunningNormalizer(config.normalizer, config.algorithm.gamma, shape)
        self.groups: dict[int, GroupState] = {}
        self.iteration = 0  # complete ones
        self.version = 0  # of policy and statistics
        self.measured_at = 0  # steps at the last measurement
        self.primed = self.model.replays or not (config.normalizer.observations or config.normalizer.rewards)
        self.cloned = config.warm_start is None
        self.dropped = 0
        self.best: dict[str, Any] | None = None
        self.validation: dict[str, float | None] = {}
        self._identity = uuid.uuid4().hex
        self._collecting = False
        self._behind: Mapping[str, np.ndarray[Any, Any]] | None = None  # weights that collect while others are learnt
        self.store = Recorder(run, config, board.say)
        self._saved_at = -1
        self._window = Window()
        self._busy = self._waited = 0.0

    @property
    def steps(self) -> int:
        """Control steps so far, demonstrations included."""
        return int(self.model.num_timesteps)

    # ---- the loop --------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Learns until the run is done or somebody stops it; a checkpoint is saved at the end.

        Raises:
            LearningError: if the loss or a parameter is not finite.
            SimulationError: if an environment fails.
            StorageError: if the run folder cannot be written.
        """
        torch.set_num_threads(self.config.learner.threads)
        try:
            self._continue()
            self._warm_start()
            if self.iteration and self._measurement_due():
                self._measure()  # it was stopped before it came to that
                self.store.amend(self.iteration, self.validation)
                self.save()
            started = time.perf_counter()
            while not self._done():
                fragments = self._collect()
                self._learn(fragments)
                due = self._measurement_due()
                try:
                    if due:
                        self._measure()
                finally:  # a run that is stopped while it measures has this row too, and amends it later
                    now = time.perf_counter()
                    self.store.add(self._row(fragments, now - started))
                    started = now
                if due or self.iteration % self.config.checkpoint.every_iterations == 0:
                    self.save()
            if self.measured_at != self.steps:
                self._measure()
            self.save()
            self.store.drain(waiting=lambda: self.board.phase("waiting until the last checkpoint is written"))
            return self._outcome(stopped=False)
        except StopAskedError:
            self.save()
            self.store.drain(self.config.checkpoint.grace_s)
            return self._outcome(stopped=True)
        finally:
            self.store.close()

    def _done(self) -> bool:
        return self.steps >= self.config.stop.steps or self._met() is True

    def _met(self) -> bool | None:
        bar = self.config.stop.success
        if bar is None:
            return None
        return self.best is not None and (self.best["success"] or 0.0) >= bar

    def _outcome(self, *, stopped: bool) -> Outcome:
        return Outcome(self.steps, stopped, self._met(), self.best)

    def _waiting(self, what: str) -> None:
        self.board.phase(what)
        if self.board.stopping():
            raise StopAskedError

    def _package(self, weights: Mapping[str, np.ndarray[Any, Any]] | None = None) -> Package:
        self.version += 1
        return Package(self.version, self._identity, weights or self.model.weights(), self.normalizer.freeze())

    # ---- warm start ------------------------------------------------------------------------------

    def _warm_start(self) -> None:
        if self.cloned:
            return
        seeding.seed_learner(self.config.seed, seeding.CLONING)
        steps = warm_start.clone(
            self.config, self.model, self.normalizer, self.fleet, self._package, self._waiting, self.board.say
        )
        self.model.num_timesteps += steps
        self.primed = self.cloned = True
        self._measure()
        self.save()

    # ---- collecting ------------------------------------------------------------------------------

    def _start_collecting(self, iteration: int) -> None:
        groups = range(self.config.rollout.groups)
        jobs = [Job(group, iteration, self.groups.get(group)) for group in groups]
        package = self._package(self._behind)
        self._behind = package.weights
        self.fleet.start("sample", package, jobs)
        self._collecting = True

    def _collect(self) -> list[Fragment]:
        """Returns the fragments of this iteration, of all groups in order; merges what they saw into the statistics."""
        what = f"iteration {self.iteration + 1}: collecting"
        before = time.perf_counter()
        while True:
            if not self._collecting:
                self._start_collecting(self.iteration)
            fragments: list[Fragment] = self.fleet.finish(lambda: self._waiting(what))
            self._collecting, self._behind = False, None
            # At most one package was made after the one that these were collected with.
            if all(self.version - f.version <= self.config.rollout.max_policy_lag for f in fragments):
                break
            self.dropped += len(fragments)
        self._waited = time.perf_counter() - before
        for fragment in fragments:
            self.groups[fragment.group] = fragment.state
            if not fragment.reproducible:
                self.board.say(
                    f"note: {self.config.task} did not come back to where it was when its actions were played again, "
                    "so this run cannot be repeated bit for bit"
                )
        self.normalizer.merge([f.observation_moments for f in fragments], [f.return_moments for f in fragments])
        self._window.add(fragments)
        if self.config.rollout.max_policy_lag and self.primed and not self._measurement_due(ahead=True):
            self._start_collecting(self.iteration + 1)
        return fragments

    # ---- learning --------------------------------------------------------------------------------

    def _learn(self, fragments: Sequence[Fragment]) -> None:
        started = time.perf_counter()
        self.board.phase(f"iteration {self.iteration + 1}: learning")
        model = self.model
        if not self.primed:  # collected with statistics of nothing: good for the statistics alone
            self.primed = True
            model.num_timesteps += sum(fragment.steps for fragment in fragments)
        else:
            seeding.seed_learner(self.config.seed, seeding.LEARNING, self.iteration)
            model.ingest(fragments)
            model.update(self.normalizer)
            self._check_finite()
        self.iteration += 1
        self._busy = time.perf_counter() - started

    def _check_finite(self) -> None:
        told = self.model.logger.name_to_value
        losses = [float(value) for name, value in told.items() if name.endswith("loss")]
        vector = torch.nn.utils.parameters_to_vector(self.model.policy.parameters())
        if not (all(map(math.isfinite, losses)) and bool(torch.isfinite(vector).all())):
            loss = next((value for value in losses if not math.isfinite(value)), math.nan)
            saved = self._saved_at >= 0
            kept = f"checkpoint {self._saved_at:06d} is from before" if saved else "there was no checkpoint yet"
            raise LearningError(
                f"the loss became {loss:g} in iteration {self.iteration + 1}, and the policy is of no use now; {kept}. "
                "Lower algorithm.learning_rate, or turn on the normaliser"
            )

    # ---- measuring -------------------------------------------------------------------------------

    def _measurement_due(self, *, ahead: bool = False) -> bool:
        """Whether the policy is to be measured after this iteration; `ahead`: asked before it is learnt from."""
        stop = self.config.stop
        steps = self.steps + (self.config.steps_per_iteration if ahead else 0)
        return steps - self.measured_at >= stop.every_steps or steps >= stop.steps

    def _measure(self) -> None:
        """Plays held-out episodes with the deterministic policy, and notes whether it is the best so far."""
        seeds = seeding.validation_seeds(self.config)
        size = max(1, len(seeds) // (4 * self.fleet.workers))
        chunks = [seeds[first : first + size] for first in range(0, len(seeds), size)]
        self.fleet.start("judge", self._package(), chunks)
        what = f"iteration {self.iteration}: measuring on {len(seeds)} held-out episodes"
        records: list[EpisodeRecord] = [r for chunk in self.fleet.finish(lambda: self._waiting(what)) for r in chunk]
        told = [record.success for record in records if record.success is not None]
        success = sum(told) / len(told) if told else None
        mean = float(np.mean([record.episode_return for record in records]))
        self.measured_at = self.steps
        self.validation = {"validation/success": success, "validation/return": mean}
        if self.best is None or (success or 0.0, mean) > (self.best["success"] or 0.0, self.best["return"]):
            bar = self.config.stop.success
            self.best = {
                "checkpoint": f"{self.iteration:06d}", "success": success, "return": mean, "episodes": len(records),
                "steps": self.steps, "bar": bar, "met": None if bar is None else (success or 0.0) >= bar,
            }  # fmt: skip

    def _row(self, fragments: Sequence[Fragment], seconds: float) -> dict[str, Any]:
        row = training_row(self._window, fragments, seconds, self.fleet.workers)
        learnt = {name: float(value) for name, value in self.model.logger.name_to_value.items()}
        left = max(0, self.config.stop.steps - self.steps)
        row = {
            "iteration": self.iteration,
            "steps": self.steps,
            **row,
            "learner_busy": self._busy / seconds,
            "waiting": self._waited / seconds,
            "lag": float(self.config.rollout.max_policy_lag and self._collecting),
            "dropped": self.dropped,
            "restarts": self.fleet.restarts,
            **self.validation,
            **learnt,
        }
        self.board.show({**row, "steps_total": self.config.stop.steps, "eta_s": left / max(1e-9, row["steps_per_s"])})
        return row

    # ---- saving and continuing -------------------------------------------------------------------

    def save(self) -> None:
        """Saves a checkpoint of the complete iterations, if there is something new.

        It is written while learning goes on; `Recorder` says when that fails.
        """
        if not self.cloned or (self._saved_at == self.iteration and self._saved_best == self.best):
            return  # half a warm start is begun anew
        self.board.phase(f"iteration {self.iteration}: saving")
        interface = self.interface
        state = {
            "iteration": self.iteration, "measured_at": self.measured_at, "primed": self.primed, "best": self.best,
            "cloned": self.cloned, "validation": self.validation, "dropped": self.dropped,
            "window": self._window.pack(),
        }  # fmt: skip
        described = {**interface.spec.to_dict(), "algorithm": self.config.algorithm.name}
        files = {
            **self.model.files(),
            "vecnormalize.pkl": self.normalizer.vecnormalize(interface.observation_space, interface.action_space),
            "normalizer.npz": self.normalizer.npz(),
            "policy.json": json.dumps(described, indent=1).encode(),
            "state.npz": pack_state(state, self.groups),
        }
        if self._behind is not None:  # with a lag, the next iteration is collected with these
            files["behind.npz"] = pack_arrays(self._behind)
        is_best = self.best is not None and self.best["checkpoint"] == f"{self.iteration:06d}"
        self.store.save(self.iteration, files, self.best if is_best else None)
        self._saved_at, self._saved_best = self.iteration, self.best

    _saved_best: Mapping[str, Any] | None = None

    def _continue(self) -> None:
        """Takes over the newest checkpoint that is intact, if there is one.

        Raises:
            CheckpointError: if there are some, and none can be used.
        """
        checkpoint = self.run_folder.checkpoints.newest()
        if checkpoint is not None:
            try:
                self._restore(checkpoint)
            except (KeyError, ValueError, RuntimeError) as error:
                raise CheckpointError(f"checkpoint {checkpoint.folder} does not fit this run: {error}") from error
            self.board.say(f"continuing from {checkpoint.folder} ({self.steps:,} steps)")
        self.store.open(self.iteration)

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.model.restore(checkpoint.files)
        with np.load(io.BytesIO(checkpoint.files["normalizer.npz"]), allow_pickle=False) as arrays:
            self.normalizer.restore(arrays)
        state, groups = unpack_state(checkpoint.files["state.npz"])
        self.iteration, self.measured_at, self.primed = state["iteration"], state["measured_at"], state["primed"]
        self.cloned = state["cloned"]
        self._window.restore(state.get("window", ()))
        if "behind.npz" in checkpoint.files:
            self._behind = unpack_arrays(checkpoint.files["behind.npz"])
        self.best, self.validation, self.dropped = state["best"], state["validation"], state["dropped"]
        rollout = self.config.rollout
        if len(groups) == rollout.groups and all(len(group) == rollout.envs_per_group for group in groups.values()):
            self.groups = groups  # else groups or environments were changed, and all episodes begin anew
        self._saved_at, self._saved_best = self.iteration, self.best
