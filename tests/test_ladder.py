"""The ladder from the server down to the policy on board, on a link that misbehaves and a clock of the test."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from impaired import Impairment, SimulatedLink
from runtime_toys import Clock, Graph, Recurrent, Setup

from physai.deploy.bundle import Bundle, load_bundle
from physai.deploy.ladder import CLIMB, PROBE_EVERY, Ladder, Rung
from physai.deploy.runtime import State
from physai.errors import DeployError
from physai.policy import shipped_policy

SERVER, BOARD = (0.4, 0.0, 0.0), (0.1, 0.0, 0.0)


class Toy(Graph):
    """A policy that says one thing and has an empty memory."""

    def __init__(self, says: tuple[float, ...]) -> None:
        super().__init__(lambda: says)
        self.initial: dict[str, np.ndarray] = {}
        self.memory: dict[str, np.ndarray] = {}


@pytest.fixture(scope="module")
def reach() -> Bundle:
    return replace(load_bundle(shipped_policy("reach")), seconds=np.full(10, 1e-4), graph=Toy(SERVER))


class Rig:
    """A ladder at 20 Hz; commands of the server count up, so that an old one is known by its number."""

    def __init__(self, bundle: Bundle, impairment: Impairment, *, weak: bool = True, seed: int = 0) -> None:
        self.clock, self.impairment, self.count = Clock(), impairment, 0
        self.link = SimulatedLink(self.answer, bytes.fromhex(bundle.digest), impairment, self.clock, seed)
        fallback = replace(bundle, graph=Toy(BOARD)) if weak else None
        self.ladder = Ladder(bundle, self.link, fallback, clock=self.clock)
        self.period = bundle.interface.control.period_s
        self.expiry = bundle.interface.control.expiry_s
        self.born: dict[float, int] = {}  # command of the server -> when the observation for it was there
        self.trace: list[Rung] = []

    def answer(self, observation, memory):
        self.count += 1
        value = np.float32(self.count)
        self.born[float(value)] = self.clock()
        return np.array([[value, 0.0, 0.0]], np.float32), {}

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.sleep(self.period - self.clock.now % round(self.period * 1e9) * 1e-9)
            began = self.clock()
            command = float(self.ladder(np.zeros((1, self.ladder.bundle.spec.observation_size), np.float32))[0, 0])
            took = (self.clock() - began) * 1e-9
            assert took <= self.ladder.budget_s + 1e-9, "a tick waits no longer than the budget"
            rung = self.ladder.rung
            self.trace.append(rung)
            if rung is Rung.LOCAL:
                assert command == pytest.approx(0.1)
                continue
            age = (began - self.born[command]) * 1e-9
            assert age == 0.0 if rung is Rung.REMOTE else 0.0 < age < self.expiry
            assert self.ladder.valid_s <= self.expiry - age + 1e-9, "what is sent on expires when the command does"


def test_a_good_link_computes_everything(reach: Bundle) -> None:
    rig = Rig(reach, Impairment(delay_s=0.004))
    rig.tick(50)
    assert rig.ladder.counts == {Rung.REMOTE: 50, Rung.HELD: 0, Rung.LOCAL: 0}


def test_it_falls_at_once_and_climbs_back_after_good_answers_in_a_row(reach: Bundle) -> None:
    rig = Rig(reach, Impairment())
    rig.tick(5)
    rig.impairment.partition = True
    rig.tick(20)
    held = int(rig.expiry / rig.period)
    assert rig.trace[5:] == [Rung.HELD] * held + [Rung.LOCAL] * (20 - held)
    asked = rig.link.asked
    rig.tick(20)
    assert rig.link.asked - asked <= 20 / PROBE_EVERY + 1, "the radio rests between probes"
    rig.impairment.partition = False
    rig.tick(PROBE_EVERY + CLIMB + 5)
    back = rig.trace[45:]
    assert back.index(Rung.REMOTE) >= CLIMB
    assert set(back[back.index(Rung.REMOTE) :]) == {Rung.REMOTE}


def test_the_same_bundle_on_board_computes_rather_than_holds(reach: Bundle) -> None:
    rig, seen = Rig(reach, Impairment(), weak=False), np.zeros((1, reach.spec.observation_size), np.float32)
    rig.ladder(seen)
    assert rig.ladder.rung is Rung.REMOTE
    rig.impairment.partition = True
    rig.clock.sleep(rig.period)
    command = rig.ladder(seen)
    assert rig.ladder.rung is Rung.LOCAL
    assert command[0, 0] == pytest.approx(SERVER[0])


@pytest.mark.parametrize("seed", range(20))
def test_no_command_is_old_whatever_the_network_does(reach: Bundle, seed: int) -> None:
    """Each tick checks: the budget, who computed it, and its age; a seed changes the network every two seconds."""
    rng = np.random.default_rng(seed)
    rig = Rig(reach, Impairment(), seed=seed)
    for good in [True, False] * 8:
        rig.impairment.delay_s = float(rng.choice([0.0, 0.002] if good else [0.002, 0.006, 0.02, 0.2]))
        rig.impairment.jitter_s = float(rng.choice([0.0, 0.002] if good else [0.004, 0.1]))
        rig.impairment.loss = 0.0 if good else float(rng.choice([0.0, 0.3]))
        rig.impairment.duplicate = float(rng.choice([0.0, 0.5]))
        rig.impairment.partition = not good and bool(rng.random() < 0.3)
        rig.tick(40)
    assert len(set(rig.trace)) == 3, "all rungs were used"
    changes = [i for i in range(1, len(rig.trace)) if rig.trace[i] is not rig.trace[i - 1]]
    for at in changes:
        if rig.trace[at] is Rung.REMOTE:
            before = rig.trace[max(0, at - CLIMB) : at]
            assert Rung.REMOTE not in before, "it does not flap"


def test_answers_of_another_bundle_are_not_used(reach: Bundle) -> None:
    rig = Rig(reach, Impairment())
    rig.link.digest = bytes(32)
    rig.tick(40)
    assert set(rig.trace) == {Rung.LOCAL}


def test_answers_to_earlier_requests_are_not_used(reach: Bundle) -> None:
    """One period late each: with a sequence that is not compared, every tick would have one."""
    rig = Rig(reach, Impairment(delay_s=0.0251))
    rig.tick(100)
    assert rig.ladder.counts[Rung.REMOTE] == 0


def test_a_link_that_mixes_up_its_answers_is_not_believed(reach: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(reach, Impairment())
    take = rig.link.take
    monkeypatch.setattr(
        rig.link, "take", lambda sequence, wait_s: replace(take(sequence, wait_s), sequence=sequence - 1)
    )
    rig.tick(20)
    assert set(rig.trace) == {Rung.LOCAL}


def test_memory_travels_and_stays_whole_when_the_link_breaks(reach: Bundle) -> None:
    bundle = replace(reach, graph=Recurrent())
    clock, impairment = Clock(), Impairment()
    link = SimulatedLink(Recurrent().step, bytes.fromhex(bundle.digest), impairment, clock)
    ladder = Ladder(bundle, link, clock=clock)
    expected = Recurrent()
    rng = np.random.default_rng(0)
    for step in range(200):
        impairment.partition = step // 25 % 2 == 1
        clock.sleep(bundle.interface.control.period_s)
        observation = rng.uniform(200.0, 300.0, (1, bundle.spec.observation_size)).astype(np.float32)
        np.testing.assert_array_equal(ladder(observation), expected(observation))
    assert min(ladder.counts[Rung.REMOTE], ladder.counts[Rung.LOCAL]) > 20


def test_what_is_on_board_must_fit_beside_the_network(reach: Bundle) -> None:
    link = SimulatedLink(lambda *_: None, bytes(32), Impairment(), Clock())
    with pytest.raises(DeployError, match=r"20\.0 ms here and 12\.5 ms are left.*--fallback"):
        Ladder(replace(reach, seconds=np.full(10, 0.02)), link)
    with pytest.raises(DeployError, match="sees or commands something else"):
        Ladder(reach, link, load_bundle(shipped_policy("peg_insertion")))


def test_the_runtime_sends_what_the_ladder_says_with_its_own_expiry(reach: Bundle) -> None:
    setup = Setup(lambda: SERVER)
    impairment = Impairment()
    bundle = replace(setup.bundle, graph=Toy(SERVER))
    link = SimulatedLink(
        lambda *_: (np.array([SERVER], np.float32), {}), bytes.fromhex(bundle.digest), impairment, setup.clock
    )
    ladder = Ladder(bundle, link, replace(bundle, graph=Toy(BOARD)), clock=setup.clock)
    setup = Setup(lambda: SERVER, ladder=ladder)
    setup.clock.now = 10**12
    link.clock = ladder.clock = setup.clock
    setup.running()
    assert setup.runtime.state is State.RUNNING
    assert setup.robot.sent[-1][0] == pytest.approx(0.4)
    impairment.partition = True
    setup.tick(2)
    assert setup.robot.valid_s[-2:] == pytest.approx(
        [setup.control.expiry_s - k * setup.control.period_s for k in (1, 2)], abs=0.02
    )
    setup.tick(20)
    assert setup.robot.sent[-1][0] == pytest.approx(0.1)
    rungs = [record["rung"] for record, _ in setup.log.records]
    assert rungs[-1] == "local"
    assert "computed held" in [event for _, event in setup.log.records]
    with pytest.raises(DeployError, match="not swapped"):
        setup.runtime.swap(setup.bundle)
