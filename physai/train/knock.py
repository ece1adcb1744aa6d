"""Asks a Ray cluster who it is, without joining it: ``python -m physai.train.knock ADDRESS`` answers in JSON.

In a process of its own, because Ray's client can neither be given a deadline for its first call nor be kept from
writing to stderr. Ray itself tries a refused token for 20 s, and a silent address for a quarter of an hour.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from physai.errors import ClusterError

ANSWER_S = 5.0  # for one call
DEADLINE_S = 30.0  # for all of it; a loaded machine takes seconds to start Python and import Ray
TOKEN_ADVICE = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE, with the token that the cluster was started with"


def knock(address: str) -> dict[str, str]:
    """Returns the ``address`` (host:port) of a running cluster and its versions of ``ray`` and ``python``.

    Raises:
        ClusterError: if nobody answers, the answer is not that of a Ray cluster, or the token is refused.
    """
    command = [sys.executable, "-m", "physai.train.knock", address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S)
    except subprocess.TimeoutExpired as error:
        raise ClusterError(
            f"what listens at {address!r} does not answer as a Ray cluster does; give the port that "
            "`ray start --head` printed (6379 unless told otherwise)"
        ) from error
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise ClusterError(f"the address {address!r} could not be tried: {done.stderr.strip().rpartition(chr(10))[2]}")
    answer: dict[str, str] = json.loads(lines[-1])
    if "refused" in answer:
        raise ClusterError(f"the Ray cluster at {answer['refused']} refuses the token of this machine; {TOKEN_ADVICE}")
    if "silent" in answer:
        raise ClusterError(
            f"no Ray cluster answers at {address!r} ({answer['silent']}); check the address, or leave out --address to "
            "start one here"
        )
    return answer


def _ask(address: str) -> dict[str, Any]:
    import socket

    import ray
    from ray._common.usage import usage_lib
    from ray._private import services
    from ray._raylet import GcsClient

    try:
        found = services.canonicalize_bootstrap_address_or_die(address)
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, ValueError) as error:
        return {"silent": getattr(error, "strerror", None) or str(error).partition(". ")[0]}
    try:
        client = GcsClient(address=found)
        client.check_alive([], timeout=ANSWER_S)
        facts = usage_lib.get_cluster_metadata(client) or {}
    except ray.exceptions.AuthenticationError:
        return {"refused": found}
    except ray.exceptions.RayError as error:
        return {"silent": str(error)}
    return {"address": found, "ray": facts.get("ray_version", ""), "python": facts.get("python_version", "")}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_ask(sys.argv[1])) + "\n")
