"""Sentences of words as tokens: where each word begins, whatever the tokenizer makes of it."""

from __future__ import annotations

import pytest
from tiny_models import tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from federa.data.words import NOWHERE, encode_words
from federa.errors import BadInput


def byte_level(prefix_space: bool) -> PreTrainedTokenizerFast:
    """As RoBERTa's and ModernBERT's: a blank is part of the word behind it."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    core.train_from_iterator(["the team of the bank"] * 9, trainers.BpeTrainer(special_tokens=["<pad>"]))
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>")


def test_the_first_token_of_each_word_is_its_place() -> None:
    (found,) = encode_words([["the", "xyz", "team"]], tiny_tokenizer(), 16)
    tokens = tiny_tokenizer().convert_ids_to_tokens(found.token_ids)
    assert tokens == ["[CLS]", "the", "x", "##y", "##z", "team", "[SEP]"]
    assert found.places == [1, 2, 5] and found.whole == 3


def test_a_word_of_which_nothing_is_left_moves_no_other() -> None:
    for nothing in ("\u200b", "\x00", "\u200d\ufeff", ""):
        (found,) = encode_words([["the", nothing, "team"]], tiny_tokenizer(), 16)
        assert found.places == [1, NOWHERE, 2] and found.whole == 3
    (found,) = encode_words([["\u200b"]], tiny_tokenizer("gpt2"), 16)
    assert len(found.token_ids) == 1 and found.places == [NOWHERE]  # no model takes a text without a token


def test_a_long_sentence_is_cut_and_what_is_lost_is_known() -> None:
    (found,) = encode_words([["the", "team", "xyz", "the"]], tiny_tokenizer(), 6)
    assert len(found.token_ids) == 6 and found.places == [1, 2, 3, NOWHERE]
    assert found.whole == 2  # the word that is cut in two has its first token
    (found,) = encode_words([["the", "team"]], tiny_tokenizer(), 4)
    assert found.places == [1, 2] and found.whole == 2


@pytest.mark.parametrize("prefix_space", [False, True])
def test_words_are_tokens_of_their_text_where_a_blank_is_part_of_the_next_word(prefix_space: bool) -> None:
    tokenizer = byte_level(prefix_space)
    words = ["the", "bank", "of", "the", "team"]
    (found,) = encode_words([words], tokenizer, 16)
    assert found.token_ids == tokenizer(" ".join(words))["input_ids"]
    assert found.places == [0, 1, 2, 3, 4]


def test_a_class_that_wants_a_blank_before_words_is_given_one() -> None:
    class Wants(PreTrainedTokenizerFast):
        """As RoBERTa's in transformers 4."""

        add_prefix_space = False

        def __call__(self, *args: object, is_split_into_words: bool = False, **options: object) -> object:
            assert self.add_prefix_space or not is_split_into_words
            return super().__call__(*args, is_split_into_words=is_split_into_words, **options)  # type: ignore[arg-type]

    tokenizer = Wants(tokenizer_object=byte_level(False).backend_tokenizer, pad_token="<pad>")
    (found,) = encode_words([["the", "bank"]], tokenizer, 16)
    assert found.places == [0, 1]
    assert tokenizer.add_prefix_space is False


def test_a_tokenizer_that_does_not_tell_words_apart_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(BadInput, match=r"^model: its tokenizer does not say which tokens are of which word"):
        list(encode_words([["a"]], Slow(), 16))  # type: ignore[arg-type]
