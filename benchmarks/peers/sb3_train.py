"""Prints steps a second of stable-baselines3's PPO with a SubprocVecEnv on PandaReach. Runs in .venv-peers."""

import json
import sys
import time

import flat
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv


class Iterations(BaseCallback):
    """Notes when each rollout begins."""

    def __init__(self) -> None:
        super().__init__()
        self.times = []

    def _on_rollout_start(self) -> None:
        self.times.append(time.perf_counter())

    def _on_step(self) -> bool:
        return True


if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    torch.set_num_threads(plan["cores"])  # its processes wait while it learns
    envs = SubprocVecEnv([flat.make] * plan["cores"])
    network = {"net_arch": {"pi": plan["network"], "vf": plan["network"]}}
    model = PPO(
        "MlpPolicy", envs, n_steps=plan["batch"] // plan["cores"], batch_size=plan["minibatch"],
        n_epochs=plan["epochs"], policy_kwargs=network, device="cpu", seed=0,
    )  # fmt: skip
    iterations = Iterations()
    model.learn(plan["batch"] * (plan["iterations"] + 2), callback=iterations)
    spent = iterations.times[-1] - iterations.times[1]  # the first one warms up
    sys.stdout.write(f"\nresult {plan['batch'] * (len(iterations.times) - 2) / spent}\n")
    envs.close()
