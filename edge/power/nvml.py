"""A discrete NVIDIA GPU, by NVML (`pip install nvidia-ml-py`, imported only when used)."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

from edge.power.source import CountedEnergy, Reading
from federa.errors import one_line


class Nvml:
    """GPU 0: its energy by the driver's counter (Volta and later: mJ since the driver was loaded), by its power where
    there is none. Raises OSError where NVML, the GPU or its power reading is missing (a Jetson's GPU has none)."""

    name = "nvml"
    scope: str | None = "gpu"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            # Not every install has it, nor a type checker.
            pynvml: Any = importlib.import_module("pynvml")
        except ImportError:
            raise OSError("nvidia-ml-py is not installed") from None
        self._nvml = pynvml
        self._clock = clock
        self._problem: str | None = None
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as problem:
            raise OSError(one_line(problem)) from None
        try:
            self._gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
            pynvml.nvmlDeviceGetPowerUsage(self._gpu)
            name = pynvml.nvmlDeviceGetName(self._gpu)
        except pynvml.NVMLError as problem:
            pynvml.nvmlShutdown()
            raise OSError(f"GPU 0 tells no power: {one_line(problem)}") from None
        # Bytes before nvidia-ml-py 11.5.
        self.detail = f"NVML: {name.decode() if isinstance(name, bytes) else name}"
        self._before = self._count()
        # The clock is held down by power or heat: not by idleness, a user's setting or a group of GPUs.
        self._slowdowns = (
            pynvml.nvmlClocksThrottleReasonSwPowerCap
            | pynvml.nvmlClocksThrottleReasonHwSlowdown
            | pynvml.nvmlClocksThrottleReasonSwThermalSlowdown
            | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
            | pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
        )

    def readings(self) -> list[Reading]:
        nvml, at_s = self._nvml, self._clock()
        self._problem = None
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage)
        use = self._ask(nvml.nvmlDeviceGetUtilizationRates)
        mhz = self._ask(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM)
        celsius = self._ask(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU)
        reasons = self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        return [
            Reading(
                at_s=at_s,
                rails_mw={} if power_mw is None else {"GPU": float(power_mw)},
                total_mw=None if power_mw is None else float(power_mw),
                counted=self._counted(),
                gpu_load=None if use is None else float(use.gpu),
                gpu_mhz=None if mhz is None else float(mhz),
                temps_c={} if celsius is None else {"gpu": float(celsius)},
                throttled=None if reasons is None else bool(reasons & self._slowdowns),
            )
        ]

    def problem(self) -> str | None:
        return self._problem

    def close(self) -> None:
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError as problem:
            self._problem = one_line(problem)

    def _count(self) -> tuple[float, float] | None:
        """When, and the counter's joules then; None where this GPU has none."""
        at_s = self._clock()
        total_mj = self._ask(self._nvml.nvmlDeviceGetTotalEnergyConsumption)
        return None if total_mj is None else (at_s, total_mj / 1e3)

    def _counted(self) -> CountedEnergy | None:
        """Since the counter was read last, or None: a driver that was loaded anew counts from 0."""
        before, now = self._before, self._count()
        if now is None:
            if before is not None:
                self._problem = "the counter of energy does not answer"
            return None
        self._before = now
        if before is None or now[0] <= before[0] or now[1] < before[1]:
            return None
        return CountedEnergy(since_s=before[0], until_s=now[0], joules=now[1] - before[1])

    def _ask(self, question: Callable[..., Any], *arguments: int) -> Any:
        """The answer, or None where this GPU has none."""
        try:
            return question(self._gpu, *arguments)
        except self._nvml.NVMLError as problem:
            if question is self._nvml.nvmlDeviceGetPowerUsage:
                self._problem = f"no power: {one_line(problem)}"
            return None
