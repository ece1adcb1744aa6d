"""What a machine spends on an iteration: its processor, its GPUs and its energy, where the system counts them."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

STAT = Path("/proc/stat")
RAPL = Path("/sys/class/powercap")
IDLE, IOWAIT = 3, 4  # columns of the line "cpu" in /proc/stat, proc(5)
TICKING = 8  # its columns before guest time, which is counted in user time already


class Usage:
    """Figures since the last reading, of the whole machine that the learner is on.

    Args:
        stat: file of processor times.
        rapl: folder of Intel's and AMD's energy counters.
    """

    def __init__(self, stat: Path = STAT, rapl: Path = RAPL) -> None:
        self._stat, self._rapl = stat, rapl
        self._nvml, self._gpus = _gpus()
        self._before = (self._cpu(), self._packages(), self._gpu_joules())

    def read(self) -> dict[str, float | None]:
        """Returns ``cpu`` and ``gpu`` [share of all, 0 to 1] and ``energy_j`` [J]; None where nothing counts it."""
        cpu, packages, gpu = now = (self._cpu(), self._packages(), self._gpu_joules())
        cpu_before, packages_before, gpu_before = self._before
        self._before = now
        share = None
        if cpu and cpu_before and cpu[1] > cpu_before[1]:
            share = (cpu[0] - cpu_before[0]) / (cpu[1] - cpu_before[1])
        joules = None
        if packages and packages.keys() == packages_before.keys():
            grown = {name: value - packages_before[name] for name, value in packages.items()}
            if min(grown.values()) >= 0.0:  # else a counter began anew
                joules = sum(grown.values())
                if gpu is not None and gpu_before is not None:
                    joules += gpu - gpu_before
        return {"cpu": share, "gpu": self._gpu_share(), "energy_j": joules}

    def _cpu(self) -> tuple[float, float] | None:
        """Busy and whole processor time since the machine started [ticks]."""
        with suppress(OSError, ValueError, IndexError):
            ticks = [float(word) for word in self._stat.read_text().splitlines()[0].split()[1 : TICKING + 1]]
            return sum(ticks) - ticks[IDLE] - ticks[IOWAIT], sum(ticks)
        return None

    def _packages(self) -> Mapping[str, float]:
        """Energy of each processor package [J]; empty where the counters are missing or only root may read them."""
        found = {}
        for counter in sorted(self._rapl.glob("*-rapl:[0-9]/energy_uj")):
            with suppress(OSError, ValueError):
                found[counter.parent.name] = float(counter.read_text()) * 1e-6
        return found

    def _gpu_joules(self) -> float | None:
        if not self._gpus:
            return None
        with suppress(self._nvml.NVMLError):  # GPUs before Volta have no counter
            return float(sum(self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) for gpu in self._gpus)) * 1e-3
        return None

    def _gpu_share(self) -> float | None:
        if not self._gpus:
            return None
        with suppress(self._nvml.NVMLError):
            rates = [self._nvml.nvmlDeviceGetUtilizationRates(gpu).gpu for gpu in self._gpus]
            return sum(rates) / (100.0 * len(rates))
        return None


def _gpus() -> tuple[Any, list[Any]]:
    """NVIDIA's library and the GPUs that this process may use, where there are some."""
    if not os.path.exists("/proc/driver/nvidia"):
        return None, []
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None, []
    with suppress(nvml.NVMLError):
        nvml.nvmlInit()
        return nvml, [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return None, []
