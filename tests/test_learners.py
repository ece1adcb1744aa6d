"""Several learners are one: the same parameters as of a single one, the same bits in all, and they end together."""

from __future__ import annotations

import os

import numpy as np
import pytest
import toys
from ranks import Ranks
from test_checkpoint import everything

from physai.config import RunConfig
from physai.errors import StorageError
from physai.train import seeding
from physai.train.algorithms.ppo import build
from physai.train.behaviour import Package
from physai.train.checkpoint import CheckpointStore, unpack_state
from physai.train.collective import Collective
from physai.train.driver import inspect
from physai.train.normalizer import RunningNormalizer
from physai.train.rollout import Job, RolloutWorker, digest

UPDATES = 4


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    with Ranks(2, tmp_path_factory.mktemp("ranks")) as ranks:
        yield ranks


def collective() -> Collective:
    """The one of this process: a process group is made once."""
    global _collective
    if _collective is None:
        _collective = Collective.joined()
    _collective._over = False
    return _collective


_collective: Collective | None = None


# ---- one update after the other --------------------------------------------------------------------


def fragments_of(config: RunConfig, mine: range) -> list:
    """The first fragments of some groups, with the policy and statistics of a run that just begins."""
    interface = inspect(config)
    spaces = interface.observation_space, interface.action_space
    normalizer = RunningNormalizer(config.normalizer, config.algorithm.gamma, spaces[0].shape)
    package = Package(1, "test", build(config, *spaces).weights(), normalizer.freeze())
    worker = RolloutWorker(config)
    return [worker.sample(package, Job(group, 0, None)) for group in mine]


def learn_from(values: dict, together: Collective) -> dict:
    """Learns several times from the same fragments, of which each rank has its own."""
    config = RunConfig.model_validate(values)
    interface = inspect(config)
    model = build(config, interface.observation_space, interface.action_space, collective=together)
    model.fragments = fragments_of(config, together.shard(config.rollout.groups))
    counts = []
    for n in range(UPDATES):
        seeding.seed_learner(config.seed, seeding.LEARNING, n)
        model.collect_rollouts(model.env, model._init_callback(None), model.rollout_buffer, model.n_steps)
        model.train()
        counts.append(int(model.policy.optimizer.state_dict()["state"][0]["step"]))
    gradients = [p.grad.numpy().copy() for p in model.policy.parameters()]
    return {
        "weights": model.weights(), "gradients": gradients, "steps": model.num_timesteps, "counts": counts,
        "log": dict(model.logger.name_to_value), "rows": model.rollout_buffer.returns.size,
    }  # fmt: skip


def learn_together(values: dict) -> dict:
    return learn_from(values, collective())


