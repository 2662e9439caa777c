"""The tokenizer beside a model: whether there is one, whether it fits, what it pads with, and whether it tells the two
texts of a pair apart."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from federa.errors import BadInput, one_line, shown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SEGMENTS = "token_type_ids"


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer in a model's folder, or of a hub name. No code of its is run. Raises BadInput."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except ValueError as error:
            if "is not currently imported" not in str(error):
                raise
            # Saved by a newer transformers, under a class that this one lacks: its file holds all of it.
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    except MemoryError:
        raise
    except Exception as error:  # of a folder of any make
        if "tiktoken" in str(error) or "sentencepiece" in str(error).lower():
            # transformers takes any .model that it cannot read for a tiktoken file, and names that package.
            raise BadInput(
                "its tokenizer is in sentencepiece's format, which needs 'pip install sentencepiece'"
            ) from None
        raise BadInput(f"its tokenizer cannot be read: {one_line(error)}") from None
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        # transformers 5 makes an empty tokenizer where a folder has none: every word would be unknown.
        raise BadInput("it holds no tokenizer")
    return tokenizer


def fit_tokenizer(tokenizer: PreTrainedTokenizerBase, model: nn.Module) -> str:
    """Have tokenizer and model pad with one token that the model has a row for: the model's own, else the tokenizer's,
    else the end token, in a model that was made without padding. Its segments are given where the model has a
    table of them. Returns what is to be said of it, if anything. Raises BadInput where texts can have tokens that the
    model has no row for."""
    rows, config = _rows(model), cast(Any, model.config)
    _refuse_tokens_without_row(tokenizer, rows)
    # Whether it says that it does depends on its class, which may be that of no model.
    others = [name for name in tokenizer.model_input_names if name != _SEGMENTS]
    tokenizer.model_input_names = [*others, _SEGMENTS] if _has_segments(model) else others
    said = ""
    # The model's own first: it may count positions, or look for a text's last token, by it.
    choices = (getattr(config, "pad_token_id", None), tokenizer.pad_token_id)
    pad = next((choice for choice in choices if _is_token(choice, tokenizer, rows)), None)
    if pad is None:
        pad = _end_token(tokenizer, config, rows)
        said = f"has no padding token: {shown(tokenizer.convert_ids_to_tokens(pad), 40)} is used as one"
    config.pad_token_id = pad
    if tokenizer.pad_token_id != pad:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    return said


def _has_segments(model: nn.Module) -> bool:
    """Whether a model has an embedding for each of two segments. RoBERTa's family has one for all tokens; XLNet tells
    two segments apart without a table."""
    if _SEGMENTS not in inspect.signature(model.forward).parameters:
        return False
    config = cast(Any, model.config)
    return config.model_type == "xlnet" or (getattr(config, "type_vocab_size", None) or 0) > 1


def _end_token(tokenizer: PreTrainedTokenizerBase, config: Any, rows: int | None) -> int:
    ends = getattr(config, "eos_token_id", None)
    choices = [tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends]), tokenizer.sep_token_id,
               tokenizer.bos_token_id, tokenizer.unk_token_id]  # fmt: skip
    for choice in choices:
        if _is_token(choice, tokenizer, rows):
            return int(choice)
    raise BadInput("its tokenizer has neither a padding token nor an end token in its place: set its pad_token")


def _is_token(number: Any, tokenizer: PreTrainedTokenizerBase, rows: int | None) -> bool:
    # A config may say -1 where it means none.
    return isinstance(number, int) and 0 <= number < min(len(tokenizer), rows or len(tokenizer))


def _rows(model: nn.Module) -> int | None:
    """The rows of the table of tokens; None where a model hashes characters, or the like."""
    try:
        weight = getattr(cast(Any, model).get_input_embeddings(), "weight", None)
    except NotImplementedError:
        return None
    return None if weight is None else int(weight.shape[0])


def _refuse_tokens_without_row(tokenizer: PreTrainedTokenizerBase, rows: int | None) -> None:
    if rows is None or len(tokenizer) <= rows:
        return
    # A mask, padding or an end token that was added, and is put around no text, does no harm.
    around = tokenizer.convert_ids_to_tokens(tokenizer("a")["input_ids"])
    needless = set(tokenizer.all_special_tokens) - {tokenizer.unk_token, *around}
    beyond = sorted(
        (number, token) for token, number in tokenizer.get_vocab().items() if number >= rows and token not in needless
    )
    if beyond:
        raise BadInput(
            f"its tokenizer has tokens that the model has no row for, {len(beyond)} beyond its {rows}, such as "
            f"{shown(beyond[0][1], 40)}: it is another model's, or tokens were added to it without "
            "resize_token_embeddings()"
        )
