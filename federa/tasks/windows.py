"""A question beside its context, in windows: as many as it takes for the model to see all of the context.

A window is `prefix question middle context suffix`, where the tokenizer says what stands around and between. Windows of
one context overlap by the stride (BERT's for SQuAD, arXiv 1810.04805, as Hugging Face's scripts count it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from federa.data.packed_rows import PackedRows
from federa.errors import BadInput

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from federa.data.batches import Examples

    Ids = NDArray[np.int32]

_TEXTS = 1_000
"""So many texts are given to the tokenizer at a time: what it gives back is far larger than what is kept of it."""


class Question(NamedTuple):
    """A record: a question about a context. `answers` are the right ones, all of which count, and `starts` is where
    each stands in the context, in characters. Both are empty for a question that the context does not answer."""

    text: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Context:
    """A text, and where each of its tokens begins and ends in it, in characters (tokens x 2)."""

    text: str
    offsets: Ids

    def tokens_of(self, start: int, text: str) -> tuple[int, int]:
        """The first and the last token of the text that begins at this character. The last is before the first where
        the tokenizer leaves all of it out."""
        first = int(np.searchsorted(self.offsets[:, 1], start, side="right"))
        last = int(np.searchsorted(self.offsets[:, 0], start + len(text), side="left")) - 1
        return first, last

    def text_of(self, first: int, last: int) -> str:
        """The text from one token to another. Some tokenizers take the blank before a word for a part of it."""
        return self.text[self.offsets[first, 0] : self.offsets[last, 1]].strip()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AskedQuestion:
    """What is left of a question when its windows are made, once for all of them."""

    context: Context
    answers: tuple[str, ...]


class Window(NamedTuple):
    """What an example's target is: the window beside its tokens. `first` is the context's token that stands at `begin`
    as the first of so many `tokens`. `none` is the place that stands for "no answer here": the [CLS] token's. `start`
    and `end` are the answer's first and last place, or `none`. Places count from the window's first token, padding
    apart."""

    question: AskedQuestion
    first: int
    begin: int
    tokens: int
    none: int
    start: int
    end: int


def make_windows(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    stride: int,
    max_question_length: int,
) -> Examples:
    """The windows of all questions, one after the other, each of at most `max_length` tokens, as examples whose targets
    are a Window. Of a longer question the first `max_question_length` tokens are kept; `cut` counts these. A window is
    trained towards the first of the right answers. Raises BadInput where there is no room for a context, or the
    tokenizer does not say where tokens stand."""
    from federa.data.batches import Examples

    if not tokenizer.is_fast:
        raise BadInput(
            "model: its tokenizer does not say where in a text a token stands, which question answering needs: take "
            "a model with a tokenizer.json"
        )
    frame = _Frame(tokenizer)
    contexts = _tokenized([question.context for question in questions], tokenizer)
    texts = _tokenized([question.text for question in questions], tokenizer)
    shared = {text: Context(text=text, offsets=offsets) for text, (_, offsets) in contexts.items()}
    token_ids: list[Ids] = []
    segments: list[Ids] = []
    windows: list[Window] = []
    cut = 0
    for question in questions:
        context, ids, asked = shared[question.context], contexts[question.context][0], texts[question.text][0]
        cut += len(asked) > max_question_length
        asked = asked[:max_question_length]
        room = max_length - frame.length - len(asked)
        if room < 1:
            raise BadInput(
                f"data.max_length must be more than {max_length}: a question of {len(asked)} tokens and what the "
                "tokenizer puts around it leave no room for a context; or data.max_question_length must be less"
            )
        one = AskedQuestion(context=context, answers=question.answers)
        span = context.tokens_of(question.starts[0], question.answers[0]) if question.answers else None
        for first in range(0, max(1, len(ids)), room - min(stride, room - 1)):
            part = ids[first : first + room]
            token_ids.append(frame.around(asked, part))
            segments.append(frame.segments(asked, part))
            windows.append(frame.window(one, len(asked), first, len(part), span))
            if first + room >= len(ids):
                break
    return Examples(
        token_ids=PackedRows.pack(token_ids),
        targets=tuple(windows),
        pad_id=int(tokenizer.pad_token_id or 0),
        pad_left=tokenizer.padding_side == "left",
        segments=PackedRows.pack(segments) if "token_type_ids" in tokenizer.model_input_names else None,
        cut=cut,
    )


def _tokenized(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, tuple[Ids, Ids]]:
    """Each different text's tokens with nothing around them: their ids, and where they begin and end."""
    found: dict[str, tuple[Ids, Ids]] = {}
    different = list(dict.fromkeys(texts))
    for begin in range(0, len(different), _TEXTS):
        some = different[begin : begin + _TEXTS]
        # verbose: it would warn of texts that are longer than the model takes.
        encoded = tokenizer(some, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        for text, ids, offsets in zip(some, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            found[text] = np.array(ids, dtype=np.int32), np.array(offsets, dtype=np.int32).reshape(-1, 2)
    return found


class _Frame:
    """What a tokenizer puts before, between and behind a pair of texts, looked up from a pair of one letter each."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        encoded = tokenizer("a", "a", return_token_type_ids=True)
        # Arrays: of an empty list numpy makes one of floats.
        ids, types = (np.array(encoded[name], dtype=np.int32) for name in ("input_ids", "token_type_ids"))
        texts = encoded.sequence_ids(0)
        one = [place for place, text in enumerate(texts) if text == 0]
        other = [place for place, text in enumerate(texts) if text == 1]
        self._prefix, self._middle, self._suffix = ids[: one[0]], ids[one[-1] + 1 : other[0]], ids[other[-1] + 1 :]
        self._types = types
        self._places = (one[0], one[-1] + 1, other[0], other[-1] + 1)
        self._cls_id = tokenizer.cls_token_id
        self.length = len(self._prefix) + len(self._middle) + len(self._suffix)

    def around(self, question: Ids, context: Ids) -> Ids:
        return np.concatenate([self._prefix, question, self._middle, context, self._suffix])

    def segments(self, question: Ids, context: Ids) -> Ids:
        types, (one, between, other, end) = self._types, self._places
        asked, seen = np.full(len(question), types[one]), np.full(len(context), types[other])
        return np.concatenate([types[:one], asked, types[between:other], seen, types[end:]])

    def window(
        self, question: AskedQuestion, asked: int, first: int, count: int, span: tuple[int, int] | None
    ) -> Window:
        """The window with `asked` tokens of the question. `span` has the answer's tokens in the context."""
        begin = len(self._prefix) + asked + len(self._middle)
        none = start = end = self._none(begin + count)
        if span is not None and first <= span[0] <= span[1] < first + count:
            start, end = (begin + token - first for token in span)
        return Window(question, first, begin, count, none, start, end)

    def _none(self, end: int) -> int:
        """The place of [CLS], which some models have last; the first place in a model that has none."""
        for offset, ids in ((0, self._prefix.tolist()), (end, self._suffix.tolist())):
            if self._cls_id in ids:
                return offset + ids.index(self._cls_id)
        return 0
