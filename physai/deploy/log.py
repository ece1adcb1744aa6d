"""The record of a run: one MCAP file, written by a thread behind a bounded queue, and the moments around each event.

Every tick is one message of numbers on ``/tick``; around an event (an intervention of the shield, a missed deadline, a
change of state) the same ticks are marked on ``/event``. The channels carry the digest of the bundle, the file its
manifest. Foxglove and every MCAP library read it; a file that was cut off by a crash is readable up to there.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcap.writer import CompressionType, Writer

from physai.deploy.bundle import Bundle
from physai.deploy.files import canonical_json
from physai.errors import DeployError

LENGTH = 4096  # of the queue [ticks]: minutes at 20 Hz, 8 s at 500 Hz
AROUND = 40  # ticks before and after an event that go into its record
CHUNK = 8192  # bytes: what a crash can cost, a second or less
WRITE_EVERY_S = 0.1
TICK, EVENT = "/tick", "/event"


class Log:
    """Takes ticks from the loop without ever waiting; what the disk cannot follow is counted and dropped.

    Attributes:
        dropped: ticks that did not fit into the queue.
        failed: what went wrong with the file, in words; None while it is well.
    """

    def __init__(self, path: Path, bundle: Bundle) -> None:
        self.path, self.dropped = path, 0
        self.failed: str | None = None
        self._queue: deque[tuple[int, dict[str, Any], str]] = deque()
        self._ring: deque[tuple[int, dict[str, Any]]] = deque(maxlen=AROUND)
        self._after, self._events, self._why = 0, 0, ""
        self._ended = threading.Event()
        try:
            self._stream = open(path, "xb")  # noqa: SIM115 - closed by `close`
            self._writer = Writer(self._stream, chunk_size=CHUNK, compression=CompressionType.ZSTD)
            self._writer.start(profile="", library="physai")
        except OSError as problem:
            raise DeployError(f"log {path} cannot be written ({problem.strerror}); name another file") from problem
        self._channels = {}
        for topic in (TICK, EVENT):
            schema = self._writer.register_schema(topic.strip("/"), "jsonschema", b'{"type": "object"}')
            self._channels[topic] = self._writer.register_channel(topic, "json", schema, {"bundle": bundle.digest})
        now = time.time_ns()
        self._writer.add_attachment(
            now, now, "manifest.json", "application/json", canonical_json(dict(bundle.manifest))
        )
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def put(self, record: dict[str, Any], event: str = "") -> None:
        """Takes the record of a tick; `event` says what was special about it, if anything."""
        if len(self._queue) >= LENGTH:
            self.dropped += 1
            return
        self._queue.append((time.time_ns(), record, event))

    def _write(self) -> None:
        try:
            while not self._ended.wait(WRITE_EVERY_S):
                self._drain()
                self._stream.flush()
            self._drain()
            self._writer.finish()  # type: ignore[no-untyped-call]
            self._stream.flush()
        except OSError as problem:
            self.failed = problem.strerror or type(problem).__name__

    def _drain(self) -> None:
        while self._queue:
            when, record, event = self._queue.popleft()
            self._message(TICK, when, record)
            if event:
                self._events, self._why = self._events + 1, event
                for earlier, kept in self._ring:
                    self._message(EVENT, earlier, {"event": self._events, "why": event, **kept})
                self._ring.clear()
                self._after = AROUND
            if self._after:
                self._after -= 1
                self._message(EVENT, when, {"event": self._events, "why": self._why, **record})
            else:
                self._ring.append((when, record))

    def _message(self, topic: str, when: int, record: dict[str, Any]) -> None:
        self._writer.add_message(self._channels[topic], when, json.dumps(record, default=_plain).encode(), when)

    def close(self) -> None:
        """Writes what is left, and ends the file.

        Raises:
            DeployError: if the file is not complete.
        """
        self._ended.set()
        self._thread.join()
        try:
            self._stream.close()
        except OSError as problem:
            self.failed = self.failed or problem.strerror
        if self.failed:
            raise DeployError(f"log {self.path} is not complete ({self.failed}); free the disk")


def _plain(value: Any) -> Sequence[Any]:
    return value.tolist()  # type: ignore[no-any-return]
