"""How much each method trains of RoBERTa-base and DeBERTaV3-base: counted in the models that their published
configurations describe, without weights.

    python -m benchmarks.parameters [--rank 32] [--size 32]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch

from federa.errors import BadInput
from federa.methods import METHODS, method_class
from federa.methods.adapter import AdapterSection
from federa.methods.lora import LoRASection
from federa.models.checkpoint import is_head
from federa.models.pretrained import PretrainedModel
from federa.models.tuned import TunedModel
from federa.section import Section

CONFIGS: dict[str, dict[str, Any]] = {
    # FacebookAI/roberta-base, config.json
    "RoBERTa-base": {
        "model_type": "roberta", "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 514, "type_vocab_size": 1,
        "layer_norm_eps": 1e-5, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
    },
    # microsoft/deberta-v3-base, config.json
    "DeBERTaV3-base": {
        "model_type": "deberta-v2", "vocab_size": 128100, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512, "type_vocab_size": 0,
        "layer_norm_eps": 1e-7, "relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "pos_att_type": "p2c|c2p", "max_relative_positions": -1, "position_biased_input": False,
        "pooler_dropout": 0, "pooler_hidden_act": "gelu",
    },
}  # fmt: skip
HEADS = {
    "20 Newsgroups": ("AutoModelForSequenceClassification", 20),
    "WNUT 2017": ("AutoModelForTokenClassification", 13),
    "SQuAD": ("AutoModelForQuestionAnswering", 2),
}
"""Of the paper's three tasks one data set each: the class of transformers, and how many outputs it has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """Numbers of parameters: of the pre-trained encoder, of what the method trains beside the head, of the head."""

    model: str
    method: str
    data: str
    encoder: int
    trained: int
    head: int


def count(model: str, method: str, data: str, sections: dict[str, Section]) -> Counted:
    """Build the model on no device at all, put the method into it, and count."""
    import transformers

    auto, outputs = HEADS[data]
    values = dict(CONFIGS[model])
    config = transformers.AutoConfig.for_model(values.pop("model_type"), num_labels=outputs, **values)
    with torch.device("meta"):
        built: Any = getattr(transformers, auto).from_config(config)
        encoder = sum(part.numel() for name, part in built.named_parameters() if not is_head(built, name))
        found = method_class(method)
        base = PretrainedModel(model=built, tokenizer=cast(Any, None), missing=frozenset(), digest="")
        tuned = TunedModel(base, found(sections.get(found.section or "", found.Config())))
    head = sum(part.numel() for name, part in tuned.communicated.items() if is_head(built, name))
    return Counted(
        model=model, method=method, data=data, encoder=encoder, trained=tuned.trainable_parameters - head, head=head
    )


def rows(sections: dict[str, Section]) -> Iterator[str]:
    """The table as Markdown. A head is trained with every method; it is no part of the share."""
    yield f"| model | method | trained beside the head | of the encoder | {' | '.join(f'head, {d}' for d in HEADS)} |"
    yield f"|---|---|---|---|{'---|' * len(HEADS)}"
    for model in CONFIGS:
        for method in METHODS:
            counted = [count(model, method, data, sections) for data in HEADS]
            first = counted[0]
            heads = " | ".join(f"{one.head:,}" for one in counted)
            share = f"{100 * first.trained / first.encoder:.2f} %"
            yield f"| {model} ({first.encoder:,}) | {method} | {first.trained:,} | {share} | {heads} |"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parse = argparse.ArgumentParser(
        prog="python -m benchmarks.parameters", description=(__doc__ or "").split("\n\n")[0]
    )
    parse.add_argument("--rank", type=int, default=32, help="of LoRA and FeDeRA (default: %(default)s)")
    parse.add_argument("--size", type=int, default=32, help="of the adapters' bottlenecks (default: %(default)s)")
    options = parse.parse_args(arguments)
    try:
        sections: dict[str, Section] = {
            "lora": LoRASection(r=options.rank, alpha=options.rank),
            "adapter": AdapterSection(size=options.size),
        }
        print("\n".join(rows(sections)))
    except (BadInput, ValueError) as error:
        print(f"benchmarks.parameters: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
