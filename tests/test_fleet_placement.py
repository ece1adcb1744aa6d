"""Where actors go: on every node as many as it has cores, and never where a learner's core is."""

from __future__ import annotations

import pytest
import toys

from physai.config import RunConfig
from physai.train.placement import Node, NoticeBoard, missing, room


def added(rooms: dict[str, int], there: dict[str, int], wanted: int) -> dict[str, int]:
    names = missing(rooms, there, wanted)
    return {name: names.count(name) for name in sorted(set(names))}


def test_each_node_gets_as_many_as_it_has_cores():
    assert added({"small": 2, "large": 16, "head": 0}, {}, 100) == {"small": 2, "large": 16}


def test_fewer_than_there_are_cores_are_spread_in_proportion():
    assert added({"a": 4, "b": 4, "c": 4}, {}, 3) == {"a": 1, "b": 1, "c": 1}
    assert added({"small": 2, "large": 6}, {}, 4) == {"small": 1, "large": 3}


def test_what_is_lost_with_one_node_is_started_on_the_others_and_nobody_moves():
    assert added({"a": 4, "b": 2}, {"a": 2}, 4) == {"a": 1, "b": 1}
    assert added({"a": 4}, {"a": 2, "lost": 2}, 4) == {"a": 2}
    assert added({"a": 4, "new": 4}, {"a": 4}, 4) == {}


@pytest.mark.parametrize(
    ("cores", "gpus", "workers", "left"), [(8, 0, 1, 8), (8, 2, 1, 6), (8, 2, 0, 8), (4, 8, 1, 1), (0, 0, 1, 0)]
)
def test_learners_keep_a_core_for_each_gpu(cores, gpus, workers, left):
    config = RunConfig.model_validate(toys.small(learner={"workers": workers}))
    assert room(Node("id", "name", cores, gpus), config) == left


def test_the_notice_board_repeats_nothing_and_has_nothing_after_a_restart():
    board = NoticeBoard()
    assert board.number() == 0 and board.read(0) is None and board.read(3) is None
    board.post(3, {"a": "handle"})
    assert board.number() == 3 and board.read(2) == (3, {"a": "handle"}) and board.read(3) is None
