"""Says how good a policy is, on episodes it has never seen: the same answer for any number of workers."""

from physai.evaluate.evaluation import evaluate
from physai.evaluate.report import Report

__all__ = ["Report", "evaluate"]
