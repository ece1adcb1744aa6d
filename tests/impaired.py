"""A network that misbehaves as a seed says: a proxy on this machine, and the same as a link without time of its own."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from physai.deploy.infer import HEAD
from physai.deploy.remote import Answer


@dataclass
class Impairment:
    """What happens to each message, in each direction; may be changed while it runs.

    Attributes:
        delay_s, jitter_s: added to each; the second from 0, uniformly. Jitter alone reorders.
        loss, duplicate: shares.
        partition: nothing passes, and no connection is made; those that are there stay open on both sides.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    partition: bool = False

    def delays(self, rng: np.random.Generator) -> list[float]:
        """When copies of a message arrive; empty if it is lost."""
        if self.partition or rng.random() < self.loss:
            return []
        copies = 1 + int(rng.random() < self.duplicate)
        return [self.delay_s + self.jitter_s * float(rng.random()) for _ in range(copies)]


class Proxy:
    """Passes frames on between a robot and a server, each as the impairment says; greetings pass untouched."""

    def __init__(self, port: int, impairment: Impairment, seed: int = 0) -> None:
        self.target, self.impairment, self.rng = port, impairment, np.random.default_rng(seed)
        self.port = 0

    async def start(self) -> asyncio.Server:
        listener = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        return listener

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.impairment.partition:
            await asyncio.sleep(3600.0)  # half-open: accepted, and never a word
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        except (OSError, EOFError):
            pass
        finally:
            for end in (writer, back):
                end.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        loop, first = asyncio.get_running_loop(), True
        while True:
            head = await source.readexactly(HEAD.size)
            data = head + await source.readexactly(HEAD.unpack(head)[2])
            for delay in [0.0] if first else self.impairment.delays(self.rng):
                loop.call_later(delay, sink.write, data)
            first = False


class Background:
    """An event loop in a thread, for servers and proxies."""

    def __enter__(self) -> Background:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        return self

    def run(self, coroutine: Any) -> Any:
        """Returns what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def __exit__(self, *error: object) -> None:
        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self.run(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class SimulatedLink:
    """The same without sockets, on the clock of a test: deterministic to the nanosecond.

    Args:
        answer: command and memory for an observation and a memory.
        digest: of the bundle that the other end has; it may change.
    """

    def __init__(
        self, answer: Callable[..., Any], digest: bytes, impairment: Impairment, clock: Any, seed: int = 0
    ) -> None:
        self.answer, self.digest, self.impairment, self.clock = answer, digest, impairment, clock
        self.rng = np.random.default_rng(seed)
        self.asked = 0
        self._due: list[tuple[int, int, Answer]] = []
        self._newest: Answer | None = None

    def ask(self, sequence: int, budget_s: float, observation: Any, memory: Mapping[str, Any]) -> bool:
        self.asked += 1
        command, after = self.answer(observation[None], memory)
        for there in self.impairment.delays(self.rng):
            for back in self.impairment.delays(self.rng):
                arrives = self.clock() + round((there + back) * 1e9)
                entry = Answer(sequence, self.digest, arrives, command, after)
                heapq.heappush(self._due, (arrives, len(self._due) + self.asked * 1000, entry))
        return True

    def take(self, sequence: int, wait_s: float) -> Answer | None:
        until = self.clock() + round(wait_s * 1e9)
        while self._due and self._due[0][0] <= until:
            arrives, _, answer = heapq.heappop(self._due)
            self.clock.now = max(self.clock.now, arrives)
            if self._newest is None or answer.sequence > self._newest.sequence:
                self._newest = answer
            if self._newest.sequence == sequence:
                return self._newest
        if self._newest is not None and self._newest.sequence == sequence:
            return self._newest
        self.clock.now = until
        return None
