"""Prints control steps a second of CPU time of one panda-gym task that moves at random. Runs in .venv-peers."""

import sys
import time

import gymnasium as gym
import panda_gym  # noqa: F401  registers its tasks

env, steps = gym.make(sys.argv[1]), int(sys.argv[2])
env.action_space.seed(0)
env.reset(seed=0)
started = time.thread_time()
for _ in range(steps):
    _, _, terminated, truncated, _ = env.step(env.action_space.sample())
    if terminated or truncated:
        env.reset()
sys.stdout.write(f"\nresult {steps / (time.thread_time() - started)}\n")
