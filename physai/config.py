"""What a training run is told: a strict YAML file, with overrides from the command line.

Every mistake is reported at once, each with the nearest valid name. What is loaded is frozen.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from physai.algorithm_config import (
    KINDS,
    AlgorithmConfig,
    Count,
    Fraction,
    OnPolicyConfig,
    Positive,
    PPOConfig,
    RecurrentPPOConfig,
    Section,
)
from physai.errors import ConfigError, nearest


class QuarantineConfig(Section):
    """Which training episodes a run never plays again, and how many may be so before it ends.

    `of` crashes: an episode that took down or hung its process twice in the same call, which is beyond most people's
    reach and rare. An exception is a bug that somebody can mend, so it ends the run at once, unless `of` is errors;
    that is also for numbers that are not finite. `most`: at the default `timeout_s`, 20 episodes that hang cost five
    hours, and what is skipped more often than now and then distorts what is learnt.
    """

    of: Literal["nothing", "crashes", "errors"] = "crashes"
    most: Annotated[int, Field(ge=0)] = 20


class RolloutConfig(Section):
    """Who collects experience. The result depends on groups, environments and steps, and never on the actors.

    An iteration has `groups` x `envs_per_group` x `steps` control steps. With `max_policy_lag` 1, the next iteration is
    collected while this one is learnt from. An actor that is silent for `timeout_s` is replaced. Actors come and go
    with the nodes of the cluster; when none is left, the run waits `patience_s` for new ones.
    """

    groups: Count = 2
    envs_per_group: Count = 8
    steps: Count = 128
    actors: Count | Literal["auto"] = "auto"
    max_policy_lag: Literal[0, 1] = 0
    timeout_s: Positive = 300.0
    patience_s: Positive = 600.0
    quarantine: QuarantineConfig = QuarantineConfig()


class LearnerConfig(Section):
    """Who learns: the driver (`workers` 0), or so many Ray Train workers, which are restarted together when one dies.

    With a pair [min, max], there are as many workers as the cluster has room for. Each takes a share of the groups and
    of every minibatch, so that their number decides the speed and not what is learnt. `device` auto measures which is
    faster. `threads` is for PyTorch: one is the fastest for networks of this size, by far when other processes want the
    cores. After `max_failures` restarts the run ends.
    """

    workers: Annotated[int, Field(ge=0)] | tuple[Count, Count] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    max_failures: Annotated[int, Field(ge=0)] = 3

    @property
    def permitted(self) -> range:
        """How many learners there may be."""
        if isinstance(self.workers, int):
            return range(max(1, self.workers), max(1, self.workers) + 1)
        return range(self.workers[0], self.workers[1] + 1)


class NormalizerConfig(Section):
    """Running normalisation of observations and of rewards (by the deviation of the return), clipped at `clip`."""

    observations: bool = True
    rewards: bool = True
    clip: Positive = 10.0


class CurriculumConfig(Section):
    """`easy_fraction`: share of training episodes whose difficulty is drawn from [0, 1] and not 1."""

    easy_fraction: Fraction = 0.0


class WarmStartConfig(Section):
    """Clones the task's scripted expert by DAgger before the algorithm takes over.

    A round plays `episodes` whole episodes; at each step the expert acts with probability `beta` ** round (so always in
    round 0), else the policy, and the expert labels every step. Then the policy is fitted to all labels for `epochs`
    epochs.
    """

    rounds: Count = 4
    episodes: Count = 40
    epochs: Count = 20
    beta: Fraction = 0.5
    learning_rate: Positive = 1e-3
    batch_size: Count = 256


class StopConfig(Section):
    """When a run ends: after `steps` control steps, or when the deterministic policy reaches `success`.

    It is measured every `every_steps` steps on `episodes` held-out episodes. `success` null trains to the end.
    """

    steps: Annotated[int, Field(ge=0)] = 1_000_000
    success: Fraction | None = None
    episodes: Annotated[int, Field(ge=1, le=10_000)] = 100
    every_steps: Count = 50_000


class CheckpointConfig(Section):
    """A checkpoint is written every `every_iterations` iterations; the `keep` newest and the best one stay.

    It is written while learning goes on. A storage that cannot be written is tried again for `patience_s`: ten minutes
    outlast the fail-over of a file server, and a full disk is still found the same evening. After Ctrl-C or SIGTERM
    there are `grace_s` left to save: Kubernetes and Slurm kill 30 s after it, of which Ray needs a few to end.
    """

    every_iterations: Count = 10
    keep: Annotated[int, Field(ge=2)] = 3
    patience_s: Annotated[float, Field(ge=0.0)] = 600.0
    grace_s: Positive = 20.0


class RunConfig(Section):
    """Everything that decides a training run. `goal_env`: the goal-conditioned variant of the task is meant."""

    task: Annotated[str, Field(min_length=1)]
    goal_env: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    algorithm: AlgorithmConfig = PPOConfig()
    rollout: RolloutConfig = RolloutConfig()
    learner: LearnerConfig = LearnerConfig()
    normalizer: NormalizerConfig = NormalizerConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    reset_options: dict[str, Any] = Field(default_factory=dict)
    warm_start: WarmStartConfig | None = None
    stop: StopConfig = StopConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    storage: Annotated[str, Field(min_length=1)] = "runs"  # a path, or a URI of pyarrow such as s3://bucket/runs
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None

    @model_validator(mode="after")
    def _batches_fit(self) -> RunConfig:
        size, batch = self.steps_per_iteration, self.algorithm.batch_size
        if isinstance(self.algorithm, OnPolicyConfig) and size % batch:
            fitting = [n for n in range(2, size + 1) if size % n == 0]
            hint = f"give {min(fitting, key=lambda n: abs(n - batch))}" if fitting else "collect more than one step"
            raise ValueError(
                f"algorithm.batch_size {batch} does not divide the {size} steps of an iteration "
                f"(rollout.groups x envs_per_group x steps); {hint}"
            )
        return self

    @field_validator("storage")
    @classmethod
    def _no_secret(cls, storage: str) -> str:
        if re.search(r"://[^/?]*@", storage):  # it would be written to the run's folder, and shown
            raise PydanticCustomError(
                "secret", "it holds credentials; leave them out and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return storage

    @model_validator(mode="after")
    def _groups_fit(self) -> RunConfig:
        groups, permitted, workers = self.rollout.groups, self.learner.permitted, self.learner.workers
        if not permitted:
            raise ValueError(f"learner.workers {workers} goes from more to fewer; give [min, max]")
        if any(groups % n for n in permitted):
            step = math.lcm(*permitted)
            fewer = max(n for n in range(1, permitted[-1] + 1) if groups % n == 0)
            raise ValueError(
                f"rollout.groups {groups} cannot be shared out equally with learner.workers {workers}; give "
                f"rollout.groups={step * math.ceil(groups / step)}, or learner.workers={fewer}"
            )
        return self

    @model_validator(mode="after")
    def _parts_go_together(self) -> RunConfig:
        name = self.algorithm.name
        if isinstance(self.algorithm, RecurrentPPOConfig) and self.rollout.max_policy_lag:
            raise ValueError(
                "rollout.max_policy_lag is 1 and the memory of recurrent_ppo belongs to one policy version; give 0"
            )
        if self.warm_start is not None and name != "ppo":
            raise ValueError(f"warm_start clones into ppo, and algorithm.name is {name}; remove one of the two")
        if getattr(self.algorithm, "her", None) is not None and not self.goal_env:
            raise ValueError("algorithm.her needs goals, and goal_env is false; give goal_env=true, or remove her")
        if name != "ppo" and self.learner.permitted[-1] > 1:
            raise ValueError(
                f"several learners share the work of ppo, and algorithm.name is {name}; give learner.workers=1"
            )
        return self

    @property
    def steps_per_iteration(self) -> int:
        """Control steps that one iteration collects."""
        return self.rollout.groups * self.rollout.envs_per_group * self.rollout.steps

    @classmethod
    def load(cls, path: str | Path | None, overrides: Sequence[str] = ()) -> RunConfig:
        """Reads a configuration.

        Args:
            path: a YAML file, or what reads like one; None where the overrides give the task.
            overrides: ``key=value``, such as ``algorithm.gamma=0.98``; the values are YAML.

        Raises:
            ConfigError: lists everything that is wrong.
        """
        data = _read(Path(path) if isinstance(path, str) else path) if path is not None else {}
        return cls.load_data(data, overrides, path)

    @classmethod
    def load_data(
        cls, data: dict[str, Any], overrides: Sequence[str] = (), path: str | Path | None = None
    ) -> RunConfig:
        """As `load`, of tables that were read already from `path`."""
        problems: list[str] = []
        for override in overrides:
            _override(data, override, problems)
        try:
            config = cls.model_validate(data)
        except ValidationError as error:
            problems += _explained(cls, error)
        if problems:
            where = f"{path}" if path is not None else "the configuration"
            count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
            raise ConfigError(f"{where} has {count}:" + "".join(f"\n  {line}" for line in problems))
        return config

    def to_yaml(self) -> str:
        """Returns the whole configuration, defaults included; `load` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}; a configuration is a table of keys and values")
    return data


