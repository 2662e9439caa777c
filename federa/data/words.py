"""Token ids of sentences that come as words, and where in them each word begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from federa.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOWHERE = -1
"""The place of a word without a token."""


_AT_ONCE = 1024
"""So many sentences are given to a tokenizer together: what it makes of one is many times the token ids."""


class EncodedWords(NamedTuple):
    """A sentence's token ids, and for each of its words the place of its first token: NOWHERE where it has none.
    `whole` is the number of words before the first one that lost tokens at the most."""

    token_ids: list[int]
    places: list[int]
    whole: int


def encode_words(
    sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[EncodedWords]:
    """Every sentence as the tokenizer cuts the text of its words with blanks between them, at most `max_length` tokens.
    A word may have no token: a tokenizer leaves out what does not show, such as a zero-width space.

    Raises BadInput for a tokenizer that does not say of which word a token is.
    """
    if not tokenizer.is_fast:
        raise BadInput(
            "model: its tokenizer does not say which tokens are of which word, as fast ones do: save it as "
            "tokenizer.json (AutoTokenizer.from_pretrained(..., use_fast=True).save_pretrained(...)), or take another "
            "model"
        )
    joins = _joins_words(tokenizer)
    for start in range(0, len(sentences), _AT_ONCE):
        some = sentences[start : start + _AT_ONCE]
        if joins:
            # A blank belongs to the word behind it (RoBERTa, GPT-2, ModernBERT). A sentence's first word has none, as
            # in a text.
            some = [[word if index == 0 else f" {word}" for index, word in enumerate(words)] for words in some]
        yield from _encoded(some, tokenizer, max_length)


def _encoded(
    sentences: Sequence[Sequence[str]], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Iterator[EncodedWords]:
    encoded = _encode(sentences, tokenizer, truncation=True, max_length=max_length)
    pad_id = int(tokenizer.pad_token_id or 0)
    for index, (words, token_ids) in enumerate(zip(sentences, encoded["input_ids"], strict=True)):
        places = [NOWHERE] * len(words)
        for place, word in reversed(list(enumerate(encoded.word_ids(index)))):
            if word is not None:
                places[word] = place
        beyond = [word for rest in encoded[index].overflowing for word in rest.word_ids if word is not None]
        # Of a sentence of which nothing is left a decoder's tokenizer makes no token at all: no model takes that.
        yield EncodedWords(token_ids or [pad_id], places, min(beyond, default=len(words)))


def _joins_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether words one by one lack the blank between them, which their text has."""
    text = tokenizer("a a", add_special_tokens=False)["input_ids"]
    apart, with_blank = (
        _encode([words], tokenizer, add_special_tokens=False)["input_ids"][0] for words in (["a", "a"], ["a", " a"])
    )
    return apart != text and with_blank == text


def _encode(sentences: Sequence[Sequence[str]], tokenizer: Any, **options: Any) -> Any:
    """The tokenizer's encoding of words, without the objection of some classes to words without a blank before them."""
    unset = object()
    before = getattr(tokenizer, "add_prefix_space", unset)
    if before is False:
        tokenizer.add_prefix_space = True
    try:
        return tokenizer(list(map(list, sentences)), is_split_into_words=True, padding=False, **options)
    finally:
        if before is False:
            tokenizer.add_prefix_space = before
