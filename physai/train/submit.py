"""Trains elsewhere: a run as a job of Ray's job server, which does not need the terminal it was started from.

The job is the command that a person would type on the head node, ``physai train task=… key=value … --address auto``:
the nodes have physai installed, and nothing but this line travels, unless a working folder is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import ray
import requests
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from physai.config import RunConfig, Section, as_override
from physai.errors import ClusterError
from physai.train.knock import TOKEN_ADVICE
from physai.train.nodes import is_relative

# After SIGTERM a run saves a checkpoint; Ray would kill it after 3 s. A large replay buffer takes longest.
STOP_WAIT_S = 120
START_POLL_S = 1.0
NOT_FOUND = 127  # the shell's exit code for a command that is not there
logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)  # it tells of every closed connection


class Jobs:
    """The job server of a cluster.

    Args:
        address: of Ray's dashboard, such as ``http://127.0.0.1:8265``.

    Raises:
        ClusterError: if nobody answers there, or the token is refused; every method raises it, too.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        if not address.startswith(("http://", "https://")):
            raise ClusterError(
                f"--address {address!r} is not the address of a job server; it looks like http://HEAD:8265, as "
                "`ray start --head` printed it"
            )
        os.environ["RAY_API_SERVER_ADDRESS"] = address  # Ray prefers what the environment says to an argument
        with self._explained():
            self._client = JobSubmissionClient(address)

    @contextlib.contextmanager
    def _explained(self, job: str = "") -> Iterator[None]:
        try:
            yield
        except ray.exceptions.AuthenticationError as error:
            raise ClusterError(f"the job server at {self.address} refuses the token; {TOKEN_ADVICE}") from error
        except (ConnectionError, requests.exceptions.RequestException) as error:
            raise ClusterError(
                f"no job server answers at {self.address}; is the cluster there, and a tunnel to it "
                "(ssh -L 8265:localhost:8265 HEAD)?"
            ) from error
        except (RuntimeError, ValueError) as error:
            if job and "404" in str(error):
                raise ClusterError(
                    f"there is no job {job!r} at {self.address}; `physai jobs status` lists them"
                ) from error
            raise ClusterError(f"the job server at {self.address} did not do it: {_first_line(error)}") from error

    def submit(self, entrypoint: str, working_dir: Path | None = None) -> str:
        """Starts a job; returns its name."""
        environment: dict[str, Any] = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}}
        if working_dir is not None:
            environment["working_dir"] = str(working_dir)
        with self._explained():
            job: str = self._client.submit_job(entrypoint=entrypoint, runtime_env=environment)
        return job

    def follow(self, job: str, write: Callable[[str], None]) -> None:
        """Writes what a job says until it has ended."""

        async def tail() -> None:
            async for text in self._client.tail_job_logs(job):
                write(text)

        with self._explained(job):
            while self._client.get_job_status(job) == JobStatus.PENDING:
                time.sleep(START_POLL_S)
            asyncio.run(tail())

    def exit_code(self, job: str) -> int:
        """Returns the exit code of a job that has ended; 1 when it was stopped or never came to run."""
        with self._explained(job):
            info = self._client.get_job_info(job)
            while not info.status.is_terminal():
                time.sleep(START_POLL_S)
                info = self._client.get_job_info(job)
        if info.driver_exit_code == NOT_FOUND:
            raise ClusterError(
                f"the head node has no physai on its PATH; install physai[train] there and start Ray from that "
                f"environment (source .venv/bin/activate && ray start --head). {job} has ended"
            )
        return 0 if info.status == JobStatus.SUCCEEDED else info.driver_exit_code or 1

    def logs(self, job: str) -> str:
        """Returns what a job has said so far."""
        with self._explained(job):
            text: str = self._client.get_job_logs(job)
        return text

    def stop(self, job: str) -> str:
        """Asks a job to end; returns what that means for it, in words."""
        with self._explained(job):
            stopped = self._client.stop_job(job)
            status = self._client.get_job_status(job)
        if not stopped:
            return f"{job} has ended already ({status.value.lower()})"
        return f"{job} saves a checkpoint and ends, within {STOP_WAIT_S} s; `physai jobs status {job}` tells"

    def rows(self, job: str | None = None) -> list[tuple[str, ...]]:
        """Returns the jobs, or one, the newest first: name, status, start, duration, what."""
        with self._explained(job or ""):
            found = [self._client.get_job_info(job)] if job else self._client.list_jobs()
        named = [info for info in found if info.submission_id]
        return [_row(info) for info in sorted(named, key=lambda info: info.start_time or 0, reverse=True)]


def command(words: Sequence[str]) -> str:
    """Returns the command line that trains on a node of the cluster, as these words of `physai train` say."""
    return shlex.join(["physai", "train", *words, "--address", "auto"])


def overrides(config: RunConfig) -> list[str]:
    """Returns what a configuration says that is not the default, as ``key=value``."""
    return [f"{key}={value}" for key, value in _flat(config, "")]


def _flat(section: Section, above: str) -> Iterator[tuple[str, str]]:
    for name in type(section).model_fields:
        if name not in section.model_fields_set:
            continue
        value = getattr(section, name)
        if isinstance(value, Section) and value.model_fields_set:
            yield from _flat(value, f"{above}{name}.")
        else:
            plain = value.model_dump(mode="json", exclude_unset=True) if isinstance(value, Section) else value
            yield above + name, as_override(plain)


def warnings(config: RunConfig) -> list[str]:
    """Returns what is likely to be a mistake in a run elsewhere."""
    if not is_relative(config.storage):
        return []
    return [
        f"storage={config.storage} is a folder relative to where the job runs on the head node; it may be gone with "
        "that node. Give one that all nodes see (storage=/mnt/shared/runs, or a bucket)"
    ]


def hint(job: str, address: str) -> str:
    """Returns how to come back to a job."""
    return (
        f"Follow it: physai jobs logs {job} --address {address}; end it with a checkpoint: "
        f"physai jobs stop {job} --address {address}"
    )


def _row(info: JobDetails) -> tuple[str, ...]:
    started = datetime.fromtimestamp(info.start_time / 1e3) if info.start_time else None
    ended = datetime.fromtimestamp(info.end_time / 1e3) if info.end_time else datetime.now()
    took = str(timedelta(seconds=int((ended - started).total_seconds()))) if started else ""
    when = started.strftime("%Y-%m-%d %H:%M") if started else ""
    task = [word for word in info.entrypoint.split() if word.startswith("task=")]
    return info.submission_id, info.status.value.lower(), when, took, task[0] if task else info.entrypoint


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
