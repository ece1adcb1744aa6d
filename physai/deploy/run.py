"""Runs a bundle on a robot: who may run it, whose driver, until somebody stops it."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from physai.deploy.bundle import Bundle, load_bundle
from physai.deploy.clock import undisturbed
from physai.deploy.files import strict_json
from physai.deploy.io import RobotIO
from physai.deploy.ladder import Ladder
from physai.deploy.log import Log
from physai.deploy.loop import Loop
from physai.deploy.runtime import Runtime
from physai.deploy.signature import Trust
from physai.deploy.watchdog import Watchdog
from physai.errors import BundleError, DeployError


@dataclass(frozen=True)
class Ways:
    """How it runs: limits of the site, where the log goes, a second policy beside, and who computes."""

    site: Any = None
    log: Path | None = None
    shadow: Bundle | None = None
    ladder: Ladder | None = None


def load_to_run(path: Path, trust: Trust | None, *, unsigned: bool) -> Bundle:
    """Loads a bundle that may run: signed by a trusted key, or somebody said that it need not be.

    What it needs for a command is measured again, with the priority that the loop has.

    Raises:
        BundleError: if it is refused.
    """
    if trust is None and not unsigned:
        raise BundleError(
            f"bundle {path} is not run: nobody was named who signed it; give --key FILE.pub, or --unsigned to run it "
            "anyway"
        )
    bundle = load_bundle(path, trust)
    with undisturbed():
        bundle.replay()
    return bundle


def read_site(path: Path) -> Any:
    """Reads the limits of a site.

    Raises:
        BundleError: if they are no JSON.
    """
    try:
        return strict_json(path.read_bytes(), path.name)
    except (OSError, ValueError) as problem:
        raise BundleError(
            f"the limits {path} cannot be read ({problem}); `physai bundle schema safety` says how"
        ) from problem


def driver(name: str, bundle: Bundle) -> RobotIO:
    """Makes the driver ``module:name``, which is called with the spec of the policy; it may lie in the current folder.

    Raises:
        DeployError: if there is none.
    """
    module, _, attribute = name.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # last, so that nothing there stands in for an installed package
    try:
        robot: RobotIO = getattr(importlib.import_module(module), attribute)(bundle.spec)
    except (ImportError, AttributeError, ValueError) as problem:
        raise DeployError(f"there is no driver {name!r} ({problem}); see docs/how-to/robot-io.md") from problem
    return robot


def run_robot(bundle: Bundle, name: str, ways: Ways, tell: Callable[[str], None]) -> str:
    """Runs until the job is done, somebody stops it (Ctrl-C, SIGTERM), or a fault; returns the state that it ends in.

    Raises:
        DeployError: if it does not fit the robot, or the log is not complete.
    """
    robot, ended = driver(name, bundle), threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    watchdog = Watchdog(bundle.interface.control.watchdog_s, robot.stopper())
    log = None if ways.log is None else Log(ways.log, bundle)
    try:
        robot.connect()
        watchdog.start()
        runtime = Runtime(
            bundle, robot, site=ways.site, log=log, watchdog=watchdog, shadow=ways.shadow, ladder=ways.ladder
        )
        state = Loop(runtime).run(ended.is_set).value
        tell(f"{state}: {runtime.cause}" if runtime.cause else f"stopped after {runtime.ticks} ticks")
        return state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        robot.stop()
        watchdog.close()
        robot.close()
        if log is not None:
            log.close()


def say(job: Any) -> str:
    """Returns a job on the simulated cell in words."""
    end = "success" if job.success else "no success"
    cause = f" ({job.cause})" if job.cause else ""
    broken = ", ".join(f"{name} {count} times" for name, count in job.violations.items()) or "none"
    return (
        f"{job.seed}: {end} after {job.steps} steps, {job.state.value}{cause}; shield {job.interventions}, "
        f"late {job.misses}, skipped {job.skipped}; limits broken: {broken}"
    )
