"""Where the learners run: on which device, with what resources, and how soon one that is silent is given up."""

from __future__ import annotations

import math
import time

import ray

from physai.config import RunConfig
from physai.errors import ClusterError
from physai.train import device
from physai.train.outcome import Interface
from physai.train.progress import Board

# A learner that is silent for longer, in an update or to Ray, is lost. PyTorch's own limit is 30 minutes.
SILENT_S = 120
RESIZE_EVERY_S = 60.0  # how often an elastic run looks whether there is room for more: each change costs a restart
ROOM_S = 5.0  # Ray's figures lag behind: what another run has just left may still count as taken
RESOURCES = {"CPU": 0.1}  # of each learner: what an actor leaves of a core, see `placement.ACTOR_CPUS`


def choose_device(config: RunConfig, interface: Interface, board: Board) -> str:
    """Returns where the learners compute; the board hears why, if that was left open.

    Raises:
        ClusterError: if GPUs are asked for that the cluster does not have.
    """
    wanted, here = config.learner.device, config.learner.workers == 0
    needed, gpus = config.learner.permitted[0], int(ray.cluster_resources().get("GPU", 0))
    if wanted == "cuda" and not here and gpus < needed:
        raise ClusterError(
            f"learner.device is cuda, and learner.workers={config.learner.workers} needs a GPU for each, where Ray has "
            f"{gpus}; give learner.device=cpu, or auto, or {'fewer workers' if gpus else 'a cluster with GPUs'}"
        )
    if wanted != "auto":
        return wanted
    board.phase("choosing the device of the learner")
    arguments = config, interface.observation_space, interface.action_space, config.learner.permitted[-1]
    if here or gpus == 0:
        chosen, why = device.choose(*arguments) if here else ("cpu", device.NO_GPU)
    elif gpus < needed:
        chosen, why = "cpu", f"there are {gpus} GPUs for {needed} learners"
    else:
        task = ray.remote(num_cpus=0, num_gpus=1)(device.choose)
        chosen, why = ray.get(task.remote(*arguments))
    board.say(f"the learner computes on the {'GPU' if chosen == 'cuda' else 'CPU'}: {why}")
    return chosen


def check_room(config: RunConfig, actors: int) -> None:
    """Refuses learners that would wait for ever for CPUs that the actors have.

    Raises:
        ClusterError: says how many actors leave room.
    """
    needed, ends = config.learner.permitted[0] * RESOURCES["CPU"], time.monotonic() + ROOM_S
    while (free := ray.available_resources().get("CPU", 0.0)) < needed - 1e-6 and time.monotonic() < ends:
        time.sleep(0.5)
    if free < needed - 1e-6:
        raise ClusterError(
            f"learner.workers={config.learner.workers} needs {needed:g} CPUs, and {actors} rollout actors leave "
            f"{free:g}; give rollout.actors={max(1, actors - math.ceil(needed - free))}, or fewer workers"
        )
