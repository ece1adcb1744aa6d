"""The policy's contract: slices, the map from [-1, 1] to commands and back, limits, JSON."""

import json

import numpy as np
import pytest

from physai.spec import ActionMap, ActionSpec, ObservationSpec, PolicySpec, limits


@pytest.fixture
def spec():
    return PolicySpec(
        task="physai/Toy-v0",
        control_hz=20.0,
        observations=(
            ObservationSpec("position", (3,), "m", (-1.0,) * 3, (1.0,) * 3, frame="world", noise_std=0.001),
            ObservationSpec("image", (2, 2), "1", (0.0,) * 4, (1.0,) * 4),
        ),
        actions=(
            ActionSpec("drive", ("speed", "yaw_rate"), "m/s, rad/s", (0.0, -2.0), (1.0, 2.0), rate_limit=(2.0, 10.0)),
            ActionSpec("gripper", ("width",), "m", (0.0,), (0.08,)),
        ),
    )


def test_slices_and_sizes(spec):
    assert spec.observation_size == 7
    assert spec.observation_slices == {"position": slice(0, 3), "image": slice(3, 7)}
    assert spec.action_slices == {"drive": slice(0, 2), "gripper": slice(2, 3)}


def test_action_map_scales_clips_and_limits_the_rate(spec):
    to_command = ActionMap(spec)
    # speed: 0.5 at action 0, limited to 2 / 20 = 0.1 a step from rest; width: 0.06 at 0.5
    np.testing.assert_allclose(to_command([0.0, 9.0, 0.5]), [0.1, 0.5, 0.06], atol=1e-6)
    np.testing.assert_allclose(to_command([0.0, 9.0, -9.0]), [0.2, 1.0, 0.0], atol=1e-6)
    to_command.reset()
    np.testing.assert_allclose(to_command([-1.0, -1.0, 1.0]), [0.0, -0.5, 0.08], atol=1e-6)


def test_to_action_inverts_the_map(spec):
    free = PolicySpec("x", 20.0, spec.observations, spec.actions[1:])
    for action in (-1.0, -0.3, 0.7, 1.0):
        np.testing.assert_allclose(free.to_action(ActionMap(free)([action])), [action], atol=1e-6)


def test_json_round_trip(spec):
    assert PolicySpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_limits_spread_or_match():
    assert limits(2, 3) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="2 limits given for 3 elements"):
        limits((1.0, 2.0), 3)


def test_a_command_without_limits_passes_unchanged():
    endless = (float("inf"),)
    action = ActionSpec("force", ("f",), "N", (-np.inf,), endless, policy_low=(-np.inf,), policy_high=endless)
    free = PolicySpec("x", 20.0, (), (action,))
    np.testing.assert_array_equal(ActionMap(free)([123.5]), [123.5])
    np.testing.assert_array_equal(free.to_action([123.5]), [123.5])
