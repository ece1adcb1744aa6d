"""What learners tell each other arrives as it was, and nothing that arrives is unpickled."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
import toys
from ranks import Ranks
from test_learners import collective, run_together

from physai.errors import ClusterError, EpisodeError
from physai.train.collective import Collective, _error
from physai.train.fragment import Episode
from physai.train.normalizer import Moments
from physai.train.outcome import LearningError, StopAskedError
from physai.train.quarantine import Crash
from physai.train.summary import Summary, Told, meet, pack, unpack


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    with Ranks(2, tmp_path_factory.mktemp("ranks")) as ranks:
        yield ranks


def told(groups: int = 2) -> Told:
    rng = np.random.default_rng(groups)

    def summary(group: int) -> Summary:
        seen = Moments(rng.standard_normal(3), rng.random(3), 32)
        returns = Moments(np.float64(rng.random()), np.float64(rng.random()), 32)
        episodes = tuple(
            Episode(7, 1.0, 12, float(rng.random()), np.bool_(True) if n else None, {"near": np.float32(0.1)}, {})  # type: ignore[arg-type]
            for n in range(group + 1)
        )
        return Summary(group, 32, seen, returns, episodes, 3, True, 0.1, rng.random())

    crash = Crash(5, 2, "it took down its process", "sample")
    return Told([summary(group) for group in range(groups)], [crash], 1, 2, 3)


@pytest.mark.parametrize("groups", [0, 1, 3])
def test_what_is_told_of_fragments_comes_back_as_it_was(groups):
    was = told(groups)
    is_ = unpack(pack(was))
    assert (is_.crashes, is_.dropped, is_.restarts, is_.redone) == (was.crashes, 1, 2, 3)
    assert len(is_.summaries) == groups
    for left, right in zip(was.summaries, is_.summaries, strict=True):
        for name in ("group", "steps", "rebuilt", "reproducible", "physics_s", "seconds", "episodes"):
            assert getattr(left, name) == getattr(right, name), name
        for name in ("observation_moments", "return_moments"):
            for part in ("mean", "var", "count"):
                before, after = (np.asarray(getattr(getattr(side, name), part)) for side in (left, right))
                assert before.dtype == after.dtype and before.tobytes() == after.tobytes()
    assert meet(Collective(), was) == [was]


class Harm:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_not_opened(tmp_path):
    with pytest.raises(ValueError, match="pickle"):
        unpack(pickle.dumps(Harm(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def say(*words: bytes) -> list:
    together = collective()
    return [together.gather(words[together.rank]), together.report(words[together.rank])]


@pytest.mark.parametrize("words", [(b"", b""), (b"", b"second"), (b"first", b""), (b"a", b"longer")])
def test_bytes_of_any_length_arrive_in_the_order_of_the_ranks(two, words):
    first, second = two(say, *words)
    assert first == [list(words), list(words)]
    assert second == [list(words), []]


ENDS = [
    (None, ClusterError("no actor is left")),
    (EpisodeError("it fell", 3, 4), None),
    (LearningError("the loss became nan"), StopAskedError()),
]


def end(number: int) -> None:
    together = collective()
    error = ENDS[number][together.rank]
    if error is None:
        together.gather(b"something")
    else:
        together.end(error)
        raise error


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (0, [("ClusterError", "no actor is left")] * 2),
        (1, [("EpisodeError", "it fell")] * 2),
        (2, [("LearningError", "the loss became nan")] * 2),
    ],
)
def test_an_end_is_told_with_its_kind_and_its_words(two, number, said):
    assert two.failures(end, number) == said


def test_an_end_that_nobody_knows_is_told_in_its_words():
    assert str(_error(b'["UnknownError", "it is over"]')) == "it is over"
    assert isinstance(_error(b'["EpisodeError", "it fell", 3, 4]'), EpisodeError)


def train_without_pickle(values: dict) -> dict:
    """Trains where PyTorch's own way to tell objects does not work."""
    from torch.distributed import distributed_c10d

    def refuse(*_, **__):
        raise AssertionError("an object was pickled")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_object_to_tensor", "_tensor_to_object"):
            patch.setattr(distributed_c10d, name, refuse)
        with pytest.raises(AssertionError, match="pickled"):
            dist.all_gather_object([None, None], 1)
        return run_together(values)


def test_a_run_of_two_learners_pickles_nothing(two, tmp_path):
    first, second = two(train_without_pickle, toys.small(storage=str(tmp_path)))
    assert first["iteration"] == 5 and first["everything"] == second["everything"]
