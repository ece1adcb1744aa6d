"""Whether a policy fits a task: what it sees and does, compared term by term."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from physai.errors import TaskError
from physai.policy import Policy, load_policy
from physai.spec import ActionSpec, ObservationSpec, PolicySpec
from physai.storage import place
from physai_envs import registry

MOST_NAMED = 4  # differences that one sentence names


@dataclass(frozen=True)
class Loaded:
    """A policy and the task that it is evaluated on.

    Attributes:
        trained_for: what `load_policy` has to be told to load it again.
        task: name for `registry.make`.
        spec: of the policy, under the id of that task.
    """

    policy: Policy
    trained_for: str | None
    task: str
    spec: PolicySpec


def load_for(source: str | Path, task: str | None) -> Loaded:
    """Loads a policy for its own task, or for one with the same observations and actions.

    Raises:
        TaskError: if the task sees or does something else than the policy, naming the terms.
        PhysaiError: whatever `load_policy` raises.
    """
    bare = task is not None and cast(Path, place(source)).is_file()  # a zip, which does not name its task
    policy = load_policy(source, task if bare else None)
    name = task or policy.task
    wanted = task_spec(name, goal_env=policy.spec.goal_env)
    if found := differences(policy.spec, wanted):
        more = f", and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise TaskError(
            f"{source} does not fit {wanted.task}: {'; '.join(found[:MOST_NAMED])}{more}; give its own task"
        )
    return Loaded(policy, task if bare else None, name, replace(policy.spec, task=wanted.task))


def task_spec(name: str, *, goal_env: bool) -> PolicySpec:
    """Returns what a policy of a task sees and does.

    Raises:
        TaskError: if there is no such task.
    """
    full_id = registry.resolve(name)
    if full_id.startswith(registry.NAMESPACE) and not goal_env:
        spec: PolicySpec = registry.task(full_id).policy_spec()
        return spec
    env = registry.make(name, goal_env=goal_env)
    try:
        return registry.policy_spec(env)
    finally:
        env.close()


def differences(policy: PolicySpec, task: PolicySpec) -> list[str]:
    """Returns in words in what two interfaces differ; noise and limits of observations are not part of one."""
    found = []
    for kind, mine, theirs in (
        ("observation", policy.observations, task.observations),
        ("action", policy.actions, task.actions),
    ):
        known, needed = {term.name: _facts(term) for term in mine}, {term.name: _facts(term) for term in theirs}
        found += [f"it lacks {kind} {name!r} ({needed[name]})" for name in needed if name not in known]
        found += [f"the task has no {kind} {name!r} ({known[name]})" for name in known if name not in needed]
        found += [
            f"{kind} {name!r} is {known[name]} to the policy and {needed[name]} in the task"
            for name in known
            if name in needed and known[name] != needed[name]
        ]
        if not found and list(known) != list(needed):
            found.append(f"the {kind}s come in another order ({', '.join(known)}; in the task {', '.join(needed)})")
    if policy.control_hz != task.control_hz:
        found.append(f"it acts at {policy.control_hz:g} Hz and the task at {task.control_hz:g} Hz")
    return found


def _facts(term: ObservationSpec | ActionSpec) -> str:
    place_ = f"{term.unit or '1'}, frame {term.frame or 'none'}"
    if isinstance(term, ObservationSpec):
        return f"shape {term.shape}, {place_}"
    span = ", ".join(f"{low:g} to {high:g}" for low, high in dict.fromkeys(zip(term.low, term.high, strict=True)))
    return f"elements {', '.join(term.elements)}, {span} {place_}"
