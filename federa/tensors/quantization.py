"""Stochastic rounding of a slice of differences to bf16, fp16 or int8: right on average, at most one step off.

Each value goes down or up to a neighbour that the format has, with the probability that makes its expectation exact.
What the format has stays. NaN stays NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 128
"""Values of int8 that share a scale."""

_MAX_VALUE = {"bf16": 3.3895313892515355e38, "fp16": 65504.0, "int8": float(np.finfo(np.float32).max)}
_MAX_SCALE = np.nextafter(np.float32(_MAX_VALUE["int8"] / 127), np.float32(0))
"""127 times the next larger one is infinite in fp32."""


def blocks_of(values: int) -> int:
    """How many blocks so many values make, the last one maybe shorter."""
    return -(-values // BLOCK)


def difference_of(value: NDArray[np.float32], base: NDArray[np.float32], wire: str) -> NDArray[np.float32]:
    """value - base, clipped to what the wire's dtype holds. What is not finite in `value` becomes NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.clip(value - base, np.float32(-_MAX_VALUE[wire]), np.float32(_MAX_VALUE[wire]))
    finite = np.isfinite(value)
    return found if finite.all() else np.where(finite, found, np.float32(np.nan))


def stochastically_rounded(difference: NDArray[np.float32], wire: str, generator: np.random.Generator) -> list[NDArray]:
    """The slice as it is stored: the tensor's own part, for int8 its scales after it."""
    match wire:
        case "bf16":
            bits = _to_float(difference, 2.0**-126, 2.0**-7, generator).view(np.uint32)
            return [(bits >> 16).astype("<u2")]
        case "fp16":
            return [_to_float(difference, 2.0**-14, 2.0**-10, generator).astype("<f2")]
        case _:
            return list(_to_int8(difference, generator))


def _to_float(
    difference: NDArray[np.float32], smallest_normal: float, precision: float, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Round to a multiple of the format's spacing there. Division by a power of two is exact, so what is representable
    stays."""
    power = (difference.view(np.uint32) & np.uint32(0x7F800000)).view(np.float32)
    step = np.maximum(power, np.float32(smallest_normal)) * np.float32(precision)
    with np.errstate(invalid="ignore"):
        return _stochastic(difference / step, generator) * step


def _to_int8(difference: NDArray[np.float32], generator: np.random.Generator) -> tuple[NDArray, NDArray]:
    blocks = np.zeros((blocks_of(difference.size), BLOCK), np.float32)
    blocks.reshape(-1)[: difference.size] = difference
    largest = np.abs(blocks).max(axis=1)
    scale = (largest.astype(np.float64) / 127).astype(np.float32)
    with np.errstate(over="ignore"):
        short = scale * np.float32(127) < largest
    # Rounded up, or the largest value would be cut down to 127 steps; for the smallest fp32 values, to none.
    scale = np.where(short, np.nextafter(scale, np.float32(np.inf)), scale)
    scale = np.minimum(scale, _MAX_SCALE)[:, None]
    steps = np.divide(blocks, np.where(scale > 0, scale, np.float32(1)), dtype=np.float64)
    nearest = np.rint(steps)
    # What decodes to exactly itself stays: through the scale's own rounding its quotient may not be a whole number.
    whole = np.where(nearest.astype(np.float32) * scale == blocks, nearest, _stochastic(steps, generator))
    # A block with a NaN has a NaN for scale, and so decodes to nothing else.
    whole = np.nan_to_num(np.clip(whole, -127, 127))
    return whole.astype(np.int8).reshape(-1)[: difference.size], scale.reshape(-1).astype("<f4")


def _stochastic(steps: NDArray, generator: np.random.Generator) -> NDArray:
    """Down or up to a whole number, up with the probability of the part above the lower one."""
    whole = np.floor(steps)
    whole += generator.random(steps.shape, np.float32) < steps - whole
    return whole
