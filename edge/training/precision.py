"""Mixed precision: in which dtype the model computes, chosen by what the hardware does, not by what torch accepts."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from edge.training.device import try_device
from federa.errors import BadInput

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CPU_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86 and Arm names in /proc/cpuinfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """Frozen weights and matmuls are in `dtype`; what is trained, and the optimizer, stay in fp32."""

    name: str
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.name]

    @property
    def scaled(self) -> bool:
        """Whether gradients need a GradScaler: fp16's range is too small for them, bf16's is not."""
        return self.name == "fp16"

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the model runs."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """`auto`: bf16 where the hardware has it, fp16 on an older GPU, fp32 else. Anything else is tried by a real matmul
    and backward pass first. Raises BadInput when that fails."""
    if wanted == "auto":
        wanted = _best(device)
    problem = try_device(device, DTYPES[wanted])
    if problem is not None:
        raise BadInput(f"--precision {wanted} does not work on this {device.type}: {problem}")
    return Precision(name=wanted, device=device)


def _best(device: torch.device) -> str:
    if device.type == "cpu":
        return "bf16" if _cpu_has_bf16() and try_device(device, torch.bfloat16) is None else "fp32"
    # Boards before Ampere (Xavier, Nano) only emulate bf16.
    if torch.cuda.is_bf16_supported(including_emulation=False) and try_device(device, torch.bfloat16) is None:
        return "bf16"
    return "fp16" if try_device(device, torch.float16) is None else "fp32"


def _cpu_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return False
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return not _CPU_BF16_FLAGS.isdisjoint(flags)
