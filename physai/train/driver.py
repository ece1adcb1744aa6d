"""Trains a policy: starts Ray and the fleet, runs the learner under Ray Train, and says how it ended."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from physai.config import RunConfig
from physai.errors import ClusterError, ConfigError, PhysaiError
from physai.storage import Storage
from physai.train import device, run_report, warm_start
from physai.train.outcome import Interface, Outcome
from physai.train.progress import Board, TerminalBoard
from physai.train.run_dir import RunFolder
from physai_envs import registry

POLL_S = 0.5


def train(
    config: RunConfig,
    *,
    address: str | None = None,
    resume: str | None = None,
    quiet: bool = False,
    board: TerminalBoard | None = None,
) -> Path | Storage:
    """Trains a policy as the configuration says.

    Args:
        config: of the run.
        address: Ray cluster; None starts an embedded Ray, or uses the one that this process is connected to.
        resume: run folder to continue.
        quiet: show no progress.
        board: hears what goes on, instead of a terminal.

    Returns:
        the run folder.

    Raises:
        PhysaiError: with a sentence about what is wrong.
        KeyboardInterrupt: after Ctrl-C, when a checkpoint was saved.
        SystemExit: after SIGTERM, likewise.
    """
    interface = inspect(config)
    if config.learner.workers == 0:
        device.check(config)
    run = RunFolder.reopen(resume, config) if resume else RunFolder.create(config)
    with board or TerminalBoard(f"{config.task}: {run.path}", shown=not quiet) as board:
        board.phase(f"joining the cluster at {address}" if address else "starting Ray")
        from physai.train import cluster, nodes  # takes a second, so not before something is shown

        try:
            # Ray takes over the signals when it starts, so ours come after it.
            with cluster.connected(address), board.watching(nodes.read), _signals(board) as received:
                if warning := nodes.check_storage(config.storage):
                    board.say(warning)
                outcome = _with_actors(config, interface, run.path, board)
        except PhysaiError:
            if run.can_continue():
                board.say(f"continue with: physai train --resume {run.path}")
            elif not resume:
                run.discard()
            raise
        board.phase("writing the report")
        if note := run_report.refreshed(str(run.path)):
            board.say(note)
        _conclude(run, outcome, board)
    if outcome.stopped and received:
        _leave(received[0])
    return run.path


def inspect(config: RunConfig) -> Interface:
    """Makes the environment once to see what it takes and gives.

    Raises:
        TaskError: if it does not exist or is of a kind that cannot be trained.
        ConfigError: if the configuration asks for what it does not have.
    """
    env = registry.make(config.task, goal_env=config.goal_env)
    try:
        if config.warm_start is not None:
            warm_start.check(env, config.task)
        goals = registry.goal_space(env)
        if config.goal_env and goals is None:
            raise ConfigError(f"{config.task} is not goal-conditioned; remove goal_env and algorithm.her")
        hindsight = getattr(config.algorithm, "her", None) is not None
        space = goals if hindsight else env.observation_space
        return Interface(space, env.action_space, registry.policy_spec(env))
    finally:
        env.close()


def _with_actors(config: RunConfig, interface: Interface, run: Path | Storage, board: TerminalBoard) -> Outcome:
    from physai.train.placement import Placement

    board.phase("starting rollout actors")
    with Placement(config, board.say) as placement:
        placement.start(lambda: _interrupt_if_stopping(board))
        return _learn(config, interface, run, board, placement)


def _interrupt_if_stopping(board: Board) -> None:
    if board.stopping():
        raise KeyboardInterrupt  # nothing is there to be saved yet


def _learn(
    config: RunConfig, interface: Interface, run: Path | Storage, board: TerminalBoard, placement: Any
) -> Outcome:
    """Runs the learner under Ray Train: here, or in workers that are restarted from the last checkpoint."""
    from ray.train import FailureConfig, ScalingConfig
    from ray.train import RunConfig as TrainRunConfig
    from ray.train.torch import TorchTrainer

    from physai.train import learner_group, worker
    from physai.train.rendezvous import LearnerTorchConfig

    settings = {"config": config, "interface": interface, "run": str(run), "crew": placement}
    settings["device"] = learner_group.choose_device(config, interface, board)
    board.phase("starting the learner")
    if config.learner.workers == 0:
        result = TorchTrainer(
            worker.learn_here,
            train_loop_config={**settings, "board": board},
            scaling_config=ScalingConfig(num_workers=0),
        ).fit()
        return result.return_value  # type: ignore[no-any-return]
    learner_group.check_room(config, len(placement.members()))
    mailbox = worker.mailbox()
    trainer = TorchTrainer(
        worker.learn_there,
        train_loop_config={**settings, "crew": placement.shared(), "mailbox": mailbox},
        torch_config=LearnerTorchConfig(timeout_s=learner_group.SILENT_S),
        scaling_config=ScalingConfig(
            num_workers=config.learner.workers,
            use_gpu=settings["device"] == "cuda",
            resources_per_worker=learner_group.RESOURCES,
            elastic_resize_monitor_interval_s=learner_group.RESIZE_EVERY_S,
        ),
        run_config=TrainRunConfig(
            name="ray_train",
            storage_path=str(run),
            failure_config=FailureConfig(max_failures=config.learner.max_failures),
        ),
    )
    os.environ.setdefault("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", str(learner_group.SILENT_S))
    return _watch(trainer.fit, mailbox, board)


def _watch(fit: Callable[[], Any], mailbox: Any, board: TerminalBoard) -> Outcome:
    """Waits for a learner elsewhere and shows what it tells. In a thread, Ray Train leaves the signals to us."""
    from physai.train import worker

    failure: list[BaseException] = []

    def work() -> None:
        try:
            fit()
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        worker.relay(mailbox, board)
    worker.relay(mailbox, board)
    outcome, error = worker.result(mailbox)
    if error is not None:
        raise error
    if outcome is None:
        cause = failure[0] if failure else "it ended without a result"
        raise ClusterError(f"the learner failed more often than learner.max_failures allows: {cause}")
    return outcome


@contextmanager
def _signals(board: TerminalBoard) -> Iterator[list[int]]:
    """Turns the first Ctrl-C or SIGTERM into a wish to stop; a second Ctrl-C interrupts at once."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        board.stop_asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _conclude(run: RunFolder, outcome: Outcome, board: Board) -> None:
    """Says how it ended, which policy the run hands on, and how to go on."""
    board.phase("")
    if outcome.stopped:
        board.say(f"stopped after {outcome.steps:,} steps; saved. Continue with: physai train --resume {run.path}")
        return
    text = f"done after {outcome.steps:,} steps"
    best = outcome.best
    if best is not None:
        measure = f"return {best['return']:.4g}" if best["success"] is None else f"success {best['success']:.1%}"
        text += f"; best policy: checkpoint {best['checkpoint']}, {measure} on {best['episodes']} held-out episodes"
    if outcome.met is not None:
        text += ", the bar is met" if outcome.met else f", the bar of {best['bar']:.0%} is NOT met" if best else ""
    board.say(f"{text}; run folder: {run.path}")
