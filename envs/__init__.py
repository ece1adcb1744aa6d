"""Simulated robots, parts and tasks. Importing it registers every task with Gymnasium, without starting a simulator."""

if __name__ != "physai_envs":  # one folder must not become two sets of classes
    raise ImportError("this folder is the package physai_envs: install the project and `import physai_envs`")

from physai_envs import registry

registry.register_all()
