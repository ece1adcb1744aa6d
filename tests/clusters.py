"""A Ray cluster of several nodes on one machine, whose parts may be killed, for the tests of faults."""

from __future__ import annotations

import faulthandler
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray._common.utils
import ray._private.utils
from ray.cluster_utils import Cluster

DEADLINE_S = 240.0  # generous: other work may have the cores
STORE_BYTES = 100 * 2**20
TESTS = str(Path(__file__).parent)


@contextmanager
def cluster(head_cpus: int, *cpus: int, hook: str | None = None) -> Iterator[Cluster]:
    """Starts a head and a node for each further number, and connects; PHYSAI_TOY_STALL is its folder."""
    before = dict(os.environ)
    # Ray notes the address for `auto` in a file that all clusters of this machine share; ours is nobody's business.
    noted = ray._private.utils.write_ray_address, ray._common.utils.reset_ray_address
    ray._private.utils.write_ray_address = ray._common.utils.reset_ray_address = lambda *_, **__: None
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.environ |= {"PYTHONPATH": TESTS, "PHYSAI_TOY_STALL": folder, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        head = {
            "num_cpus": head_cpus,
            "include_dashboard": False,
            "temp_dir": folder,
            "object_store_memory": STORE_BYTES,
        }
        running = Cluster(initialize_head=True, head_node_args=head)
        running.folder = Path(folder)
        try:
            for count in cpus:
                add(running, count)
            connect(running, hook)
            yield running
        finally:
            ray.shutdown()
            running.shutdown()
            ray._private.utils.write_ray_address, ray._common.utils.reset_ray_address = noted
            os.environ.clear()
            os.environ |= before


def connect(running: Cluster, hook: str | None) -> None:
    """Makes this process a driver of the cluster; every worker process calls `hook` first."""
    environment = {"worker_process_setup_hook": hook} if hook else {}
    ray.init(
        address=running.address, runtime_env=environment, log_to_driver=False, configure_logging=False,
        logging_level="error",
    )  # fmt: skip


def add(running: Cluster, cpus: int) -> Any:
    """Adds a node."""
    return running.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES)


def remove(running: Cluster, node: Any) -> None:
    """Takes a node away as a power cut does."""
    running.remove_node(node, allow_graceful=False)


def until(condition: Callable[[], Any], what: str) -> Any:
    """Waits for something, and returns it; if it never comes, says where every thread is."""
    ends = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        if time.monotonic() > ends:
            faulthandler.dump_traceback(all_threads=True)
            raise AssertionError(f"never came: {what}")
        time.sleep(0.02)
    return found


class Beside:
    """Does something in a thread: nodes can be started in the main thread alone."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work, self._answer, self._error = work, None, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._work()
        except BaseException as error:
            self._error = error

    def ended(self) -> bool:
        """Whether it is over."""
        return not self._thread.is_alive()

    def result(self) -> Any:
        """Waits for it; returns or raises what it did."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "it hangs"
        if self._error is not None:
            raise self._error
        return self._answer


class Stall:
    """Holds a run where `toys.stall` is called with a phase, as soon as a path is there."""

    def __init__(self, folder: Path, phase: str, path: Path) -> None:
        self.folder = folder
        for name in ("go", "reached", "reached.partial"):
            (folder / name).unlink(missing_ok=True)
        partial = folder / "stall.partial"
        partial.write_text(f"{phase} {path}")
        partial.replace(folder / "stall")

    def reached(self, training: Beside) -> int:
        """Waits until the run is there; returns the process that is held. Raises what ended the run before."""
        reached = self.folder / "reached"
        until(lambda: reached.exists() or training.ended(), "phase")
        if not reached.exists():
            raise AssertionError(f"ended before the phase: {training.result()}")
        return int(reached.read_text())

    def go(self) -> None:
        """Lets it go on."""
        (self.folder / "go").touch()
