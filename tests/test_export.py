"""An exported policy is the policy: the same commands over whole episodes, or no bundle at all."""

from __future__ import annotations

import contextlib
import itertools
import json
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from evaluation_policies import (
    ALGORITHMS,
    flip_a_byte,
    one_sentence,
    predict,
    save_bundle,
    save_run,
    save_zip,
    some_observations,
    untrained,
)
from evaluation_toys import CHOICE, OFFSET, PICTURE, SEEING, SPEC
from sb3_contrib import RecurrentPPO

from physai.deploy.bundle import load_bundle
from physai.deploy.files import MANIFEST, read_folder
from physai.errors import CheckpointError, ExportError
from physai.export import export, network, parity
from physai.policy import load_policy
from physai.spec import ActionMap, PolicySpec
from physai_envs import registry


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_commands_are_what_the_simulation_makes_of_the_policys_actions(tmp_path: Path, algorithm: str) -> None:
    bundle = load_bundle(save_bundle(tmp_path / "bundle", algorithm))
    to_command = ActionMap(SPEC)
    for observation in some_observations():
        expected = to_command(predict(algorithm, observation))
        np.testing.assert_allclose(bundle.act(observation), expected, atol=1.5e-5)  # 1e-5 of 1.5 m/s
    assert bundle.manifest["model"]["algorithm"] == algorithm


def test_a_bundle_is_evaluated_as_the_policy_that_it_was(tmp_path: Path) -> None:
    bundle = load_policy(save_bundle(tmp_path / "bundle"))
    observations = some_observations()
    expected = np.array([predict("ppo", row) for row in observations])
    np.testing.assert_allclose(bundle.act(observations), expected, atol=1e-5)
    assert bundle.task == "evaluation_toys:EvaluationToy-v0", "with the module, so that it can be made again"


def test_choices_are_exported_as_indices(tmp_path: Path) -> None:
    out = export(save_zip(tmp_path / "model", "ppo", CHOICE), tmp_path / "bundle", task=CHOICE)
    bundle = load_bundle(out)
    observations = np.random.default_rng(0).normal(0, 0.5, (50, 4)).astype(np.float32)
    chosen = [bundle.act(row) for row in observations]
    assert [int(c[0]) for c in chosen] == [int(predict("ppo", row, CHOICE)[0]) for row in observations]
    assert chosen[0].dtype == np.int64
    assert np.array_equal(load_policy(out).act(observations), chosen)


@pytest.mark.parametrize("algorithm", ["ppo", "recurrent_ppo", "sac", "td3", "tqc"])
def test_a_policy_that_sees_pictures_computes_what_it_did(tmp_path: Path, algorithm: str) -> None:
    """A CNN of bytes: pixels go into the graph as they are, flat."""
    env = registry.make(SEEING).unwrapped
    kind, options = {**ALGORITHMS, "recurrent_ppo": (RecurrentPPO, {"n_steps": 16, "batch_size": 16})}[algorithm]
    policy = "CnnLstmPolicy" if algorithm == "recurrent_ppo" else "CnnPolicy"
    model = kind(policy, env, seed=0, device="cpu", **{**options, "policy_kwargs": {"net_arch": [16]}})
    if "ppo" in algorithm:
        with torch.no_grad():
            model.policy.action_net.weight.mul_(100.0)
    model.save(tmp_path / "model.zip")
    bundle = load_bundle(export(tmp_path / "model.zip", tmp_path / "bundle", task=SEEING))
    assert bundle.spec.observations[0].shape == PICTURE
    assert 0.0 < bundle.manifest["parity"]["max_abs_error"] <= 1e-5
    assert np.ptp(bundle.golden[0][1], axis=0).max() > 1e-3, "it acts by what it sees"
    state, seen = None, env.reset(seed=5)[0]
    for _ in range(10):
        action, state = model.predict(seen[None], state, deterministic=True)
        np.testing.assert_allclose(bundle.act(seen.ravel()), action[0], atol=1e-5)
        seen = env.step(action[0])[0]


def test_the_manifest_says_where_the_policy_came_from(tmp_path: Path) -> None:
    run = save_run(tmp_path / "toy" / "first")
    manifest = load_bundle(export(run, tmp_path / "bundle")).manifest
    assert manifest["lineage"]["run"] == "toy/first"
    assert manifest["lineage"]["checkpoint"] == "000030"
    assert manifest["lineage"]["checkpoint_sha256"] == load_policy(run).digest
    assert manifest["parity"]["episodes"] >= 5
    assert manifest["parity"]["steps"] == 12 * manifest["parity"]["episodes"]
    assert 0.0 < manifest["parity"]["max_abs_error"] <= manifest["parity"]["tolerance"] == 1e-5
    assert manifest["golden"]["seeds"] == [1_000_000, 1_000_001]
    assert str(tmp_path) not in json.dumps(manifest)


def test_golden_episodes_are_closed_loop(tmp_path: Path) -> None:
    """Replays the toy's own rule: each state follows from the recorded command before."""
    with np.load(save_bundle(tmp_path / "bundle") / "golden.npz", allow_pickle=False) as golden:
        seen, commands = golden["observations_0"], golden["commands_0"]
    follows = OFFSET + 0.9 * (seen[:-1] - OFFSET) + 0.01 * SPEC.to_action(commands[:-1])
    np.testing.assert_allclose(seen[1:], follows, atol=1e-4)  # float32 at 300


