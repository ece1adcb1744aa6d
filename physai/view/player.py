"""Episodes in real time, as somebody who watches wants them: what a window and a live page have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence, Set
from contextlib import ExitStack
from pathlib import Path

from physai.errors import ConfigError, PhysaiError
from physai.evaluate.episodes import Actor
from physai.evaluate.evaluation import first_seed
from physai.evaluate.progress import Meter
from physai.policy import Policy, load_policy
from physai.view.clock import Clock
from physai.view.follow import Follower
from physai.view.human import Human
from physai.view.stage import Stage, called, cast
from physai_envs.env import TEST_SEED_START

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
REST_S = 1.5  # after an episode, so that one sees how it ended
NICENESS = 5  # of somebody who looks at a training: the training goes first


def _nothing() -> None: ...


class Player:
    """Plays the episodes of a stage one after the other, in real time.

    Args:
        stage: one of our tasks, and who acts.
        others: further policies, between which one can switch.
        follower: where newer policies come from.
        on_begin, on_step: called after each reset, and after each control step.

    Attributes:
        clock: real time, which can be stopped, slow and fast.
        hands: of a person, who acts while `human` is true.
        said: why the last wish could not be granted, in a sentence.
        acting: which of `actors` acts.
        chosen: which of them was to act last, even if it could not.
    """

    def __init__(
        self, stage: Stage, *, others: Sequence[str | Path] = (), follower: Follower | None = None,
        on_begin: Callable[[], None] = _nothing, on_step: Callable[[], None] = _nothing,
    ) -> None:  # fmt: skip
        self.stage, self.follower = stage, follower
        self.clock, self.hands, self.human, self.said = Clock(stage.spec.control_hz), Human(stage.spec), False, ""
        self._on_begin, self._on_step = on_begin, on_step
        self._actors: list[Actor | str | Path] = [stage.actor, *others, *stage.understudies()]
        self.chosen, self.acting, self._rest_until = 0, 0, 0.0
        if follower is not None:
            stage.words = self._of_checkpoint(stage.actor)

    @property
    def actors(self) -> list[str]:
        """What those who can act are called."""
        names = [str(actor) if isinstance(actor, (str, Path)) else called(actor) for actor in self._actors]
        names[self.acting] = self.stage.words
        return names

    def begin(self, seed: int) -> None:
        """Starts an episode; by the newest checkpoint, if a training is followed."""
        fresh = None if self.follower is None else self.follower.fresh()
        if fresh is not None:
            self._actors[0] = fresh
            if self.acting == 0:
                self.stage.take_over(fresh, self._of_checkpoint(fresh))
        self.stage.reset(seed)
        self.hands.reset()
        self.clock.restart()
        self._on_begin()

    def turn(self, down: Set[int], last: int | None = None) -> bool:
        """Makes the control steps that are due, with nothing between them, and goes on to the next episode.

        Args:
            down: keys of the person who acts.
            last: seed of the last episode.

        Returns:
            Whether there is more to come.
        """
        for _ in range(self.clock.due()):
            self.step(down)
            self.clock.made()
        if self.stage.ended and not self.clock.paused and time.perf_counter() > self._rest_until:
            if self.stage.seed == last:
                return False
            self.begin(self.stage.seed + 1)
        return True

    def step(self, down: Set[int]) -> None:
        """Makes one control step, unless the episode is over."""
        if self.stage.ended:
            return
        self.stage.step(self.hands.action(down) if self.human else None)
        if self.stage.ended:
            self._rest_until = time.perf_counter() + REST_S
        self._on_step()

    def pause(self) -> None:
        """Stops the clock, or lets it go on."""
        if self.clock.paused:
            self.clock.resume()
        else:
            self.clock.pause()

    def single_step(self) -> None:
        """Stops the clock, and makes one control step."""
        self.clock.pause()
        self.step(set())

    def again(self) -> None:
        """Starts this episode again."""
        self.begin(self.stage.seed)

    def next(self) -> None:
        """Starts the next episode."""
        self.begin(self.stage.seed + 1)

    def back(self) -> None:
        """Starts the episode before."""
        self.begin(max(self.stage.seed - 1, TEST_SEED_START))

    def go_to(self, seed: int) -> None:
        """Starts the first episode of an evaluation, or one by its own seed; says why where there is none."""
        try:
            self.begin(first_seed(seed, 1))
        except ConfigError as problem:
            self.said = str(problem)

    def take_over(self) -> None:
        """Lets the person act, or gives back."""
        self.human = not self.human
        self.hands.reset()

    def choose(self, index: int) -> None:
        """Lets another policy act from a new start of this episode; says why where it cannot be loaded."""
        self.chosen = index % len(self._actors)
        actor = self._actors[self.chosen]
        try:
            if isinstance(actor, (str, Path)):
                actor = self._actors[self.chosen] = load_policy(actor, self.stage.task)
            self.stage.take_over(actor, self._of_checkpoint(actor) if self.chosen == 0 else "")
        except PhysaiError as problem:
            self.said = str(problem)
            return
        self.acting, self.human = self.chosen, False
        self.again()

    def _of_checkpoint(self, policy: Actor) -> str:
        return called(policy) if self.follower is None else f"{called(policy)}, checkpoint {int(self.follower.name)}"


def cast_for(
    source: str | Path, task: str | None, follow: bool, open_things: ExitStack, meter: Meter
) -> tuple[tuple[str, Policy | None], Follower | None]:
    """Returns what `stage.cast` returns, and where newer policies come from if a training is followed.

    Args:
        source: as `Stage` takes it.
        task: as `Stage` takes it.
        follow: `source` is a run that goes on; then this process gives way to it from now on.
        open_things: ends the looking for newer ones.
        meter: says what is waited for.

    Raises:
        PhysaiError: whatever `cast` and `Follower` raise.
    """
    if not follow:
        return cast(source, task), None
    os.nice(NICENESS)
    meter.advance(0, "waiting for a checkpoint")
    follower = open_things.enter_context(Follower(Path(source)))
    policy = follower.first()
    return (policy.task, policy), follower
