"""Gets a Ray to work on: one of our own for the length of a run, or the one at an address."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from physai.errors import ClusterError
from physai.train import nodes
from physai.train.knock import knock

# Ray puts sockets about 65 characters below this folder, and a socket's path may have 107.
LONGEST_FOLDER = 40
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connects to Ray while the context lasts.

    Args:
        address: of a cluster, ``auto`` or ``host:6379``. None starts an embedded Ray with ports and a folder of its
            own, whatever else runs on this machine. A process that is connected already stays as it is.

    Raises:
        ClusterError: if Ray cannot be started or reached, or a node of the cluster has other versions.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a run leaves the machine
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default; silences a warning
    # Ray tells every start that its token authentication is on; it stays on.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    folder = None if address else _folder()
    try:
        if address:
            _join(address)
        else:
            _start(folder)
        try:
            if address:
                nodes.check_versions()
            yield
        finally:
            ray.shutdown()
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _join(address: str) -> None:
    if "://" in address:
        raise ClusterError(
            f"--address {address!r} is not auto or host:port; from a machine outside the cluster, use `physai submit`"
        )
    found = knock(address)
    here = {"ray": ray.__version__, "python": platform.python_version()}
    different = [f"{name} {found[name]} (here {here[name]})" for name in here if found[name] not in ("", here[name])]
    if different:
        raise ClusterError(f"the cluster at {address!r} has {' and '.join(different)}; install the same versions here")
    try:
        ray.init(address=found["address"], **QUIET)
    except Exception as error:  # Ray raises bare ones, too, such as where a machine is too busy to start it in time
        raise ClusterError(
            f"the Ray cluster at {address!r} cannot be joined ({error}); from a machine that is not one of its nodes, "
            "use `physai submit`"
        ) from error


def _start(folder: Path | None) -> None:
    try:
        ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, _temp_dir=str(folder), **QUIET)
    except Exception as error:  # Ray raises bare ones, too, such as where a machine is too busy to start it in time
        raise ClusterError(
            f"Ray cannot be started on this machine: {str(error).rstrip('.')}; `physai doctor` says more"
        ) from error


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    if len(str(folder)) > LONGEST_FOLDER:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    return folder
