"""physai: from simulation to the factory floor. The package itself imports nothing."""

__version__ = "0.1.0"
