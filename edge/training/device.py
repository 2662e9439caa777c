"""Which device to compute on, found by doing it; and what board this is."""

from __future__ import annotations

import os
import platform

import torch

from edge.board import find_board
from federa.errors import BadInput, one_line


def try_device(device: torch.device, dtype: torch.dtype = torch.float32) -> str | None:
    """One real matmul and backward pass on the device in that dtype. None when it works, else why not, in one line.

    `torch.cuda.is_available()` proves nothing: a CUDA build for another architecture or driver fails at its first
    kernel.
    """
    try:
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(64, 64, generator=generator) for _ in range(2))
        left = a.to(device, dtype).requires_grad_()
        right = b.to(device, dtype)
        (left @ right).float().square().mean().backward()
        assert left.grad is not None
        product = (left.detach() @ right).float().cpu()
        error = float((product - a.detach() @ b).abs().max())
    except (RuntimeError, NotImplementedError, AssertionError) as problem:
        return one_line(problem)
    # bf16 keeps 8 bits: products of 64 standard normals are a few tens at most.
    if not (error < 0.5 and torch.isfinite(left.grad).all()):
        return f"wrong numbers from a {dtype} matmul (off by {error:.2g})"
    return None


def choose_device(wanted: str = "auto") -> tuple[torch.device, str]:
    """The device for `auto`, `cpu` or `cuda`, and a word on why. Raises BadInput where `cuda` was asked and fails."""
    if wanted == "cpu":
        return torch.device("cpu"), "as asked"
    cuda = torch.device("cuda")
    problem = try_device(cuda) if torch.cuda.is_available() else "torch finds no CUDA device"
    if problem is None:
        return cuda, "a matmul and backward pass work there"
    if wanted == "cuda":
        raise BadInput(f"--device cuda: {problem}")
    return torch.device("cpu"), f"not CUDA: {problem}"


def device_name(device: torch.device) -> str:
    """The device as people call it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def facts(device: torch.device) -> dict[str, str]:
    """What is recorded about this machine beside its figures."""
    found = {
        "device": device_name(device),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
    }
    board = find_board().shown
    return found if board is None else {**found, "board": board}
