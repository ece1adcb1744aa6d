"""What every episode is measured by: figures by name, the same in reports, requirements and comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from physai.evaluate.episodes import EpisodeRecord
from physai.spec import PolicySpec
from physai_envs import registry

SUCCESS, RETURN, STEPS, TIME, SMOOTHNESS = "success", "return", "steps", "time_to_success_s", "action_change"
COMMON = (SUCCESS, RETURN, STEPS, TIME, SMOOTHNESS)
REWARD = "reward."  # begins the name of a reward term's figure
COLLISION = "colli"  # begins the name of a metric that counts collisions


def of_episode(record: EpisodeRecord, control_hz: float) -> dict[str, float]:
    """Returns the figures of one episode; those that it does not have are left out."""
    found = {name: value for name, value in record.metrics.items()}
    found.update({REWARD + name: value for name, value in record.reward_terms.items()})
    if record.success is not None:
        found[SUCCESS] = float(record.success)
    found |= {RETURN: record.episode_return, STEPS: float(record.steps), SMOOTHNESS: record.action_change}
    if record.success and record.success_at is not None:
        found[TIME] = record.success_at / control_hz
    return found


def by_name(records: Sequence[EpisodeRecord], control_hz: float) -> dict[str, list[float]]:
    """Returns the values of each figure over the episodes that have it."""
    found: dict[str, list[float]] = {}
    for record in records:
        for name, value in of_episode(record, control_hz).items():
            found.setdefault(name, []).append(value)
    return found


def declared(spec: PolicySpec) -> tuple[str, ...] | None:
    """Returns the names that a task of ours declares; None for an environment that declares none."""
    if not spec.task.startswith(registry.NAMESPACE):
        return None
    task = registry.task(spec.task)
    return (*COMMON, *(m.name for m in task.metrics), *(REWARD + r.name for r in task.rewards))


def units(spec: PolicySpec) -> Mapping[str, str]:
    """Returns the unit of each figure that has one."""
    known = {TIME: "s"}
    if spec.task.startswith(registry.NAMESPACE):
        known |= {metric.name: metric.unit for metric in registry.task(spec.task).metrics if metric.unit != "1"}
    return known
