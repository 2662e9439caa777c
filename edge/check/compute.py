"""What torch is here, and what it really computes: a matmul and its backward pass in each precision."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

from edge.check.result import CheckResult
from edge.worker.host_workers import HostWorker, HostWorkers
from edge.worker.run_threads import choose_threads, parse_threads
from federa.cores import count_cores
from federa.errors import BadInput, one_line
from federa.extras import how_to_add

if TYPE_CHECKING:
    import torch

# Large enough that the time is the multiplication's, not the launch's: 52 GFLOP, 10 ms of an Orin; on a CPU, where
# fp16 may be emulated, 0.8.
_SIDE = {"cuda": 2048, "cpu": 512}
_ENOUGH_S = 0.3
_BRINGS = {
    "6": "on JetPack 6 from the jetson-ai-lab index (jp6/cu126, with the /+simple/ suffix)",
    "7": "on JetPack 7 from pip's own index",
}
_REACH = (
    "this torch has CUDA and is not let to the GPU: in a container, runtime nvidia and the groups of the GPU's device "
    "nodes (docker/.env: FEDERA_VIDEO_GID, FEDERA_RENDER_GID); else sudo usermod -aG video,render $USER"
)


def check_compute(options: argparse.Namespace, jetson: bool) -> Iterator[CheckResult]:
    """The build, the device, and each precision on it."""
    install = f"install a torch for this board: {', '.join(_BRINGS.values())}"
    try:
        import torch
    except (ImportError, OSError) as error:
        todo = install if jetson else f"{how_to_add('cpu')}, or a torch for this machine's GPU"
        yield CheckResult(what="torch", level="failed", found=one_line(error), todo=todo)
        return
    from edge.training.device import choose_device, device_name
    from edge.training.precision import choose_precision

    yield _threads(options)
    cuda = torch.version.cuda
    made_for = ", ".join(torch.cuda.get_arch_list())  # empty where CUDA does not work
    found = (
        f"{torch.__version__}, "
        + (f"CUDA {cuda}" if cuda else "without CUDA")
        + (f" for {made_for}" if made_for else "")
    )
    yield CheckResult(what="torch", found=found)
    if jetson and cuda and not torch.cuda.is_available():
        # The torch is not what is wrong, as far as it can be seen.
        install = _REACH
    try:
        device, why = choose_device(options.device)
    except BadInput as error:
        yield CheckResult(
            what="device", level="failed", found=str(error), todo=install if jetson else "--device cpu works"
        )
        return
    if jetson and device.type == "cpu" and options.device != "cpu":
        found = f"{device_name(device)} ({why})"
        yield CheckResult(
            what="device", level="failed", found=found, todo=f"{install}; --device cpu would do without the GPU"
        )
    else:
        yield CheckResult(what="device", found=f"{device_name(device)} ({why})")
    try:
        auto = choose_precision("auto", device).name
    except BadInput:
        auto = ""  # not even fp32, which the line below says
    for name in ("fp32", "bf16", "fp16"):
        yield _precision(name, device, is_auto=name == auto)


def _threads(options: argparse.Namespace) -> CheckResult:
    """How many CPU threads a worker would get now, which the rest of the check computes with."""
    import torch

    asked, name = parse_threads(options.threads), options.name or ""
    own = HostWorker(name=name, cores=count_cores(), threads=asked)
    # A worker of this name that runs here is the one that is asked about.
    others = [other for other in HostWorkers(name).others() if other.name != name]
    threads, why = choose_threads(asked, own, others)
    torch.set_num_threads(threads)
    found = f"{threads} thread{'s' if threads > 1 else ''}: {why}"
    if threads > own.cores.count:
        todo = "fewer threads, or --threads auto: those that wait for a core hold the others up"
        return CheckResult(what="CPU", level="warning", found=found, todo=todo)
    return CheckResult(what="CPU", found=found)


def _precision(name: str, device: torch.device, *, is_auto: bool) -> CheckResult:
    from edge.training.device import try_device
    from edge.training.precision import DTYPES

    try:
        problem = try_device(device, DTYPES[name])
        if problem is None:
            side = _SIDE[device.type]
            taken_ms = time_ms(device, DTYPES[name], side)
            chosen = ", what --precision auto takes" if is_auto else ""
            return CheckResult(
                what=name, found=f"{taken_ms:.4g} ms a matmul and backward pass of {side} x {side}{chosen}"
            )
    except RuntimeError as error:  # of memory, say
        problem = one_line(error)
    todo = (
        "nothing can be trained here: see the device above"
        if name == "fp32"
        else "leave the experiment's training.precision at auto"
    )
    return CheckResult(what=name, level="failed" if name == "fp32" else "warning", found=problem, todo=todo)


def time_ms(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """The median time of a product of two square matrices and its backward pass, in milliseconds."""
    import torch

    left, right = (torch.randn(side, side).to(device, dtype).requires_grad_() for _ in range(2))
    times_s: list[float] = []
    began_s = time.perf_counter()
    while len(times_s) < 2 or (time.perf_counter() - began_s < _ENOUGH_S and len(times_s) < 50):
        left.grad = right.grad = None
        start_s = time.perf_counter()
        (left @ right).float().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times_s.append(time.perf_counter() - start_s)
    # The first one loads kernels.
    return 1e3 * median(times_s[1:])
