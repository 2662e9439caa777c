"""The machine that a figure was measured on, in one line."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil

from federa.cores import count_cores
from federa.versions import versions


def machine() -> str:
    """Processor, cores, memory, and the versions of what moves bytes."""
    known = versions()
    named = ("federa", "python", "grpcio", "protobuf", "numpy", "safetensors")
    return (
        f"{_processor()}, {count_cores().count} cores, {psutil.virtual_memory().total >> 30} GiB, "
        f"Linux {platform.release()}; " + ", ".join(f"{name} {known[name]}" for name in named if name in known)
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    # Arm's has no model name.
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
