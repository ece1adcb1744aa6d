"""The loop that learns: collect, update, measure, save. It knows neither Ray nor a simulator.

Several learners run it side by side. Each collects from its share of the groups; what they are told of the fragments of
the others, and their gradients, keep them equal. Rank 0 alone measures, saves and reports.

With one seed and `max_policy_lag` 0, everything it does is a function of the configuration: random numbers come from
`seeding`, fragments are pure functions, and statistics are merged in the order of the groups. So a run that is
continued from a checkpoint computes what the undisturbed one would have.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from numpy.typing import NDArray

from physai.config import RunConfig
from physai.errors import CheckpointError, ClusterError, PhysaiError
from physai.train import garbage, seeding, state, warm_start
from physai.train.algorithms.registry import Algorithm, build
from physai.train.behaviour import Package
from physai.train.checkpoint import pack_state, unpack_state
from physai.train.collective import Collective
from physai.train.fragment import Fragment, GroupState, Job
from physai.train.judge import judge
from physai.train.normalizer import RunningNormalizer
from physai.train.outcome import Interface, LearningError, Outcome, StopAskedError
from physai.train.progress import Board
from physai.train.quarantine import Crash, Quarantine
from physai.train.recorder import Recorder
from physai.train.report import Window, training_row
from physai.train.run_dir import QUARANTINE, WARM_START, RunFolder
from physai.train.summary import Summary, Told, meet
from physai.train.usage import Usage
from physai.train.work import Fleet


class Learner:
    """One training run.

    Args:
        config: of the run.
        interface: of its environment.
        fleet: collects and plays.
        run: its folder.
        board: hears what goes on.
        collective: the learners of which this is one; None: it is the only one.
        device: on which it learns, ``cpu`` or ``cuda``.
    """

    def __init__(
        self,
        config: RunConfig,
        interface: Interface,
        fleet: Fleet,
        run: RunFolder,
        board: Board,
        *,
        collective: Collective | None = None,
        device: str = "cpu",
    ) -> None:
        self.config, self.interface, self.fleet, self.run_folder, self.board = config, interface, fleet, run, board
        self.collective = collective or Collective()
        self.model: Algorithm = build(
            config, interface.observation_space, interface.action_space, collective=self.collective, device=device
        )
        shape = (gym.spaces.flatdim(interface.observation_space),)
        self.normalizer = RunningNormalizer(config.normalizer, config.algorithm.gamma, shape)
        self.groups: dict[int, GroupState] = {}  # those of this rank as they stand now
        self._elsewhere: Sequence[bytes] = ()  # the leader has those of all ranks, and looks when it saves
        self.iteration = 0  # complete ones
        self.version = 0  # of policy and statistics
        self.measured_at = 0  # steps at the last measurement
        self.primed = self.model.replays or not (config.normalizer.observations or config.normalizer.rewards)
        self.cloned = config.warm_start is None
        self.dropped = self.restarts = self.redone = 0
        self.quarantine = Quarantine()
        self.best: dict[str, Any] | None = None
        self.validation: dict[str, float | None] = {}
        self.behind: Mapping[str, NDArray[Any]] | None = None  # weights that collect while others are learnt
        self.window = Window()
        self.store = Recorder(run, config, board.say)  # of rank 0
        self._identity = uuid.uuid4().hex
        self._collecting = False
        self._saved_at = -1
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
            self._begin()
            with garbage.imports_left_out():
                self._iterate()
            if self.measured_at != self.steps:
                self._measure()
            self.save()
            self.store.drain(waiting=lambda: self.board.phase("waiting until the last checkpoint is written"))
            self.collective.gather()
            return self._outcome(stopped=False)
        except StopAskedError as wish:
            self.collective.end(wish)
            self.save()
            self.store.drain(self.config.checkpoint.grace_s)
            return self._outcome(stopped=True)
        except PhysaiError as error:
            self.collective.end(error)
            if isinstance(error, ClusterError):
                self.save()  # what is complete is not lost with the cluster
            raise
        finally:
            self.store.close()

    def _begin(self) -> None:
        """Goes on from the newest checkpoint or from demonstrations; then all learners are like the first."""
        if self.collective.leader:
            self._continue()
            self._warm_start()
        if self.collective.size > 1:
            files = self.collective.gather(state.packed(self) if self.collective.leader else b"")[0]
            if not self.collective.leader:
                state.restore(self, state.unpacked(files))
            self.board.say(f"{self.collective.size} learners share the {self.config.rollout.groups} groups")

    def _iterate(self) -> None:
        self._usage = Usage()
        if self.iteration and self._measurement_due():
            self._measure()  # it was stopped before it came to that
            self.store.amend(self.iteration, self.validation)
            self.save()
        started = time.perf_counter()
        while not self._done():
            fragments, told = self._collect()
            self._learn(fragments, told)
            due = self._measurement_due()
            try:
                if due:
                    self._measure()
            finally:  # a run that is stopped while it measures has this row too, and amends it later
                now = time.perf_counter()
                if self.collective.leader:
                    self.store.add(self._row(told, now - started))
                started = now
            if due or self.iteration % self.config.checkpoint.every_iterations == 0:
                self.save()

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

    def _package(self, weights: Mapping[str, NDArray[Any]] | None = None) -> Package:
        self._note(self.fleet.crashes)
        self.version += 1
        weights = weights or self.model.weights()
        return Package(self.version, self._identity, weights, self.normalizer.freeze(), self.quarantine.seeds)

    def _note(self, crashes: Sequence[Crash]) -> None:
        """Puts the episodes that a batch of jobs had to leave out into quarantine, from the next package on."""
        lines = self.quarantine.add(crashes, self.iteration)
        for text in lines:
            self.board.say(text)
        if lines and self.collective.leader:
            self.run_folder.write(QUARANTINE, json.dumps(self.quarantine.rows(), indent=1) + "\n")

    # ---- warm start ------------------------------------------------------------------------------

    def _warm_start(self) -> None:
        if self.cloned:
            return
        seeding.seed_learner(self.config.seed, seeding.CLONING)
        started = time.perf_counter()
        steps = warm_start.clone(
            self.config, self.model, self.normalizer, self.fleet, self._package, self._waiting, self.board.say
        )
        took = {"steps": steps, "seconds": round(time.perf_counter() - started, 1)}
        self.run_folder.write(WARM_START, json.dumps(took) + "\n")
        self.model.num_timesteps += steps
        self.primed = self.cloned = True
        self._judge()
        self.save()

    # ---- collecting ------------------------------------------------------------------------------

    def _start_collecting(self, iteration: int) -> None:
        groups = self.collective.shard(self.config.rollout.groups)
        jobs = [Job(group, iteration, self.groups.get(group)) for group in groups]
        package = self._package(self.behind)
        self.behind = package.weights
        self.fleet.start("sample", package, jobs)
        self._collecting = True

    def _collect(self) -> tuple[list[Fragment], list[Summary]]:
        """Merges what all groups saw into the statistics.

        Returns:
            the fragments of this rank's groups, and what is told of those of all, in the order of the groups.
        """
        what = f"iteration {self.iteration + 1}: collecting"
        before, dropped = time.perf_counter(), 0
        while True:
            if not self._collecting:
                self._start_collecting(self.iteration)
            fragments: list[Fragment] = self.fleet.finish(lambda: self._waiting(what))
            self._collecting, self.behind = False, None
            # At most one package was made after the one that these were collected with.
            if all(self.version - f.version <= self.config.rollout.max_policy_lag for f in fragments):
                break
            dropped += len(fragments)
        told = self._tell(fragments, dropped)
        self._waited = time.perf_counter() - before
        self.normalizer.merge([s.observation_moments for s in told], [s.return_moments for s in told])
        self.window.add(told)
        if self.config.rollout.max_policy_lag and self.primed and not self._measurement_due(ahead=True):
            self._start_collecting(self.iteration + 1)
        return fragments, told

    def _tell(self, fragments: Sequence[Fragment], dropped: int) -> list[Summary]:
        """Tells the other learners of this one's fragments, and hears of theirs."""
        fleet = self.fleet
        own = {fragment.group: fragment.state for fragment in fragments}
        summaries = [Summary.of(fragment) for fragment in fragments]
        shares = meet(self.collective, Told(summaries, fleet.crashes, dropped, fleet.restarts, fleet.redone))
        if self.collective.size > 1:
            self._elsewhere = self.collective.report(pack_state({}, own))
        self.groups |= own
        self.dropped += sum(share.dropped for share in shares)
        self.restarts, self.redone = (sum(share.restarts for share in shares), sum(share.redone for share in shares))
        self._note([crash for share in shares for crash in share.crashes])
        told = [summary for share in shares for summary in share.summaries]
        for summary in told:
            if not summary.reproducible:
                self.board.say(
                    f"note: {self.config.task} did not come back to where it was when its actions were played again, "
                    "so this run cannot be repeated bit for bit"
                )
        return told

    def all_groups(self) -> dict[int, GroupState]:
        """Returns where the groups of all ranks stand; the leader alone knows."""
        for told in self._elsewhere:
            self.groups |= unpack_state(told)[1]
        self._elsewhere = ()
        return dict(sorted(self.groups.items()))

    # ---- learning --------------------------------------------------------------------------------

    def _learn(self, fragments: Sequence[Fragment], told: Sequence[Summary]) -> None:
        started = time.perf_counter()
        self.board.phase(f"iteration {self.iteration + 1}: learning")
        model = self.model
        if not self.primed:  # collected with statistics of nothing: good for the statistics alone
            self.primed = True
            model.num_timesteps += sum(summary.steps for summary in told)
        else:
            seeding.seed_learner(self.config.seed, seeding.LEARNING, self.iteration)
            model.ingest(fragments, [episode for summary in told for episode in summary.episodes])
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
        """Measures the policy; rank 0 does it, and the others hear what came out."""
        if self.collective.leader:
            self._judge()
        measured = json.dumps([self.measured_at, self.validation, self.best, self.quarantine.rows()]).encode()
        told = self.collective.gather(measured if self.collective.leader else b"")[0]
        self.measured_at, self.validation, self.best, crashes = json.loads(told)
        self.quarantine.restore(crashes)

    def _judge(self) -> None:
        """Plays held-out episodes, and notes whether this policy is the best so far."""
        when = f"iteration {self.iteration}"
        found = judge(self.config, self.fleet, self._package(), lambda what: self._waiting(f"{when}: {what}"))
        self._note(self.fleet.crashes)
        self.measured_at = self.steps
        self.validation = {"validation/success": found.success, "validation/return": found.mean_return}
        if self.best is None or found.better_than(self.best["success"], self.best["return"]):
            bar = self.config.stop.success
            self.best = {
                "checkpoint": f"{self.iteration:06d}", "success": found.success, "return": found.mean_return,
                "episodes": found.episodes, "steps": self.steps, "bar": bar,
                "met": None if bar is None else (found.success or 0.0) >= bar,
            }  # fmt: skip

    def _row(self, told: Sequence[Summary], seconds: float) -> dict[str, Any]:
        row = training_row(self.window, told, seconds, self.fleet.workers)
        learnt = {name: float(value) for name, value in self.model.logger.name_to_value.items()}
        left = max(0, self.config.stop.steps - self.steps)
        row = {
            "iteration": self.iteration,
            "steps": self.steps,
            **row,
            "learners": self.collective.size,
            "learner_busy": self._busy / seconds,
            "waiting": self._waited / seconds,
            "lag": float(self.config.rollout.max_policy_lag and self._collecting),
            "dropped": self.dropped,
            "restarts": self.restarts,
            "redone": self.redone,
            "actors": self.fleet.workers,
            "quarantined": len(self.quarantine.crashes),
            **self._usage.read(),
            **self.validation,
            **learnt,
        }
        self.board.show({**row, "steps_total": self.config.stop.steps, "eta_s": left / max(1e-9, row["steps_per_s"])})
        return row

    # ---- saving and continuing -------------------------------------------------------------------

    def save(self) -> None:
        """Saves a checkpoint of the complete iterations, if there is something new; rank 0 does it.

        It is written while learning goes on; `Recorder` says when that fails.
        """
        if (
            not self.collective.leader
            or not self.cloned
            or (self._saved_at == self.iteration and self._saved_best == self.best)
        ):
            return  # half a warm start is begun anew
        self.board.phase(f"iteration {self.iteration}: saving")
        is_best = self.best is not None and self.best["checkpoint"] == f"{self.iteration:06d}"
        self.store.save(self.iteration, state.pack(self), self.best if is_best else None)
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
                state.restore(self, checkpoint.files)
            except (KeyError, ValueError, RuntimeError) as error:
                raise CheckpointError(f"checkpoint {checkpoint.folder} does not fit this run: {error}") from error
            self._saved_at, self._saved_best = self.iteration, self.best
            self.board.say(f"continuing from {checkpoint.folder} ({self.steps:,} steps)")
        self.store.open(self.iteration)
