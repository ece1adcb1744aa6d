"""Prints steps a second of RLlib's PPO with an EnvRunner a core on PandaReach. Runs in .venv-peers."""

import json
import logging
import sys
import time

import flat
import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env

if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    # a core more than there is: the driver learns while the runners wait, as stable-baselines3 does
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    ray.init(address="local", num_cpus=plan["cores"] + 1, **quiet)
    register_env("flat", lambda _: flat.make())
    config = (
        PPOConfig()
        .environment("flat")
        .env_runners(
            num_env_runners=plan["cores"], num_envs_per_env_runner=1,
            rollout_fragment_length=plan["batch"] // plan["cores"], batch_mode="truncate_episodes",
        )
        .training(train_batch_size=plan["batch"], minibatch_size=plan["minibatch"], num_epochs=plan["epochs"])
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=plan["network"], fcnet_activation="tanh"))
    )  # fmt: skip
    algorithm = config.build_algo()
    algorithm.train()  # warms up
    started, sampled = time.perf_counter(), 0
    for _ in range(plan["iterations"]):
        result = algorithm.train()
        sampled += result["env_runners"]["num_env_steps_sampled"]
    sys.stdout.write(f"\nresult {sampled / (time.perf_counter() - started)}\n")
    algorithm.stop()
