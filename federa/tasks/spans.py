"""The best span that a model finds in each window, and each question's answer: the best span over its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from federa.tasks.windows import AskedQuestion, Window

_NEVER = -torch.inf


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowSpan:
    """A window's best span, by its tokens in the context, and its score; and the score of "no answer here". A score is
    the sum of two logits."""

    score: float
    first: int
    last: int
    none_score: float


def span_loss(outputs: Any, targets: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of the cross entropies of start and end, summed over the windows, in fp32. `targets` is windows x 2.
    Padding, where `mask` (windows x tokens) is 0, takes no part, so that a window's loss does not depend on what it is
    batched with."""
    total = torch.zeros((), device=targets.device)
    for logits, target in zip((outputs.start_logits, outputs.end_logits), targets.unbind(dim=1), strict=True):
        logits = logits.float()
        if mask is not None:
            logits = logits.masked_fill(mask == 0, _NEVER)
        total = total + functional.cross_entropy(logits, target, reduction="sum") / 2
    return total


def best_spans(
    outputs: Any, windows: Sequence[Window], padding: Sequence[int], max_answer_length: int
) -> list[WindowSpan]:
    """The best span of each window in a batch: of all spans of 1 to `max_answer_length` tokens within the context the
    one with the largest sum of its start's and its end's logit. `padding` is how many tokens stand before a window."""
    start, end = outputs.start_logits.float(), outputs.end_logits.float()
    device, length = start.device, start.shape[1]
    shift = torch.tensor(padding, device=device)
    begin, tokens, none = (
        torch.tensor([getattr(window, name) for window in windows], device=device)
        for name in ("begin", "tokens", "none")
    )
    places = torch.arange(length, device=device)
    since = places - (begin + shift)[:, None]
    outside = (since < 0) | (since >= tokens[:, None])
    within = min(max_answer_length, length)
    # windows x tokens x within: the logits of the ends of a span that begins at this token.
    ends = functional.pad(end.masked_fill(outside, _NEVER), (0, within - 1), value=_NEVER).unfold(1, within, 1)
    best_end, more = ends.max(dim=-1)
    score, first = (start.masked_fill(outside, _NEVER) + best_end).max(dim=-1)
    more = more.gather(1, first[:, None])[:, 0]
    none_at = (none + shift)[:, None]
    none_score = (start.gather(1, none_at) + end.gather(1, none_at))[:, 0]
    first = first - begin - shift
    rows = zip(score.tolist(), first.tolist(), (first + more).tolist(), none_score.tolist(), windows, strict=True)
    return [
        WindowSpan(score=one, first=window.first + first, last=window.first + last, none_score=nothing)
        for one, first, last, nothing, window in rows
    ]


def answer_of(question: AskedQuestion, spans: Sequence[WindowSpan], *, may_be_none: bool) -> str:
    """The text of the best span over a question's windows. Where there may be none it is empty if "no answer" scores
    more than that span: a context has none if none of its windows has, so the least of their scores counts, as in the
    official scripts for SQuAD 2.0."""
    best = max(spans, key=lambda span: span.score)
    if not best.score > _NEVER or (may_be_none and min(span.none_score for span in spans) > best.score):
        return ""  # nor is there one in a context without any token
    return question.context.text_of(best.first, best.last)
