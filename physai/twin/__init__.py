"""A simulated cell in a process of its own, with its own clock: to the runtime, it is a robot."""
