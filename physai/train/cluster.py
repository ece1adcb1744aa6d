"""Gets a Ray to work on: one of our own for the length of a run, or the one at an address."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from physai.errors import ClusterError

# Ray puts sockets about 65 characters below this folder, and a socket's path may have 107.
LONGEST_FOLDER = 40
KNOCK_S = 5.0


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


def _answers(address: str) -> None:
    """Knocks at an address: Ray itself goes on trying for a quarter of an hour.

    Raises:
        OSError: if nobody answers.
    """
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _init(address: str | None, folder: Path | None) -> None:
    # Ray tells every start that its token authentication is on; it stays on.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    try:
        if folder is not None:
            ray.init(address="local", num_cpus=os.cpu_count(), include_dashboard=False, _temp_dir=str(folder), **quiet)
        else:
            _answers(str(address))
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