def _override(data: dict[str, Any], override: str, problems: list[str]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        problems.append(f"{override!r} is no override; write key=value, such as algorithm.gamma=0.98")
        return
    try:
        value = _value(text)
    except yaml.YAMLError as error:
        problems.append(f"{key}: {text!r} is not valid YAML ({str(error).splitlines()[0]})")
        return
    *above, last = key.split(".")
    table = data
    for part in above:
        inner = table.get(part)
        if not isinstance(inner, dict):  # a section that is not written, or null
            inner = table[part] = {}
        table = inner
    table[last] = value


def as_override(value: Any) -> str:
    """Returns how a value is written after the ``=`` of an override."""
    try:
        plain = isinstance(value, str) and _value(value) == value
    except yaml.YAMLError:
        plain = False
    return value if plain else json.dumps(value)


def _value(text: str) -> Any:
    value = yaml.safe_load(text)
    if value == text.strip():  # YAML 1.1 takes 1e-4 for a word, having no point in it; what is quoted is one
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explained(model: type[BaseModel], error: ValidationError) -> list[str]:
    """One line for each key that is wrong: what is allowed, what was given."""
    wrong: dict[str, list[str]] = {}
    given: dict[str, Any] = {}
    for detail in error.errors():
        place = detail["loc"]
        chosen = KINDS.get(str(place[1])) if place[:1] == ("algorithm",) and len(place) > 1 else None
        if chosen is not None:  # pydantic names the branch that was taken, which nobody wrote
            place = place[:1] + place[2:]
        unknown = detail["type"] == "extra_forbidden"  # its last part is what somebody wrote, whatever it looks like
        location = [part for part in place if _is_key(part) or (unknown and part is place[-1])]
        key = ".".join(str(part) for part in location)
        message = str(detail["msg"]).removeprefix("Value error, ")
        if unknown:
            message = f"no such key; {_hint(model, chosen, location)}"
        elif detail["type"] == "union_tag_invalid":
            key, name = f"{key}.name", str(detail["ctx"]["tag"])
            message = f"no algorithm {name!r}; {nearest(name, KINDS)}"
        elif detail["type"] == "missing":
            message = "missing; it has no default"
        elif key and detail["type"] != "secret":
            given[key] = detail["input"]
            table = detail["type"] == "model_type"
            message = "it should be a table of keys and values" if table else message[0].lower() + message[1:]
        wrong.setdefault(key, []).append(message)
    return [
        (f"{key}: " if key else "") + ", or ".join(messages) + (f", and not {given[key]!r}" if key in given else "")
        for key, messages in wrong.items()
    ]


def _hint(model: type[BaseModel], algorithm: type[BaseModel] | None, location: Sequence[str | int]) -> str:
    """Says which key was meant, or which algorithms have it."""
    unknown = str(location[-1])
    if algorithm is None:
        return nearest(unknown, _keys(model, location[:-1]))
    owners = [name for name, kind in KINDS.items() if len(location) == 2 and unknown in kind.model_fields]
    if owners:
        return f"only {' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it (algorithm.name)"
    return nearest(unknown, _keys(algorithm, location[1:-1]))


def _is_key(part: str | int) -> bool:
    """Whether a part of pydantic's location is written in the file; others name a branch of a union or a constraint."""
    return isinstance(part, int) or (part.isidentifier() and part not in ("int", "float", "str", "none"))


def _keys(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Valid keys of the section at `location`."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is None:
            break
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), model)
    return list(model.model_fields)