def assert_one(ranks: list[dict], alone: dict, *, exact: float = 1e-6) -> None:
    """Ranks have the same bits, and the parameters of one learner that had all rows."""
    first, second = ranks
    for name, value in first["weights"].items():
        assert value.tobytes() == second["weights"][name].tobytes(), name
        np.testing.assert_allclose(value, alone["weights"][name], atol=exact, rtol=0, err_msg=name)
    for left, right, one in zip(first["gradients"], second["gradients"], alone["gradients"], strict=True):
        assert left.tobytes() == right.tobytes()
        np.testing.assert_allclose(left, one, atol=1e-5, rtol=1e-3)
    assert first["counts"] == second["counts"] == alone["counts"]
    assert first["steps"] == second["steps"] == alone["steps"]
    assert first["log"] == second["log"] and first["log"].keys() == alone["log"].keys()
    for name, value in alone["log"].items():
        assert first["log"][name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


def quick(task: str = "toys:Target-v0", **changes) -> dict:
    """Four groups, minibatches that do not fall together with them."""
    changes["algorithm"] = {"epochs": 3, "batch_size": 32, "entropy": 0.01, **changes.get("algorithm", {})}
    return toys.small(task, **{"rollout": {"groups": 4, "envs_per_group": 2, "steps": 16}, **changes})


@pytest.mark.parametrize("task", ["toys:Target-v0", "CartPole-v1"])
def test_two_learners_with_half_of_the_batch_each_equal_one_with_the_whole(two, task):
    values = quick(task)
    alone = learn_from(values, Collective())
    ranks = two(learn_together, values)
    assert_one(ranks, alone)
    assert [rank["rows"] for rank in ranks] == [alone["rows"] // 2] * 2
    before = build(RunConfig.model_validate(values), *spaces(values)).weights()
    assert max(np.abs(before[name] - value).max() for name, value in alone["weights"].items()) > 1e-3  # it did learn


def spaces(values):
    interface = inspect(RunConfig.model_validate(values))
    return interface.observation_space, interface.action_space


def test_all_learners_stop_at_the_same_minibatch_when_the_policy_has_moved_too_far(two):
    values = quick(algorithm={"target_kl": 1e-3, "learning_rate": 3e-3})
    alone = learn_from(values, Collective())
    unlimited = learn_from(quick(algorithm={"learning_rate": 3e-3}), Collective())
    assert alone["counts"][0] < unlimited["counts"][0]  # it stops in the first update already
    assert_one(two(learn_together, values), alone)


def test_a_minibatch_without_rows_of_a_rank_counts_for_the_other(two):
    shape = {"groups": 2, "envs_per_group": 1, "steps": 4}
    values = quick(rollout=shape, algorithm={"batch_size": 2, "epochs": 4})
    config = RunConfig.model_validate(values)
    seeding.seed_learner(config.seed, seeding.LEARNING, 0)
    drawn = np.random.permutation(config.steps_per_iteration).reshape(-1, 2)
    assert any((rows < 4).all() for rows in drawn)  # a minibatch of the first rank alone
    assert_one(two(learn_together, values), learn_from(values, Collective()))


# ---- whole runs ------------------------------------------------------------------------------------


def run_together(values: dict, stop_on: str = "", stop_rank: int = 0) -> dict:
    """Trains; on one rank, somebody asks to stop as soon as the run says `stop_on`."""
    together = collective()
    toys.stop_on = stop_on if together.rank == stop_rank else ""
    learner = toys.learn(values, collective=together)
    own = together.shard(learner.config.rollout.groups)
    return {
        "groups": {group: digest(learner.groups[group]) for group in own if group in learner.groups},
        "everything": everything(learner), "weights": learner.model.weights(), "stopped": learner.outcome.stopped,
        "iteration": learner.iteration, "moments": learner.normalizer.observation_moments.mean, "best": learner.best,
        "episodes": list(learner.model.ep_info_buffer), "lines": learner.board.lines,
    }  # fmt: skip


def test_a_run_of_two_learners_is_that_of_one(two, tmp_path):
    alone = toys.learn(toys.small(storage=str(tmp_path / "alone")))
    first, second = two(run_together, toys.small(storage=str(tmp_path / "two")))
    assert first["everything"] == second["everything"]
    assert first["episodes"] == second["episodes"]
    for name, value in alone.model.weights().items():
        np.testing.assert_allclose(first["weights"][name], value, atol=1e-6, rtol=0)
    np.testing.assert_allclose(first["moments"], alone.normalizer.observation_moments.mean, rtol=1e-6)
    tables = [(tmp_path / where / "target/run/progress.csv").read_text().splitlines() for where in ("alone", "two")]
    assert tables[0][0] == tables[1][0] and len(tables[0]) == len(tables[1])
    kept = [CheckpointStore(tmp_path / where / "target/run/checkpoints", 3).names() for where in ("alone", "two")]
    assert kept[0] == kept[1]


def test_a_checkpoint_holds_the_groups_of_all_learners_as_they_stand(two, tmp_path):
    first, second = two(run_together, toys.small(storage=str(tmp_path)))
    newest = CheckpointStore(tmp_path / "target/run/checkpoints", 3).newest()
    _, groups = unpack_state(newest.files["state.npz"])
    assert [*first["groups"], *second["groups"]] == [0, 1] == list(groups)
    assert {group: digest(state) for group, state in groups.items()} == {**first["groups"], **second["groups"]}


def test_statistics_have_the_same_bits_for_any_number_of_learners(two, tmp_path):
    """As long as the policy is the same: nothing is learnt from the first iteration."""
    values = toys.small(storage=str(tmp_path / "two"), stop={"steps": 64})
    ranks = two(run_together, values)
    alone = toys.learn({**values, "storage": str(tmp_path / "alone")})
    assert {rank["moments"].tobytes() for rank in ranks} == {alone.normalizer.observation_moments.mean.tobytes()}


def test_cloning_is_done_once_and_all_learners_begin_with_it(two, tmp_path):
    values = toys.small(
        storage=str(tmp_path / "two"), warm_start={"rounds": 1, "episodes": 4, "epochs": 2},
        algorithm={"value_warmup_iterations": 2},
    )  # fmt: skip
    first, second = two(run_together, values)
    assert first["everything"] == second["everything"]
    assert sum("warm start" in line for line in first["lines"]) == 1
    assert not any("warm start" in line for line in second["lines"])
    alone = toys.learn({**values, "storage": str(tmp_path / "alone")})
    for name, value in alone.model.weights().items():
        np.testing.assert_allclose(first["weights"][name], value, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("when", ["iteration 3: collecting", "iteration 2: measuring"])
def test_all_learners_stop_in_the_same_iteration_whoever_hears_it(two, tmp_path, rank, when):
    values = toys.small(storage=str(tmp_path))
    whole = two(run_together, toys.small(storage=str(tmp_path / "whole")))
    stopped = two(run_together, values, when, rank)
    heard = rank == 0 or "collecting" in when  # only the first rank measures
    assert [s["stopped"] for s in stopped] == [heard] * 2
    assert {s["iteration"] for s in stopped} == ({2} if heard else {5})
    continued = two(run_together, values)
    assert continued[0]["everything"] == continued[1]["everything"] == whole[0]["everything"]


def test_a_run_goes_on_with_another_number_of_learners(two, tmp_path):
    values = toys.small(storage=str(tmp_path / "changes"))
    toys.learn(values, stop_after=2)
    first, second = two(run_together, values)
    assert first["everything"] == second["everything"] and not first["stopped"]
    alone = toys.learn(toys.small(storage=str(tmp_path / "alone")))
    for name, value in alone.model.weights().items():
        np.testing.assert_allclose(first["weights"][name], value, atol=1e-6, rtol=0)
    more = toys.small(storage=str(tmp_path / "changes"), stop={"steps": 64 * 7})
    assert toys.learn(more).iteration == 7


def poison_one_group(values: dict) -> None:
    """Trains where an environment of the second group gives what is not finite."""
    from physai.train import rollout

    real = rollout.Group._check_observations

    def check(self):
        if self.index == 1 and self._running[0].episode == 3:
            self._raw[0, 0] = np.nan
        real(self)

    rollout.Group._check_observations = check
    try:
        toys.learn(values, collective=collective())
    finally:
        rollout.Group._check_observations = real


def test_what_fails_on_one_rank_ends_the_run_on_all_with_the_same_words(two, tmp_path):
    failures = two.failures(poison_one_group, toys.small(storage=str(tmp_path)))
    assert failures[0] == failures[1]
    assert failures[0][0] == "EpisodeError" and "group 1, environment 0" in failures[0][1]


def fill_the_disk(values: dict) -> None:
    """Trains where the second checkpoint cannot be written."""
    real = CheckpointStore.save

    def save(self, iteration, files):
        if iteration == 2:
            raise StorageError("no space is left")
        return real(self, iteration, files)

    CheckpointStore.save = save
    try:
        toys.learn(values, collective=collective())
    finally:
        CheckpointStore.save = real


def test_a_full_disk_at_the_first_rank_ends_the_run_on_all(two, tmp_path):
    failures = two.failures(fill_the_disk, toys.small(storage=str(tmp_path), checkpoint={"patience_s": 0.0}))
    assert {name for name, _ in failures} == {"StorageError"}
    assert all(told.startswith("no space is left; checkpoint 000002") for _, told in failures)


def test_a_loss_that_is_not_a_number_ends_the_run_on_all(two, tmp_path):
    values = toys.small("toys:Explosive-v0", storage=str(tmp_path), normalizer={"rewards": False})
    failures = two.failures(run_together, values)
    assert {name for name, _ in failures} == {"LearningError"}
    assert "checkpoint 000001 is from before" in failures[0][1]


def die_at_the_third(values: dict) -> None:
    """Trains; the second rank ends without a word in the middle of an update."""
    from physai.train.algorithms.ppo import FleetPPO

    together, real = collective(), FleetPPO.train

    def train(self):
        if together.rank == 1 and self.num_timesteps >= 3 * 64:
            os._exit(1)
        real(self)

    FleetPPO.train = train
    toys.learn(values, collective=together)


def test_a_rank_that_dies_does_not_leave_the_other_waiting(tmp_path):
    with Ranks(2, tmp_path) as ranks:
        ranks.tell(die_at_the_third, toys.small(storage=str(tmp_path)))
        fine, (_, said, _) = ranks.hear(0)
    assert (not fine and "closed by peer" in said.lower()) or "reset" in said.lower(), said


def test_groups_that_cannot_be_shared_out_are_refused_with_what_would_fit():
    def said(workers, groups=4):
        with pytest.raises(ValueError) as raised:
            RunConfig.model_validate(toys.small(rollout={"groups": groups}, learner={"workers": workers}))
        return str(raised.value)

    assert "rollout.groups 4 cannot be shared out equally with learner.workers 3" in said(3)
    assert "give rollout.groups=6, or learner.workers=2" in said(3)
    assert "give rollout.groups=6, or learner.workers=2" in said((1, 3))
    assert "goes from more to fewer" in said((3, 2))
    assert "greater than or equal to 1" in said((0, 2))
    elastic = RunConfig.model_validate(toys.small(rollout={"groups": 6}, learner={"workers": [1, 3]}))
    assert elastic.learner.permitted == range(1, 4)
