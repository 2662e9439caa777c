"""Tokens that a task adds to a model, such as entity markers: their embeddings are trained beside the frozen table.

The rows of the new tokens are a parameter of their own, so that a method which freezes the table trains and sends a few
rows and not the table. In the end they are put behind the table's rows, and the model is a plain one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from federa.errors import BadInput, shown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ADDED = "added"
"""What the new rows are called inside the table that they stand beside."""


class AddedRows(nn.Module):
    """`weight` (tokens x hidden) has the embeddings of the tokens from number `first` on."""

    def __init__(self, first: int, weight: Tensor) -> None:
        super().__init__()
        self.first = first
        self.weight = nn.Parameter(weight)

    def extra_repr(self) -> str:
        return f"{len(self.weight)} tokens from {self.first} on"


class ExtendedEmbedding(nn.Embedding):
    """An embedding with the same table, under the same name, and rows beside it that stand for tokens of their own
    (also where the table has spare rows of these numbers)."""

    added: AddedRows

    @classmethod
    def extend(cls, table: nn.Embedding, added: AddedRows) -> ExtendedEmbedding:
        """The table is shared, not copied: it may be tied to others."""
        with torch.device("meta"):
            made = cls(table.num_embeddings, table.embedding_dim, table.padding_idx)
        made.weight = table.weight
        made.added = added
        return made.train(table.training)

    def forward(self, input: Tensor) -> Tensor:
        """`input` are numbers of tokens of any shape; the result has the hidden size behind it, and the table's
        dtype."""
        rows, position = self.added.weight, input - self.added.first
        is_added = (position >= 0) & (position < len(rows))
        known = super().forward(input.masked_fill(is_added, 0))
        new = functional.embedding(position.clamp(0, len(rows) - 1), rows).to(known.dtype)
        return torch.where(is_added.unsqueeze(-1), new, known)


def teach_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> list[int]:
    """Have a tokenizer never split these tokens; returns the numbers of those that it did not know, one after the
    other. Raises BadInput where it takes none."""
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    new = [token for token in tokens if token not in known]
    # A blank before one belongs to it: what stands behind keeps its own, and is cut into tokens as without a marker.
    tokenizer.add_tokens(
        [AddedToken(token, lstrip=True, normalized=False, special=True) for token in tokens], special_tokens=True
    )
    numbers = cast("list[int]", tokenizer.convert_tokens_to_ids(new))
    if numbers and numbers != list(range(numbers[0], numbers[0] + len(new))):
        raise BadInput(f"its tokenizer does not take new tokens, such as {shown(new[0], 40)}")
    return numbers


def add_tokens(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str], seed: int
) -> frozenset[str]:
    """Teach a tokenizer these tokens, which it never splits, and put rows for those that it did not know beside the
    model's table, drawn from the seed. Returns the names of the new parameters. Raises BadInput where the model has no
    table of tokens that rows can be put beside.

    A row is drawn as the table's rows are spread (mean and standard deviation of each dimension): as large as a word's,
    so that the layers behind take it as one, and each token another, so that they are told apart from the start.
    """
    numbers = teach_tokens(tokenizer, tokens)
    if not numbers:
        return frozenset()
    tables = _tables(model)
    generator = torch.Generator().manual_seed(seed)
    std, mean = torch.std_mean(tables[0][2].weight.detach(), dim=0)
    added = AddedRows(numbers[0], mean + std * torch.randn((len(numbers), len(mean)), generator=generator))
    for parent, child, table in tables:
        setattr(parent, child, ExtendedEmbedding.extend(table, added))
    return frozenset(name for name, parameter in model.named_parameters() if parameter is added.weight)


def added_rows(model: nn.Module) -> dict[str, tuple[range, Tensor]]:
    """A copy of the new rows, with the tokens' numbers, by the name of the table: empty where no token was added."""
    found = {}
    for name, table in model.named_modules():
        if type(table) is ExtendedEmbedding:
            rows = table.added.weight.detach().clone()
            found[name] = range(table.added.first, table.added.first + len(rows)), rows
    return found


def merge_added_tokens(model: nn.Module) -> None:
    """Put the new rows behind those of the table, in place: a plain embedding is left, and the model's configuration
    says how many rows it has. Nothing where no token was added."""
    tables = [(parent, child, table) for parent, child, table in _children(model) if type(table) is ExtendedEmbedding]
    if not tables:
        return
    weight, added = tables[0][2].weight, tables[0][2].added
    rows = max(len(weight), added.first + len(added.weight))
    merged = weight.detach().new_zeros((rows, weight.shape[1]))
    merged[: len(weight)] = weight.detach()
    merged[added.first : added.first + len(added.weight)] = added.weight.detach().to(merged.dtype)
    parameter = nn.Parameter(merged, requires_grad=weight.requires_grad)
    for parent, child, table in tables:
        with torch.device("meta"):
            plain = nn.Embedding(rows, table.embedding_dim, table.padding_idx)
        plain.weight = parameter
        setattr(parent, child, plain.train(table.training))
    config: Any = model.config
    if hasattr(config, "vocab_size"):
        config.vocab_size = rows


def _tables(model: nn.Module) -> list[tuple[nn.Module, str, nn.Embedding]]:
    """Where the table of tokens stands in a model: more than once where modules share it."""
    try:
        table = cast(Any, model).get_input_embeddings()
    except NotImplementedError:
        table = None
    weight = getattr(table, "weight", None)
    found = [(parent, child, module) for parent, child, module in _children(model)
             if isinstance(weight, nn.Parameter) and getattr(module, "weight", None) is weight]  # fmt: skip
    if not found or not all(type(module) is nn.Embedding for _, _, module in found):
        kind = str(cast(Any, model).config.model_type)
        raise BadInput(
            f"the task adds tokens, and {shown(kind, 60)} has no plain table of tokens to put their embeddings beside: "
            "take a model such as BERT, RoBERTa or DeBERTa"
        )
    return cast("list[tuple[nn.Module, str, nn.Embedding]]", found)


def _children(model: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    # With duplicates: a module that stands in two places is replaced in both.
    return [(parent, child, module) for parent in model.modules() for child, module in parent.named_children()]
