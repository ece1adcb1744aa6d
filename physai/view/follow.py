"""The newest checkpoint of a run that goes on, loaded in the background while the window is open."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType

from physai.errors import CheckpointError
from physai.policy import CHECKPOINTS, Policy, load_checkpoint

EVERY_S = 2.0  # between two looks into the folder


class Follower:
    """Looks for new checkpoints of a run, and loads them; it only reads. Used as a context manager.

    Args:
        run: the run's folder.

    Attributes:
        name: of the newest checkpoint that `fresh` returned.

    Raises:
        CheckpointError: if there is no run.
    """

    def __init__(self, run: Path, every_s: float = EVERY_S) -> None:
        if not (run / "config.yaml").is_file():
            raise CheckpointError(f"{run} is no run; give the folder of a run, as `physai runs` lists them")
        self._folder, self._every_s = run / CHECKPOINTS, every_s
        self._seen, self._waiting = "", threading.Lock()
        self._found: tuple[str, Policy] | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.name = ""

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def first(self) -> Policy:
        """Waits for a checkpoint, and returns its policy; looks for newer ones from then on."""
        while (policy := self.fresh()) is None:
            if not self._look():
                time.sleep(self._every_s)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return policy

    def fresh(self) -> Policy | None:
        """Returns the policy of the newest checkpoint, if it is newer than the last one that was returned."""
        with self._waiting:
            found, self._found = self._found, None
        if found is None:
            return None
        self.name = found[0]
        return found[1]

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            self._look()

    def _look(self) -> bool:
        """Loads the newest checkpoint if it is new and whole.

        One that is half written is whole at the next look, and one that the training removes meanwhile has a successor.
        """
        names = [path.name for path in self._folder.glob("*") if path.name.isdigit()]
        newest = max(names, key=int, default="")
        if not newest or newest == self._seen:
            return False
        try:
            policy = load_checkpoint(self._folder / newest)
        except (CheckpointError, OSError):
            return False
        self._seen = newest
        with self._waiting:
            self._found = newest, policy
        return True