def test_the_same_policy_gives_the_same_bytes(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    first, second = export(run, tmp_path / "one"), export(run, tmp_path / "other" / "two")
    assert read_folder(first) == read_folder(second)


def test_the_graph_is_plain(tmp_path: Path) -> None:
    data = (save_bundle(tmp_path / "bundle") / "policy.onnx").read_bytes()
    model = onnx.load_model_from_string(data)
    assert [(domain.domain, domain.version) for domain in model.opset_import] == [("", 18)]
    assert not model.functions
    for word in (b".py", b"site-packages", b"Traceback"):
        assert word not in data, "traces of the machine that exported it"


def pickles(data: bytes) -> int:
    """Counts what could be unpickled anywhere in the data."""
    found = 0
    for protocol in range(2, 6):
        at = data.find(bytes((0x80, protocol)))
        while at >= 0:
            with contextlib.suppress(ValueError, IndexError, UnicodeDecodeError, OverflowError):
                found += len(list(pickletools.genops(data[at:]))) > 2
            at = data.find(bytes((0x80, protocol)), at + 1)
    return found


def test_a_bundle_holds_no_pickle(tmp_path: Path) -> None:
    bundle = save_bundle(tmp_path / "bundle")
    contents = read_folder(bundle)
    assert {"policy.onnx", "golden.npz", "manifest.json", "safety.json"} < contents.keys()
    assert not any(pickles(data) for data in contents.values())
    save_zip(tmp_path / "model")
    assert pickles((tmp_path / "model" / "vecnormalize.pkl").read_bytes()), "the search finds what there is"


def test_a_network_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = save_run(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    forward = network.CommandNetwork.forward

    def off_in_the_last_element(self: Any, observation: torch.Tensor) -> torch.Tensor:
        return forward(self, observation) * torch.tensor([1.0, 1.0, 1.001])

    monkeypatch.setattr(network.CommandNetwork, "forward", off_in_the_last_element)
    with pytest.raises(ExportError, match=r"differs from .*: turn 'yaw' by") as failure:
        export(run, tmp_path / "bundle")
    assert one_sentence(str(failure.value))
    assert sorted(tmp_path.rglob("*")) == before


def test_the_first_step_that_differs_is_named_also_where_it_is_no_number(tmp_path: Path) -> None:
    policy = load_policy(save_run(tmp_path / "run"))
    lockstep = parity.Lockstep((save_bundle(tmp_path / "bundle") / "policy.onnx").read_bytes(), policy)  # type: ignore[arg-type]
    graph, steps = lockstep._graph, itertools.count()
    spoilt = np.array([[0.0, np.nan, 0.0]], np.float32)
    lockstep._graph = lambda seen: graph(seen) + (spoilt if next(steps) >= 3 else 0.0)  # type: ignore[assignment,misc]
    for _ in range(6):
        lockstep.act(some_observations(1))
    with pytest.raises(ExportError, match=r"velocity 'y' by nan of half its range, first in step 3 of"):
        parity._judge(lockstep, policy, 1_000_000)  # type: ignore[arg-type]


def test_a_large_offset_costs_no_digits() -> None:
    """A position of 300 m that varies by 1 cm: a mean in one float32 would be off by 3e-5 m, 0.003 deviations."""
    normalizer = network.Normalizer(np.array([300.000012345]), np.array([0.01]), 10.0)

    class Through(torch.nn.Module):
        squashed = False

        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            return seen

    wide = PolicySpec.from_dict({**SPEC.to_dict(), "actions": [
        {"name": "seen", "elements": ["seen"], "unit": "1", "low": [-10.0], "high": [10.0],
         "policy_low": [-10.0], "policy_high": [10.0]},
    ]})  # fmt: skip
    graph = network.CommandNetwork(Through(), normalizer, wide)
    observation = np.array([[300.0137]], dtype=np.float32)
    expected = normalizer(observation)
    assert graph(torch.from_numpy(observation)).numpy() == pytest.approx(expected, abs=1e-6)


def test_what_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(ExportError, match=r"holds chapter\.txt"):
        export(run, tmp_path / "thesis")
    with pytest.raises(ExportError, match=r"is a file"):
        export(run, tmp_path / "thesis" / "chapter.txt")
    with pytest.raises(ExportError, match=r"holds checkpoints"):
        export(run, run)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_an_older_bundle_is_replaced(tmp_path: Path) -> None:
    out = save_bundle(tmp_path / "bundle")
    flip_a_byte(out / "policy.onnx")
    assert export(save_run(tmp_path / "run"), out) == out
    load_bundle(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "run"]


def test_a_bundle_is_not_exported_again(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is a bundle already"):
        export(save_bundle(tmp_path / "bundle"), tmp_path / "again")
    with pytest.raises(CheckpointError, match="--task"):
        export(save_zip(tmp_path / "model"), tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_policy_of_ours_runs_in_closed_loop(tmp_path: Path) -> None:
    """PegInsertion on real physics: five episodes, step by step, and the golden ones replayed at load."""
    spec = registry.task("peg_insertion").policy_spec()
    untrained("peg_insertion").save(tmp_path / "model.zip")
    bundle = load_bundle(export(tmp_path / "model.zip", tmp_path / "bundle", task="peg_insertion"))
    assert bundle.spec.task == spec.task
    assert bundle.manifest["policy"]["control_hz"] == spec.control_hz
    assert bundle.manifest["parity"]["steps"] > 100
    with np.load(bundle.path / "golden.npz") as golden:
        half = (spec.command_high - spec.command_low) / 2
        assert (golden["commands_0"].std(axis=0) / half).min() > 0.02
    assert json.loads((bundle.path / MANIFEST).read_text())["name"] == "peg_insertion"
