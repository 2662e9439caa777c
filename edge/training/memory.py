"""Out of memory: known in all the forms in which torch says it, and met with fewer examples at a time."""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Callable
from typing import TypeVar

import torch

from federa.errors import FederaError, one_line
from federa.memory import return_freed

log = logging.getLogger("federa.worker")

T = TypeVar("T")

# What stands in the text of a plain RuntimeError. The NVML ones are the caching allocator's on Tegra, where NVML does
# not know the integrated GPU, and wherever NVML is broken: an assertion fails while it composes the message of an
# ordinary out-of-memory, at whichever call comes first. The same ones in another of torch's files have other causes.
# Libraries that allocate by themselves say it in their own words, and so does a kernel that CUDA loads at its first
# launch. oneDNN (bf16 on a CPU) names no cause; of what it does not know how to do it says that there is no descriptor.
_SAID = re.compile(
    r"(?i:cuda)[^\n:]{0,40}:? ?out of memory"
    r"|CUDA driver error: 2(?!\d)"  # as torch 2.1 says it, by its number
    r'|NVML_SUCCESS == [^\n]{1,300}? INTERNAL ASSERT FAILED at "?[^"\n]*CUDACachingAllocator\.cpp'
    r"|CU(?:BLAS|DNN|SOLVER|SPARSE|FFT)_(?:\w{1,40}_)?ALLOC(?:ATION)?_FAILED"
    r"|NvMapMem\w{1,40}: [^\n]{0,40}\berror 12\b"
    r"|DefaultCPUAllocator: (?:can't allocate|not enough) memory"
    r"|Cannot allocate memory \(12\)"
    r"|could not (?:create|execute) a primitive(?! descriptor)"
    r"|could not create a memory object"
    r"|std::bad_alloc"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no memory, of the device's or of the machine's: on a Jetson it is one."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _SAID.search(str(error)) is not None


def halve_batch_on_oom(attempt: Callable[[int], T], size: int, what: str) -> tuple[T, int]:
    """`attempt(size)`, and again with half the size for as long as memory is too short; returns the size that did, too.
    An attempt that fails must leave things as they were. Raises FederaError where not even a size of 1 will do; `what`
    names the work there and in the log."""
    while True:
        try:
            return attempt(size), size
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = one_line(error)
        # Not in the handler: until it ends, the error holds the frames that hold the activations.
        free()
        if size == 1:
            raise FederaError(
                f"out of memory in {what} with one example at a time: {reason}; "
                "end what else needs memory here, or choose a smaller data.max_length or model"
            )
        log.warning(
            "out of memory in %s: from here on %d examples at a time, not %d (%s)", what, size // 2, size, reason
        )
        size //= 2


def free() -> None:
    """Give back what is held and not in use."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return_freed()
