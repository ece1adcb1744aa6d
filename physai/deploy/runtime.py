"""The state machine of a policy on a robot, and what happens in one tick of its loop.

    VERIFIED -> ARMED -> BLENDING -> RUNNING <-> DEGRADED
    from any of them: STOPPING -> VERIFIED, or -> FAULT, which a person has to acknowledge

ARMED waits for fresh observations. BLENDING goes from rest to what the policy says. DEGRADED brings the robot to rest
while observations are old or strange or ticks too late, and goes on when they are good again; if that takes too long
it is a fault. Nothing leaves FAULT by itself, and nothing starts again without `arm`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np

from physai.deploy.bundle import Bundle
from physai.deploy.graph import Graph
from physai.deploy.interface import Control
from physai.deploy.io import Features, Reading, RobotIO
from physai.deploy.ladder import Ladder
from physai.deploy.log import Log
from physai.deploy.monitor import Monitor, Verdict
from physai.deploy.safety import SAFETY, Safety, element_names, tightened
from physai.deploy.shield import Shield
from physai.deploy.watchdog import Watchdog
from physai.errors import BundleError, DeployError

RECOVERY_TICKS = 3  # good ones in a row, before a degraded robot goes on
LATENCY_SHARE = 99.0  # percentile of the replayed inference that must meet the deadline


class State(Enum):
    """Where the runtime is; see the module."""

    VERIFIED = "verified"
    ARMED = "armed"
    BLENDING = "blending"
    RUNNING = "running"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    FAULT = "fault"


ACTIVE = (State.ARMED, State.BLENDING, State.RUNNING, State.DEGRADED, State.STOPPING)


class Runtime:
    """One policy, one robot.

    Args:
        bundle: has passed `load_bundle`.
        robot: connected, or a recording.
        site: limits of this site, which may only tighten those of the bundle.
        log: where each tick is written; None writes nothing.
        watchdog: started; None if there is none.
        shadow: a second policy that is computed and logged, and never sent.
        ladder: who computes instead of the bundle's own graph; None computes here.
        clock: nanoseconds that only grow; another one for tests.

    Attributes:
        state: where it is; `cause` says why, where it is not where it should be.
        ticks, misses, interventions: counted since it was armed.

    Raises:
        DeployError: if the robot does not fit, something is not limited, or this machine is too slow.
    """

    def __init__(
        self,
        bundle: Bundle,
        robot: RobotIO,
        *,
        site: Any = None,
        log: Log | None = None,
        watchdog: Watchdog | None = None,
        shadow: Bundle | None = None,
        ladder: Ladder | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.robot, self.log, self.watchdog, self.clock, self.site = robot, log, watchdog, clock, site
        self.ladder = ladder
        self.state, self.cause = State.VERIFIED, ""
        self.ticks = self.misses = self.interventions = self._left_out = 0
        self.before: Bundle | None = None
        self.shield = self._take(bundle)
        self._shadow = shadow if shadow is None else self._checked(shadow)
        self._blend = self._good = self._missed_in_a_row = 0
        self._degraded_ns, self._fault, self._base = 0, "", list(self.shield.last)
        self._last_state, self._last_rung = self.state, "local"

    def _checked(self, bundle: Bundle) -> Bundle:
        """Refuses what could not run here, in words."""
        wanted, there = Features.of(bundle.spec), self.robot.features
        for what in ("observations", "commands", "rate_hz"):
            if getattr(wanted, what) != getattr(there, what):
                raise DeployError(
                    f"the robot has the {what} {getattr(there, what)} and the policy needs {getattr(wanted, what)}"
                )
        if strange := sorted(there.resolution.keys() - there.observations.keys()):
            raise DeployError(f"the robot has a resolution of {strange[0]}, which it does not observe; see its driver")
        deadline, slow = bundle.interface.control.deadline_s, float(np.percentile(bundle.seconds, LATENCY_SHARE))
        if slow > deadline and self.ladder is None:  # which has looked at the policy on board itself
            raise DeployError(
                f"this machine needs {slow * 1e3:.1f} ms for a command in {LATENCY_SHARE:g} of 100 cases, and "
                f"{deadline * 1e3:g} ms are allowed; use a faster one, or end what else runs on it"
            )
        return bundle

    def _take(self, bundle: Bundle) -> Shield:
        self._checked(bundle)
        safety = bundle.safety
        if self.site is not None:
            try:
                safety = Safety.of(tightened(bundle.limits, self.site), bundle.spec)
            except ValueError as problem:
                raise BundleError(f"the limits of the site are refused: {problem}") from problem
        if free := safety.unlimited(bundle.spec):
            raise DeployError(f"{free[0]} has no limits in {SAFETY}; give them in a site file (--site)")
        self.bundle, self.safety = bundle, safety
        self.control: Control = bundle.interface.control
        self.monitor = Monitor(bundle.interface, bundle.spec, self.robot.features.resolution)
        self.graph: Graph | Ladder = self.ladder or bundle.graph
        self._names = element_names(bundle.spec)
        self._place = slice(0, 0) if safety.workspace is None else safety.workspace.seen
        self._blend_ticks = max(1, round(self.control.blend_s / self.control.period_s))
        self._deadline_ns = round(self.control.deadline_s * 1e9)
        rates = [rate for term in bundle.spec.actions for rate in (term.rate_limit or (math.inf,) * term.size)]
        self._own_steps = [rate * self.control.period_s for rate in rates] if min(rates) < math.inf else None
        return Shield(safety, bundle.spec)

    def arm(self) -> None:
        """Makes ready; the policy begins with the first good observation.

        Raises:
            DeployError: if it is not in VERIFIED.
        """
        if self.state is not State.VERIFIED:
            what = f"a fault is latched ({self.cause})" if self.state is State.FAULT else f"it is {self.state.value}"
            raise DeployError(f"it cannot be armed: {what}; {'acknowledge' if self.cause else 'stop'} first")
        self.shield.reset()
        self.monitor.reset()
        self.graph.reset()
        self.ticks = self.misses = self.interventions = self._left_out = 0
        self._blend = self._good = self._missed_in_a_row = 0
        self._base, self.cause, self._fault = list(self.shield.last), "", ""
        self.state = State.ARMED

    def stop(self, fault: str = "") -> None:
        """Brings the robot to rest; with `fault`, what is wrong, which is then latched."""
        self._fault = self._fault or fault
        if self.state in ACTIVE:
            self.state, self.cause = State.STOPPING, self.cause or fault
        elif fault:
            self._latch(fault)

    def acknowledge(self, who: str) -> None:
        """A person has seen the fault and says that the robot may be armed again.

        Raises:
            DeployError: if nobody is named, or the watchdog is gone: that needs a new start.
        """
        if not who.strip():
            raise DeployError("a fault is acknowledged by a person; say who")
        if self.watchdog is not None and not self.watchdog.alive:
            raise DeployError("the watchdog is gone; find out why, and start the program again")
        if self.state is State.FAULT:
            if self.watchdog is not None:
                self.watchdog.acknowledge()
            self._note({"acknowledged": who}, f"acknowledged by {who}")
            self.state, self.cause, self._fault = State.VERIFIED, "", ""

    def swap(self, bundle: Bundle) -> None:
        """Goes on with another policy for the same robot, blended in from the present command; the old one is kept.

        Raises:
            DeployError: if it sees or does something else, or cannot run here; the old one goes on.
        """
        if self.ladder is not None:
            raise DeployError("a policy that a server computes is not swapped; stop, and start with the other one")
        if bundle.spec != self.bundle.spec:
            raise DeployError("the other policy sees or commands something else; stop, and start with that one")
        self._checked(bundle)
        before, shield = self.bundle, self.shield
        fresh = self._take(bundle)
        for old, new in zip(shield.elements, fresh.elements, strict=True):
            new.last, new.step = old.last, old.step
        fresh.last = list(shield.last)
        self.shield, self.before = fresh, before
        self.graph.reset()
        self._blend, self._base = 0, list(fresh.last)
        if self.state is State.RUNNING:
            self.state = State.BLENDING
        self._note({"swapped": bundle.digest}, f"swapped for {bundle.digest[:12]}")

    def rollback(self) -> None:
        """Goes back to the policy before the last swap.

        Raises:
            DeployError: if there was none.
        """
        if self.before is None:
            raise DeployError("there is no policy to go back to")
        self.swap(self.before)

    def held(self, ticks: int = 1) -> None:
        """The loop has skipped ticks, so the last command was held; their numbers are left out, too."""
        self.shield.held()
        self._left_out += ticks

    def tick(self, wait_s: float = 0.0) -> None:
        """One step of the loop: read, judge, compute, shield, send, beat, log.

        Args:
            wait_s: for how long a newer reading is waited for.
        """
        if self.state not in ACTIVE:
            return
        try:
            reading = self.robot.read(wait_s)
            started = self.clock()
            self._step(reading, started)
        except OSError as problem:
            self.robot_lost(problem)

    def robot_lost(self, problem: OSError) -> None:
        """The connection failed; the actuators stop by themselves when the last command expires."""
        self._latch(f"the robot does not answer ({problem.strerror or problem})")

    def _step(self, reading: Reading, started: int) -> None:
        verdict = self.monitor.judge(reading, started)
        self._guard(reading, verdict)
        state, finished, valid_s = self.state, started, self.control.expiry_s
        if state in (State.BLENDING, State.RUNNING):
            command = self._compute(started)
            finished = self.clock()
            if self.ladder is not None:
                valid_s = self.ladder.valid_s
        elif state is State.ARMED:
            command = self.shield.stop()
        else:
            if not reading.follows:
                self.shield.reset()  # the actuators brake by themselves, so there is nothing to brake from
            command = self.shield.stop()
        if self.state is not State.FAULT:
            sent = self.robot.send(command, valid_s, self.ticks + self._left_out)
            if sent is not command:
                self._resynchronise(sent)
        self.ticks += 1
        if self.watchdog is not None:
            self.watchdog.beat()
        if self.shield.reasons:
            self.interventions += 1
        self._advance(verdict, reading)
        self._record(reading, command, started, finished)

    def _guard(self, reading: Reading, verdict: Verdict) -> None:
        """Changes the state by what was read, before anything is computed."""
        if reading.done:
            self.stop()
        elif reading.stopped:
            self.stop("the robot was stopped by its watchdog or by somebody else")
        elif self.watchdog is not None and (self.watchdog.tripped or not self.watchdog.alive):
            self.stop("the watchdog has tripped or is gone")
        elif self.log is not None and self.log.failed:
            self.stop(f"the log cannot be written ({self.log.failed})")
        elif verdict is Verdict.STOP:
            self.stop(self.monitor.worst)
        elif self.state in (State.BLENDING, State.RUNNING) and (verdict is Verdict.FALLBACK or not reading.follows):
            self._degrade(self.monitor.worst if verdict else "the actuators brake by themselves")

    def _degrade(self, cause: str) -> None:
        self.state, self.cause, self._good, self._degraded_ns = State.DEGRADED, cause, 0, self.clock()

    def _compute(self, started: int) -> list[float]:
        """Returns the shielded command of the policy; one that is late or no number is not used."""
        wanted = self.graph(self.monitor.values)[0].tolist()
        if self.clock() - started > self._deadline_ns:
            self.misses += 1
            self._missed_in_a_row += 1
            if self._missed_in_a_row >= self.control.max_consecutive_misses:
                self._degrade("commands come too late")
                return self.shield.stop()
            return self.shield(self.shield.last, self._position())
        self._missed_in_a_row = 0
        total = sum(wanted)
        if total - total != 0.0:
            self.stop("the policy puts out what is no number")
            return self.shield(wanted, self._position())
        if self._own_steps is not None:  # as `ActionMap` does in training
            limited = zip(wanted, self.shield.last, self._own_steps, strict=True)
            wanted = [min(max(value, last - step), last + step) for value, last, step in limited]
        if self.state is State.BLENDING:
            self._blend += 1
            share = self._blend / self._blend_ticks
            if share < 1.0:
                wanted = [a + share * (b - a) for a, b in zip(self._base, wanted, strict=True)]
        return self.shield(wanted, self._position())

    def _position(self) -> list[float]:
        return self.monitor.values[0, self._place].tolist()  # type: ignore[no-any-return]

    def _resynchronise(self, sent: Any) -> None:
        """Goes on from what the driver really sent."""
        for value, element in zip(sent, self.shield.elements, strict=True):
            if value != element.last:
                element.step += value - element.last
                element.last = value

    def _advance(self, verdict: Verdict, reading: Reading) -> None:
        """Changes the state by what has been reached."""
        state = self.state
        if state is State.ARMED and verdict is Verdict.FRESH and reading.follows:
            self.state = State.BLENDING
            if self.watchdog is not None:
                self.watchdog.arm()
        elif state is State.BLENDING and self._blend >= self._blend_ticks:
            self.state = State.RUNNING
        elif state is State.DEGRADED:
            self._good = self._good + 1 if verdict is Verdict.FRESH and reading.follows else 0
            if self._good >= RECOVERY_TICKS and self.shield.resting:
                self.state, self.cause, self._blend, self._missed_in_a_row = State.BLENDING, "", 0, 0
                self._base = list(self.shield.last)
                self.graph.reset()
            elif self.clock() - self._degraded_ns > self.control.max_fallback_s * 1e9:
                self.stop(self.cause)
        elif state is State.STOPPING and (self.shield.resting or reading.stopped):
            if self._fault:
                self._latch(self._fault)
            else:
                self.state = State.VERIFIED
                self._rest()

    def _latch(self, fault: str) -> None:
        self.state, self.cause = State.FAULT, fault
        self._rest()
        try:
            self.robot.stop()
        except OSError:
            self.cause = f"{fault}; and the robot does not answer"

    def _rest(self) -> None:
        if self.watchdog is not None:
            self.watchdog.disarm()

    def _record(self, reading: Reading, command: list[float], started: int, finished: int) -> None:
        state = self.state
        changed, self._last_state = state is not self._last_state, state
        if self.log is None:
            return
        event = f"{state.value} {self.cause}".strip() if changed else ""
        shield, monitor = self.shield, self.monitor
        rung = "local" if self.ladder is None else self.ladder.rung.value
        if rung != self._last_rung:
            self._last_rung, event = rung, event or f"computed {rung}"
        if shield.reasons:
            event = event or "shield"
        shadow = None if self._shadow is None else self._shadow.graph(monitor.values)[0].tolist()
        ended = self.clock()
        self.log.put(
            {
                "tick": self.ticks, "state": state.value, "cause": self.cause, "observation": monitor.values[0].copy(),
                "command": command, "shadow": shadow, "reasons": int(shield.reasons), "correction": shield.correction,
                "novelty": monitor.novelty, "age_s": monitor.oldest_s, "compute_us": (finished - started) // 1000,
                "tick_us": (ended - started) // 1000, "slack_us": (self._deadline_ns - ended + started) // 1000,
                "misses": self.misses, "follows": reading.follows, "rung": rung,
            },
            event,
        )  # fmt: skip

    def _note(self, record: dict[str, Any], event: str) -> None:
        if self.log is not None:
            self.log.put({"tick": self.ticks, "state": self.state.value, **record}, event)
