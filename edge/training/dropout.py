"""Dropout on the CPU at a fraction of torch's price.

On a CPU torch draws a Bernoulli number for each element, one after the other: with BERT's dropout of 0.1 that is a
fifth of a bf16 training step. Here one 64-bit draw serves four elements of bf16 or two of fp32. The distribution is
the same, but for a probability rounded to 1/65536. The numbers come from torch's default generator, so a seed decides
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# The integers of a dtype's size: a draw of 64 bits is cut into lanes of these.
_LANE = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


def scaled_mask(shape: torch.Size, p: float, dtype: torch.dtype) -> Tensor:
    """A tensor that is 0 with probability p and 1 / (1 - p) elsewhere, from torch's default generator."""
    lane = _LANE[dtype]
    per_draw = 8 // lane.itemsize
    count = shape.numel()
    # from=-2**63 and no upper bound is all 64 bits; the default range leaves the sign bit, a lane's highest, at 0.
    draws = torch.empty(-(-count // per_draw), dtype=torch.int64).random_(-(1 << 63), None)
    lanes = draws.view(lane)[:count].view(shape)
    levels = 1 << (8 * lane.itemsize)
    keep = torch.ge(lanes, round(p * levels) - levels // 2, out=torch.empty_like(lanes))
    # 0 or 1 times the bits of the scale is 0.0 or the scale. Integer lanes go through the vector units; a conversion
    # from bool to bf16 would take twenty times as long.
    return keep.mul_(torch.tensor(1 / (1 - p), dtype=dtype).view(lane)).view(dtype)


def dropout(value: Tensor, p: float) -> Tensor:
    """torch's functional dropout in training, for a tensor on the CPU."""
    return value if p == 0 else value * scaled_mask(value.shape, p, value.dtype)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float, scale: float | None) -> Tensor:
    """softmax(Q K^T scale + mask) V with dropout on the weights, as torch's own computes it where it must materialise
    the weights, which on a CPU is whenever there is dropout."""
    scores = (query * (scale or query.shape[-1] ** -0.5)) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else scores + mask
    return dropout(scores.softmax(dim=-1), p).to(value.dtype) @ value


class CheapDropout(TorchFunctionMode):
    """A context in which dropout, and attention with dropout, of CPU tensors are computed by this module."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is functional.dropout:
            return self._dropout(func, *args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            return self._attention(func, *args, **kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def _dropout(
        func: Callable[..., Any], input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Any:
        if not training or p >= 1 or input.device.type != "cpu" or input.dtype not in _LANE:
            return func(input, p, training, inplace)
        return dropout(input, p)

    @staticmethod
    def _attention(
        func: Callable[..., Any],
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        cheap = 0 < dropout_p < 1 and query.device.type == "cpu" and query.dtype in _LANE
        if not cheap or is_causal or enable_gqa:
            return func(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
        return attention(query, key, value, attn_mask, dropout_p, scale)
