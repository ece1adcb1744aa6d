"""What a running session tells those who watch, and what it keeps for them; a slow reader never delays it."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

KEPT_BYTES = 100_000_000  # of finished episodes; the oldest go first


class Feed:
    """Keeps the newest message of each kind; whoever is slow gets fewer of them.

    So it needs no queues, and a reader that comes late or again is told all that holds now.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest: dict[str, tuple[int, str]] = {}
        self._count = 0
        self._ended = False

    def tell(self, kind: str, message: Any) -> None:
        """Replaces the last message of this kind (values of JSON)."""
        text = dumped(message)
        with self._changed:
            self._count += 1
            self._newest[kind] = self._count, text
            self._changed.notify_all()

    def end(self) -> None:
        """Lets every reader go."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def listen(self, patience_s: float) -> Iterator[list[tuple[str, str]]]:
        """Yields what is new, as (kind, JSON) in the order in which it was told; nothing new after `patience_s`."""
        seen = 0
        while True:
            with self._changed:
                if self._count <= seen and not self._ended:
                    self._changed.wait(patience_s)
                fresh = sorted((count, kind, text) for kind, (count, text) in self._newest.items() if count > seen)
                seen, ended = self._count, self._ended
            yield [(kind, text) for _, kind, text in fresh]
            if ended:
                return


class Archive:
    """Finished episodes of a session, as JSON, by their numbers."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most, self._lock = most_bytes, threading.Lock()
        self._kept: OrderedDict[int, tuple[dict[str, Any], str]] = OrderedDict()

    def add(self, number: int, episode: dict[str, Any]) -> None:
        """Keeps an episode; the oldest make room for it."""
        told = {key: episode[key] for key in ("seed", "actor", "steps", "successAt", "return")}
        with self._lock:
            self._kept[number] = {"id": number, **told}, dumped(episode)
            while len(self._kept) > 1 and sum(len(text) for _, text in self._kept.values()) > self._most:
                self._kept.popitem(last=False)

    def listed(self) -> list[dict[str, Any]]:
        """Returns what tells the episodes apart."""
        with self._lock:
            return [told for told, _ in self._kept.values()]

    def episode(self, number: int) -> str | None:
        """Returns an episode, or None if it is not there (any more)."""
        with self._lock:
            found = self._kept.get(number)
        return None if found is None else found[1]

    def episodes(self) -> list[Any]:
        """Returns all episodes."""
        with self._lock:
            texts = [text for _, text in self._kept.values()]
        return [json.loads(text) for text in texts]


def dumped(message: Any) -> str:
    """Returns JSON without blanks or line ends; refuses numbers that are none."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False)
