"""How learners find each other: over the network interface that Ray uses, or the loopback when they share a machine.

Left alone, gloo listens where the name of its host leads, which on many machines is the loopback: learners on two of
them would never meet. On one machine nothing of them should listen anywhere else.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

import ray
from ray.train.torch import TorchConfig

GET_ADDRESS = 0x8915  # SIOCGIFADDR of Linux, see netdevice(7)
LONGEST_NAME = 15  # characters of an interface's name


def interface_of(address: str) -> str | None:
    """Returns the name of the interface that has an IPv4 address; None if none has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(line, GET_ADDRESS, struct.pack("256s", name.encode()[:LONGEST_NAME]))
            except OSError:  # it has no address
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return None


def use_interface(*, shared: bool) -> None:
    """Tells gloo and NCCL in this process which interface to take; who has set the variables knows better.

    Args:
        shared: all learners are on this machine.
    """
    name = interface_of("127.0.0.1" if shared else ray.util.get_node_ip_address())
    if name is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        if not shared:
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]
    """Ray Train's own, with the interface chosen first."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        addresses = worker_group.execute(ray.util.get_node_ip_address)
        worker_group.execute(use_interface, shared=len(set(addresses)) == 1)
        super().on_start(worker_group, backend_config)


@dataclass
class LearnerTorchConfig(TorchConfig):
    """The process group of the learners."""

    @property
    def backend_cls(self) -> Any:
        """The backend that starts it."""
        return _Backend
