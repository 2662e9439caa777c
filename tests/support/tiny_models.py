"""Small random models of five architectures, as folders like those that people fine-tune: an encoder and a tokenizer.

Nothing is downloaded. The weights come from a seed alone, not from what a version of transformers draws at first, and
are large enough that a wrong W_res moves the logits by far more than rounding does.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

READS_BIN = int(torch.__version__.split(".")[1]) >= 6 or not torch.__version__.startswith("2.")
"""Whether transformers loads a pytorch_model.bin with this torch: below 2.6 it refuses."""

HIDDEN = 32
LAYERS = 2
WORDS = ("the", "a", "match", "team", "goal", "bank", "market", "shares", "film", "music", "good", "bad", "not")

_SIZES = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 80,
}
# microsoft/deberta-v3-base's own settings, smaller.
_DEBERTA_V3 = {
    "relative_attention": True,
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "norm_rel_ebd": "layer_norm",
    "position_buckets": 8,
    "max_relative_positions": -1,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_DEBERTA_V2 = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 16}

_MODELS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "bert": (BertConfig, BertModel, _SIZES),
    "roberta": (RobertaConfig, RobertaModel, {**_SIZES, "type_vocab_size": 1}),
    "distilbert": (
        DistilBertConfig,
        DistilBertModel,
        {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 80},
    ),
    "deberta-v2": (DebertaV2Config, DebertaV2Model, {**_SIZES, **_DEBERTA_V2}),
    "deberta-v3": (DebertaV2Config, DebertaV2Model, {**_SIZES, **_DEBERTA_V3}),
}
ARCHITECTURES = tuple(_MODELS)


def make_tiny_model(
    folder: Path, architecture: str = "bert", *, seed: int = 0, dtype: torch.dtype = torch.float32, pooler: bool = True
) -> Path:
    """Write the encoder, its config and a tokenizer into `folder`, stored as `dtype`; returns the folder.

    No checkpoint holds a classifier; BERT's holds its pooler unless `pooler` is False.
    """
    config_class, model_class, sizes = _MODELS[architecture]
    tokenizer = tiny_tokenizer(architecture)
    # The range is what a loader draws the missing head from: with the usual 0.02 all logits would be near 0.
    config = config_class(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, initializer_range=0.5, **sizes
    )
    model = model_class(config, add_pooling_layer=False) if not pooler else model_class(config)
    _draw(model, seed)
    model.to(dtype).save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_tokenizer(architecture: str = "bert") -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer of a few words and all ASCII characters. RoBERTa's has its padding at 1, as RoBERTa's
    positions count from there."""
    if architecture == "roberta":
        special = cls, pad, sep, unk = "<s>", "<pad>", "</s>", "<unk>"
    else:
        special = pad, cls, sep, unk = "[PAD]", "[CLS]", "[SEP]", "[UNK]"
    characters = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = [*special, *WORDS, *characters, *(f"##{character}" for character in characters)]
    ids = {piece: number for number, piece in enumerate(dict.fromkeys(vocabulary))}
    core = Tokenizer(models.WordPiece(ids, unk_token=unk))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}", special_tokens=[(cls, ids[cls]), (sep, ids[sep])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, cls_token=cls, pad_token=pad, sep_token=sep, unk_token=unk, model_max_length=64
    )


def _draw(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if parameter.dim() > 1:
                parameter.copy_(0.2 * noise)
            else:
                parameter.copy_(0.1 * noise + (1.0 if name.endswith("weight") else 0.0))
