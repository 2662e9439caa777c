"""The best spans beside all spans that there are, and the loss beside one window at a time."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from federa.tasks.spans import WindowSpan, answer_of, best_spans, span_loss
from federa.tasks.windows import AskedQuestion, Context, Window

_QUESTION = AskedQuestion(
    context=Context(text="one  two three", offsets=np.array([[0, 3], [3, 8], [8, 14]], dtype=np.int32)), answers=()
)


def _outputs(windows: int, tokens: int, seed: int, dtype: torch.dtype = torch.float32) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(seed)
    start, end = (torch.randn(windows, tokens, generator=generator).to(dtype) for _ in range(2))
    return SimpleNamespace(start_logits=start, end_logits=end)


@pytest.mark.parametrize("longest", [1, 3, 50])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_span_is_better(longest: int, padding: int, dtype: torch.dtype) -> None:
    shapes = [(3, 9), (4, 1), (2, 0), (5, 7)]  # where the context begins, and of how many tokens
    windows = [Window(_QUESTION, 20 * number, begin, tokens, 1, 1, 1) for number, (begin, tokens) in enumerate(shapes)]
    outputs = _outputs(len(windows), 14 + padding, longest, dtype)
    found = best_spans(outputs, windows, [padding] * len(windows), longest)
    start, end = outputs.start_logits.float().numpy(), outputs.end_logits.float().numpy()
    for row, (window, span) in enumerate(zip(windows, found, strict=True)):
        scores = {
            (window.first + i, window.first + j): start[row, begin + i] + end[row, begin + j]
            for begin in [window.begin + padding]
            for i in range(window.tokens)
            for j in range(i, min(window.tokens, i + longest))
        }
        assert span.none_score == pytest.approx(start[row, 1 + padding] + end[row, 1 + padding])
        assert span.score == pytest.approx(max(scores.values(), default=-math.inf))
        if scores:
            assert span.score == pytest.approx(scores[span.first, span.last])


def test_an_answer_is_the_best_span_of_all_windows() -> None:
    spans = [
        WindowSpan(score=1.0, first=0, last=0, none_score=3.0),
        WindowSpan(score=2.0, first=1, last=2, none_score=0.5),
        WindowSpan(score=-math.inf, first=-4, last=-4, none_score=9.0),
    ]
    assert answer_of(_QUESTION, spans, may_be_none=False) == "two three"
    # One window says that there is an answer.
    assert answer_of(_QUESTION, spans, may_be_none=True) == "two three"
    assert answer_of(_QUESTION, spans[:1], may_be_none=True) == ""
    assert answer_of(_QUESTION, spans[:1], may_be_none=False) == "one"
    assert answer_of(_QUESTION, spans[2:], may_be_none=False) == ""
    equal = WindowSpan(score=1.0, first=0, last=0, none_score=1.0)
    assert answer_of(_QUESTION, [equal], may_be_none=True) == "one"
    assert answer_of(_QUESTION, [WindowSpan(score=math.nan, first=7, last=7, none_score=0)], may_be_none=False) == ""


def test_the_loss_is_the_mean_of_both_ends_and_a_sum_over_windows_without_padding() -> None:
    outputs = _outputs(3, 6, 1, torch.bfloat16)
    targets, lengths = torch.tensor([[0, 2], [1, 1], [5, 5]]), [4, 2, 6]
    mask = torch.tensor([[1] * length + [0] * (6 - length) for length in lengths])
    right = 0.0
    for row, length in enumerate(lengths):
        for logits, target in zip((outputs.start_logits, outputs.end_logits), targets[row], strict=True):
            right += float(functional.cross_entropy(logits[row, :length].float(), target)) / 2
    loss = span_loss(outputs, targets, mask)
    assert loss.dtype is torch.float32 and float(loss) == pytest.approx(right)
    full = span_loss(outputs, targets, None)
    assert float(full) == pytest.approx(float(span_loss(outputs, targets, torch.ones_like(mask)))) != float(loss)
