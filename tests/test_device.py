"""Where the learner computes: the faster device is taken and said, and a GPU that is not there is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import toys

from physai.config import RunConfig
from physai.errors import ConfigError
from physai.train import device
from physai.train.algorithms.ppo import build
from physai.train.driver import inspect

ROOT = Path(__file__).resolve().parent.parent


def arguments(**learner):
    config = RunConfig.model_validate(toys.small(learner=learner))
    interface = inspect(config)
    return config, interface.observation_space, interface.action_space


@pytest.mark.parametrize(("rates", "chosen"), [((300, 200), "cpu"), ((300, 4000), "cuda")])
def test_the_faster_device_is_chosen_and_both_figures_are_said(monkeypatch, rates, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(device, "build", lambda config, *spaces, device: (config.algorithm.batch_size, device))
    shares = []

    def rate(model):
        shares.append(model[0])
        return dict(zip(("cpu", "cuda"), rates, strict=True))[model[1]]

    monkeypatch.setattr(device, "rate", rate)
    found, why = device.choose(*arguments(), learners=2)
    assert found == chosen
    assert why == f"{rates[0]:,} updates/s on the CPU, {rates[1]:,} on Some GPU"
    assert shares == [16, 16]  # of a minibatch of 32, as two learners have it


def test_without_a_gpu_nothing_is_measured_and_none_can_be_asked_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "rate", lambda model: pytest.fail("measured"))
    assert device.choose(*arguments()) == ("cpu", "there is no GPU")
    device.check(arguments(device="auto")[0])
    with pytest.raises(ConfigError, match=r"finds no GPU on this machine; give learner.device=cpu, or auto"):
        device.check(arguments(device="cuda")[0])


def test_a_rate_is_that_of_whole_epochs_over_a_buffer_of_the_policy_itself():
    config, *spaces = arguments()
    model = build(config, *spaces)
    assert device.rate(model) > 1.0
    assert model._n_updates == device.ROUNDS
    device.fill(model)
    buffer = model.rollout_buffer
    seen, done = torch.from_numpy(buffer.observations[3]), torch.from_numpy(buffer.actions[3])
    values, log_probs, _ = model.policy.evaluate_actions(seen, done)
    np.testing.assert_allclose(buffer.values[3], values.detach().flatten(), atol=1e-6)
    np.testing.assert_allclose(buffer.log_probs[3], log_probs.detach(), atol=1e-5)


BLOCKED = """
import runpy, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "pybullet", "pybullet_data"):
            raise ModuleNotFoundError(name + " is not there", name=name)
sys.meta_path.insert(0, Blocker())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
import physai.train.learner
"""


def test_learning_and_its_benchmark_run_where_neither_ray_nor_pybullet_is_installed():
    script = str(ROOT / "benchmarks" / "learner_speed.py")
    small = ["--envs", "2", "--steps", "32", "--batch-size", "32", "--epochs", "1", "--rounds", "1"]
    done = subprocess.run([sys.executable, "-c", BLOCKED, script, *small], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "| CPU, 1 thread(s) |" in done.stdout
