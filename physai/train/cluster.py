"""Gets a Ray to work on: one of our own for the length of a run, or the one at an address."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from physai.errors import ClusterError

# Ray puts sockets about 65 characters below this folder, and a socket's path may have 107.
LONGEST_FOLDER = 40


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connects to Ray while the context lasts.

    Args:
        address: of a cluster, such as ``auto`` or ``host:6379``. None starts an embedded Ray with ports and a folder of
            its own, whatever else runs on this machine. A process that is connected already stays as it is.

    Raises:
        ClusterError: if Ray cannot be started or reached.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing about a run leaves the machine
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the coming default; silences a warning
    folder = None if address else _folder()
    try:
        _init(address, folder)
        try:
            yield
        finally:
            ray.shutdown()
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _init(address: str | None, folder: Path | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    try:
        if folder is not None:
            ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, _temp_dir=str(folder), **quiet)
        else:
            ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError, ConnectionError, ray.exceptions.RayError) as error:
        if address:
            raise ClusterError(
                f"no Ray cluster answers at {address!r} ({error}); check the address, or leave out "
                "--address to start one here"
            ) from error
        raise ClusterError(f"Ray cannot be started on this machine: {error}; `physai doctor` says more") from error


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    if len(str(folder)) > LONGEST_FOLDER:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    return folder
